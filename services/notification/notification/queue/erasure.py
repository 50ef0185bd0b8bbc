"""Messages without whom they were for and what they said; what is queued is not sent."""

from collections.abc import Sequence

import sqlalchemy as sa

from chassis.erasure import ERASED
from notification.domain import Status
from notification.queue.moves import move
from notification.tables import attempts, notifications

_MANY = 500  # ids in one statement
# Where an address was typed by whoever asked, its message is to nobody's id: an order's under another's customer id, or
# a password reset.
_TYPED = (notifications.c.recipient_id == "") | notifications.c.recipient_id.startswith("claimed-")
_BLANK = {
    "context": "{}",
    "subject": None,
    "content": None,
    "error": "erased",
    "address": sa.case((_TYPED, ""), else_=notifications.c.address),
}


def erase_messages(conn: sa.Connection, tenant: str, person_id: str, told: Sequence[str]) -> None:
    """To the person, and `told`. Of one that a process has in hand, what it writes down later counts no more."""
    theirs = sa.and_(notifications.c.tenant == tenant, notifications.c.recipient_id == person_id)
    for some in (
        theirs,
        *(notifications.c.id.in_(told[first : first + _MANY]) for first in range(0, len(told), _MANY)),
    ):
        conn.execute(move(Status.SUPPRESSED, some, error="erased"))
        ids = sa.select(notifications.c.id).where(some)
        conn.execute(sa.update(attempts).where(attempts.c.notification_id.in_(ids)).values(error=None))
        conn.execute(sa.update(notifications).where(some).values(_BLANK))
    by_hand = sa.case((notifications.c.topic == "", ERASED), else_=notifications.c.event_id)  # its words are staff's
    conn.execute(sa.update(notifications).where(theirs).values(recipient_id=ERASED, address="", event_id=by_hand))
