"""What becomes of a mail, by the part of its address before the `@`."""

from collections.abc import Sequence

from sandbox.receipts import Receipts, Report

BEGINNINGS = {
    "bounce": "accepted, then a permanent bounce, 5.1.1",
    "soft": "accepted, then a transient one, 4.2.2",
    "refused": "550 at RCPT",
    "greylist": "451 at RCPT the first time, accepted from then on",
}  # anything else is accepted and delivered

_BOUNCES = {"bounce": ("permanent", "5.1.1"), "soft": ("transient", "4.2.2")}


class Postmaster:
    """Lets recipients in, and reports what became of their mail."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._greylisted: set[str] = set()

    def refusal(self, address: str) -> str | None:
        """The reply to a recipient who is not let in."""
        name = address.casefold()
        if name.startswith("refused"):
            return "550 5.1.1 No such mailbox"
        if name.startswith("greylist") and name not in self._greylisted:
            self._greylisted.add(name)
            return "451 4.7.1 Greylisted, try again later"
        return None

    def report(self, recipients: Sequence[str], message_id: str) -> None:
        """Tells of an accepted mail, one event for each recipient. Of one without a Message-ID there is no talking."""
        if message_id and self._receipts.wanted("smtp"):
            for recipient in recipients:
                self._receipts.tell("smtp", _report(recipient, message_id))

    def forget(self) -> None:
        """Nobody ever came."""
        self._greylisted.clear()


def _report(recipient: str, message_id: str) -> Report:
    told = {"messageId": message_id, "recipient": recipient}
    for name, (kind, code) in _BOUNCES.items():
        if recipient.casefold().startswith(name):
            return Report(type="email.bounced", key=message_id, data=told | {"kind": kind, "code": code})
    return Report(type="email.delivered", key=message_id, data=told)
