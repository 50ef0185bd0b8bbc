"""The push provider, through the sidecar's HTTPEndpoint, which holds its time-outs, retries and breaker."""

from chassis.problems import Unavailable
from chassis.sidecar import Answer, Sidecar, Verdict
from notification.domain import Message
from notification.outcomes import Delivered, Down, Outcome, Postponed, Refused

_NAME = "push"
_PATH = "api/v1/notification"


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
        return _outcome(answer, content=str(message.context["status"]), may_have_it=message.provider == _NAME)

    async def close(self) -> None:
        return


def _outcome(answer: Answer, *, content: str, may_have_it: bool) -> Outcome:
    match answer.verdict:
        case Verdict.ANSWERED:
            return Delivered(content=content, provider=_NAME)
        case Verdict.NOT_SENT:
            unavailable = "push service temporarily unavailable"
            # What was asked before the breaker opened may have been taken all the same.
            return Postponed(unavailable, provider=_NAME) if may_have_it else Down(unavailable, provider=_NAME)
        case Verdict.REFUSED:
            return Refused(f"push {answer.status}", provider=_NAME)
        case Verdict.UNKNOWN:
            code = f": {answer.data['errorCode']}" if answer.from_sidecar else f" {answer.status}"
            return Postponed(f"push{code}", provider=_NAME)
