"""The push provider, through the sidecar's HTTPEndpoint, which holds its time-outs, retries and breaker."""

from chassis.problems import Unavailable
from chassis.sidecar import Answer, Sidecar
from notification.domain import Delivered, Notification, Outcome, Postponed, Refused

_PATH = "api/v1/notification"
_TRY_AGAIN = frozenset({408, 409, 425, 429})


class Push:
    concurrency = 16

    def __init__(self, *, sidecar: Sidecar, endpoint: str) -> None:
        self._sidecar = sidecar
        self._endpoint = endpoint

    async def send(self, notification: Notification) -> Outcome:
        body = {
            "type": notification.template,
            "orderId": notification.order_id,
            "status": notification.context["status"],
            "customerEmail": notification.address,
        }
        try:
            answer = await self._sidecar.invoke(
                self._endpoint, _PATH, body, headers={"Idempotency-Key": notification.id}
            )
        except Unavailable as down:
            return Postponed(f"push: {down.what} down")
        return _outcome(answer)

    async def close(self) -> None:
        return


def _outcome(answer: Answer) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered()
    if answer.from_sidecar:
        return Postponed(f"push: {answer.data['errorCode']}")
    if 400 <= answer.status < 500 and answer.status not in _TRY_AGAIN:
        return Refused(f"push {answer.status}")
    return Postponed(f"push {answer.status}")
