from pathlib import Path
from typing import Any

import pytest

import notification.channels
from chassis.ids import new_id
from chassis.secrets import SecretIncomplete
from chassis.sidecar import Answer
from notification.api.unsubscribe import WORDS
from notification.app import create_app
from notification.channels import RATES, bulk_rates, open_channels
from notification.channels.push.channel import Push
from notification.channels.sms.providers import PROVIDERS
from notification.domain import PARTS, ChannelName, Message, Rendered
from notification.outcomes import Delivered, Down, Postponed, Refused
from stack.fake_sidecar import FakeSidecar

PATH = "push/api/v1/notification"
OPEN = {"errorCode": "ERR_DIRECT_INVOKE", "message": "failed to invoke, id: push, err: circuit breaker is open"}


FOLDER = Path(notification.channels.__file__).parent


def modules(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


def test_every_channel_has_a_folder_an_entry_and_words_and_every_folder_is_a_channels(settings, sidecar):
    folders = {path.name for path in FOLDER.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ChannelName) == set(open_channels(settings, sidecar).channels) == set(PARTS) == set(WORDS)
    assert all("channel" in modules(FOLDER / folder) for folder in folders)
    assert set(bulk_rates(settings)) == folders


def test_every_sms_provider_has_a_file_an_entry_and_a_key_and_every_file_is_a_providers(settings, sidecar):
    opened = open_channels(settings, sidecar).sms
    assert {name: provider.name for name, provider in opened.items()} == {name: name for name in PROVIDERS}
    files = {type(provider).__module__.rpartition(".")[2] for provider in opened.values()}
    assert files == modules(FOLDER / "sms" / "providers") - {"wire"}
    assert set(settings.sms_providers) <= set(PROVIDERS) <= set(RATES)
    assert len({entry.secret for entry in PROVIDERS.values()}) == len(PROVIDERS)


async def test_the_service_starts_without_the_key_of_a_provider_that_is_not_tried(settings, sidecar):
    del sidecar.secrets["africas-talking-key"]
    app = create_app(settings.model_copy(update={"sms_providers": ("legacy",)}), sidecar=sidecar)
    async with app.router.lifespan_context(app):
        pass
    with pytest.raises(SecretIncomplete, match="has no africas-talking-key"):
        async with (app := create_app(settings, sidecar=sidecar)).router.lifespan_context(app):
            pass


@pytest.mark.parametrize("setting", ["sms_providers", "provider_rates"])
def test_a_setting_that_names_a_provider_which_there_is_not_ends_the_start(settings, setting):
    with pytest.raises(ValueError, match="names none of ours: nobody"):
        create_app(settings.model_copy(update={setting: {"nobody": 1.0}}))


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
