"""The push provider, through the sidecar's HTTPEndpoint, which holds its time-outs, retries and breaker."""

from chassis.problems import Unavailable
from chassis.sidecar import Answer, Sidecar
from notification.domain import Delivered, Down, Message, Outcome, Postponed, Refused

_NAME = "push"
_PATH = "api/v1/notification"
_TRY_AGAIN = frozenset({408, 409, 425, 429})


class Push:
    concurrency = 16

    def __init__(self, *, sidecar: Sidecar, endpoint: str) -> None:
        self._sidecar = sidecar
        self._endpoint = endpoint

    async def send(self, message: Message) -> Outcome:
        """The provider's wire knows one kind of message: the status of an order."""
        if "status" not in message.context:
            return Refused("push: no status to tell")
        body = {
            "type": "order_status",
            "orderId": message.subject_id,
            "status": message.context["status"],
            "customerEmail": message.address,
        }
        headers = {"Idempotency-Key": message.id}
        try:
            answer = await self._sidecar.invoke(self._endpoint, _PATH, body, headers=headers)
        except Unavailable as down:
            return Postponed(f"push: {down.what} down", provider=_NAME)
        return _outcome(answer, may_have_it=message.provider == _NAME)

    async def close(self) -> None:
        return


def _outcome(answer: Answer, *, may_have_it: bool) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered(provider=_NAME)
    if answer.never_sent:
        unavailable = "push service temporarily unavailable"
        # What was asked before the breaker opened may have been taken all the same.
        return Postponed(unavailable, provider=_NAME) if may_have_it else Down(unavailable, provider=_NAME)
    if answer.from_sidecar:
        return Postponed(f"push: {answer.data['errorCode']}", provider=_NAME)
    if 400 <= answer.status < 500 and answer.status not in _TRY_AGAIN:
        return Refused(f"push {answer.status}", provider=_NAME)
    return Postponed(f"push {answer.status}", provider=_NAME)
