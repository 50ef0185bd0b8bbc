from typing import Any

import pytest

from chassis.ids import new_id
from chassis.sidecar import Answer
from notification.channels.push.channel import Push
from notification.domain import Delivered, Down, Message, Postponed, Refused, Rendered
from stack.fake_sidecar import FakeSidecar

PATH = "push/api/v1/notification"
OPEN = {"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to invoke, id: push, err: circuit breaker is open"}


def message(**changes) -> Message:
    sample: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "address": "ada@example.com",
        "rendered": Rendered(),
        "context": {"status": "prepared"},
        "template": "order_status",
        "subject_id": "o-1",
        "critical": False,
        "traceparent": "",
    }
    return Message(**sample | changes)


async def test_a_push_says_what_the_provider_expects():
    sidecar = FakeSidecar({PATH: Answer(status=202, data=None)})
    pushed = message()
    assert await Push(sidecar=sidecar, endpoint="push").send(pushed) == Delivered(content="prepared", provider="push")
    body = {"type": "order_status", "orderId": "o-1", "status": "prepared", "customerEmail": "ada@example.com"}
    assert sidecar.invoked == [(PATH, body)]
    assert sidecar.headers == [{"Idempotency-Key": pushed.id}]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(status=503, data=None), Postponed("push 503", "push")),
        (Answer(status=429, data=None), Postponed("push 429", "push")),
        (Answer(status=409, data=None), Postponed("push 409", "push")),
        (Answer(status=422, data={"error": "bad"}), Refused("push 422", provider="push")),
        (Answer(status=400, data={"errorCode": "bad_request"}), Refused("push 400", provider="push")),
        (Answer(status=404, data={"errorCode": "ERR_DIRECT_INVOKE"}), Postponed("push: ERR_DIRECT_INVOKE", "push")),
        (Answer(status=500, data=OPEN), Down("push service temporarily unavailable", "push")),
        (Answer(status=500, data=OPEN, seconds=0.7), Postponed("push: ERR_DIRECT_INVOKE", "push")),
    ],
)
async def test_a_push_is_refused_only_by_the_provider_itself(answer, outcome):
    assert await Push(sidecar=FakeSidecar({PATH: answer}), endpoint="push").send(message()) == outcome


async def test_what_the_push_service_may_have_taken_goes_no_other_way_while_its_breaker_is_open():
    sidecar = FakeSidecar({PATH: Answer(status=500, data=OPEN)})
    unavailable = Postponed("push service temporarily unavailable", "push")
    assert await Push(sidecar=sidecar, endpoint="push").send(message(provider="push")) == unavailable


async def test_a_push_without_a_sidecar_waits():
    sidecar = FakeSidecar()
    sidecar.alive = False
    assert await Push(sidecar=sidecar, endpoint="push").send(message()) == Postponed("push: sidecar down", "push")


async def test_a_push_of_no_status_is_refused_before_a_word_is_said():
    sidecar = FakeSidecar()
    assert isinstance(await Push(sidecar=sidecar, endpoint="push").send(message(context={})), Refused)
    assert sidecar.invoked == []
