"""The chain of SMS providers, and both providers' wires against a sidecar that answers as they do."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from chassis.ids import new_id
from chassis.sidecar import Answer, Sidecar
from notification.channels.sms.channel import Sms
from notification.channels.sms.providers import PROVIDERS
from notification.channels.sms.providers.africas_talking import AfricasTalking
from notification.channels.sms.providers.legacy import Legacy
from notification.channels.sms.providers.wire import (
    Accepted,
    AccountError,
    Cost,
    NotTaken,
    OnHold,
    Rejected,
    SmsStatus,
    Text,
    Unavailable,
    Unknown,
)
from notification.domain import Message, Rendered
from notification.outcomes import Delivered, Down, Postponed, Refused
from stack.fake_sidecar import FakeSidecar
from stack.local import free_port

AT = "sms/version1/messaging"
LEGACY = "sms-legacy/legacy/sms/send"
BULK = "sms-legacy/legacy/sms/send-bulk"
LOOKUP = "sms-legacy-lookup/legacy/sms/status"
ADA, BEN = "+254711000001", "+254711000002"


def held_back(words: str = "circuit breaker is open", **more: Any) -> Answer:
    error = {"errorCode": "ERR_DIRECT_INVOKE", "message": f"failed to invoke, id: sms, err: {words}"}
    return Answer(status=500, data=error, **more)


def recipient(number: str = ADA, code: int = 101, **more: Any) -> dict[str, Any]:
    sample = {"statusCode": code, "number": number, "status": "Success", "cost": "KES 0.8000"}
    return sample | {"messageId": f"ATXid_{number[-1]}", "messageParts": 1} | more


def said(*recipients: Any, words: str = "Sent to 1/1 Total Cost: KES 0.8000", status: int = 201) -> Answer:
    return Answer(status=status, data={"SMSMessageData": {"Message": words, "Recipients": list(recipients)}})


def text(**changes: Any) -> Text:
    return Text(**{"id": new_id(), "to": ADA, "body": "Your order is ready"} | changes)


@pytest.fixture
def sidecar() -> FakeSidecar:
    return FakeSidecar({AT: said(recipient()), LEGACY: Answer(status=200, data={"IsSuccess": True})})


@pytest.fixture
def africas_talking(sidecar) -> AfricasTalking:
    provider = AfricasTalking(sidecar, username="brewline")
    provider.unlock("at-key")
    return provider


@pytest.fixture
def legacy(sidecar) -> Legacy:
    provider = Legacy(sidecar, currency="USD")
    provider.unlock("legacy-key")
    return provider


# --- Africa's Talking ---


async def test_africas_talking_is_asked_in_its_own_words(africas_talking, sidecar):
    taken = await africas_talking.send(text(sender="BREWLINE"))
    assert taken == Accepted(message_id="ATXid_1", cost=Cost("KES", Decimal("0.8000")), segments=1)
    form = {"username": "brewline", "to": ADA, "message": "Your order is ready", "from": "BREWLINE"}
    assert sidecar.invoked == [(AT, form)]
    assert sidecar.headers == [{"apiKey": "at-key", "Accept": "application/json"}]


async def test_without_a_sender_the_accounts_own_is_used(africas_talking, sidecar):
    await africas_talking.send(text())
    assert "from" not in sidecar.invoked[0][1]


@pytest.mark.parametrize("code", [100, 101, 102, "101"])
async def test_what_is_processed_sent_or_queued_is_accepted(africas_talking, sidecar, code):
    sidecar.answers[AT] = said(recipient(code=code))
    assert isinstance(await africas_talking.send(text()), Accepted)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (401, OnHold("401 RiskHold")),
        (402, AccountError("402 InvalidSenderId")),
        (403, Rejected("403 InvalidPhoneNumber", bounced=True)),
        (404, Rejected("404 UnsupportedNumberType", bounced=True)),
        (405, AccountError("405 InsufficientBalance")),
        (406, Rejected("406 UserInBlacklist")),
        (407, NotTaken("407 CouldNotRoute")),
        (409, Rejected("409 DoNotDisturbRejection")),
        (500, NotTaken("500 InternalServerError")),
        (501, NotTaken("501 GatewayError")),
        (502, NotTaken("502 RejectedByGateway")),
        (999, Unknown("unreadable answer")),
        ("x", Unknown("unreadable answer")),
        (None, Unknown("unreadable answer")),
    ],
)
async def test_every_code_has_its_meaning(africas_talking, sidecar, code, result):
    sidecar.answers[AT] = said(recipient(code=code, messageId="None", cost="0"))
    assert await africas_talking.send(text()) == result


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        ("KES 0.8000", Cost("KES", Decimal("0.8000"))),
        ("USD 12", Cost("USD", Decimal(12))),
        ("0", Cost("", Decimal(0))),
        ("free", None),
        ("KES -1", None),
        (None, None),
        (0.8, None),
    ],
)
async def test_a_cost_is_read_in_any_currency(africas_talking, sidecar, told, cost):
    sidecar.answers[AT] = said(recipient(cost=told))
    assert (await africas_talking.send(text())).cost == cost


@pytest.mark.parametrize(("parts", "segments"), [(2, 2), ("3", 3), (None, 0), (-1, 0), ("x", 0)])
async def test_segments_are_counted_where_they_are_told(africas_talking, sidecar, parts, segments):
    sidecar.answers[AT] = said(recipient(messageParts=parts))
    assert (await africas_talking.send(text())).segments == segments


@pytest.mark.parametrize("told", ["None", None, ""])
async def test_what_was_accepted_without_a_name_is_accepted_all_the_same(africas_talking, sidecar, told):
    sidecar.answers[AT] = said(recipient(messageId=told))
    assert (await africas_talking.send(text())).message_id == ""


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("InvalidSenderId", AccountError("402 InvalidSenderId")),
        ("Insufficient Balance", AccountError("405 InsufficientBalance")),
        ("RiskHold", OnHold("401 RiskHold")),
        ("InvalidPhoneNumber", Rejected("403 InvalidPhoneNumber", bounced=True)),
        (f"Something about {ADA}", NotTaken("no recipient")),
        ("Sent to 0/1 Total Cost: 0", NotTaken("no recipient")),
        ("Sent to 1/1 Total Cost: KES 0.8000", Unknown("unreadable answer")),
    ],
)
async def test_no_recipient_is_an_error_that_the_message_names(africas_talking, sidecar, words, result):
    sidecar.answers[AT] = said(words=words)
    assert await africas_talking.send(text()) == result


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer(status=401, data=None), AccountError("http 401")),
        (Answer(status=400, data=None), AccountError("http 400")),
        (Answer(status=400, data={"errorCode": "bad_request"}), AccountError("http 400")),
        (Answer(status=408, data=None), Unknown("http 408")),
        (Answer(status=409, data=None), Unknown("http 409")),
        (Answer(status=429, data=None), NotTaken("http 429")),
        (Answer(status=500, data=None), Unknown("http 500")),
        (Answer(status=502, data={"error": "bad gateway"}), Unknown("http 502")),
        (Answer(status=503, data=None), NotTaken("http 503")),
        (Answer(status=504, data=None), Unknown("http 504")),
        (Answer(status=201, data=None), Unknown("unreadable answer")),
        (Answer(status=201, data=["?"]), Unknown("unreadable answer")),
        (Answer(status=201, data={"SMSMessageData": "?"}), Unknown("unreadable answer")),
        (said("?"), Unknown("unreadable answer")),
        (said(recipient(code=405), status=500), AccountError("405 InsufficientBalance")),
        (held_back(), Unavailable()),
        (held_back("too many requests"), Unavailable()),
        (held_back(seconds=0.7), Unknown("the sidecar got no answer")),
        (held_back("context deadline exceeded"), Unknown("the sidecar got no answer")),
    ],
)
async def test_an_answer_that_says_nothing_of_the_message_is_read_by_what_is_certain(
    africas_talking, sidecar, answer, result
):
    sidecar.answers[AT] = answer
    assert await africas_talking.send(text()) == result


async def test_nobody_knows_what_became_of_a_message_without_a_sidecar(africas_talking, sidecar):
    sidecar.alive = False
    assert await africas_talking.send(text()) == Unknown("no answer")


async def test_africas_talking_has_nobody_to_ask_for_a_status(africas_talking, sidecar):
    assert await africas_talking.status("ATXid_1") is SmsStatus.UNKNOWN
    assert sidecar.invoked == []


async def test_texts_of_the_same_words_share_a_request_and_answers_find_their_numbers(africas_talking, sidecar):
    def answer(form: dict[str, str]) -> Answer:
        numbers = form["to"].split(",")
        return said(*(recipient(number, 403 if number == BEN else 101) for number in reversed(numbers)))

    sidecar.answers[AT] = answer
    results = await africas_talking.send_bulk([text(), text(body="Other"), text(to=BEN), text(body="Other", to=BEN)])
    bounced = Rejected("403 InvalidPhoneNumber", bounced=True)
    assert [getattr(result, "message_id", result) for result in results] == ["ATXid_1", "ATXid_1", bounced, bounced]
    assert [(form["message"], form["to"]) for _, form in sidecar.invoked] == [
        ("Your order is ready", f"{ADA},{BEN}"),
        ("Other", f"{ADA},{BEN}"),
    ]


async def test_a_number_that_comes_back_in_another_form_is_known(africas_talking, sidecar):
    sidecar.answers[AT] = said(recipient("0711 000 002", messageId="b"), recipient("254711000001", messageId="a"))
    results = await africas_talking.send_bulk([text(), text(to=BEN)])
    assert [result.message_id for result in results] == ["a", "b"]


async def test_a_number_that_could_be_two_or_none_is_nobodys(africas_talking, sidecar):
    sidecar.answers[AT] = said(recipient("0711000001"), recipient("711000001"), {"statusCode": 101}, "?")
    assert await africas_talking.send_bulk([text(), text(to=BEN)]) == [Unknown("not in the answer")] * 2


async def test_the_same_text_twice_to_one_number_is_two_requests(africas_talking, sidecar):
    assert len(await africas_talking.send_bulk([text(), text()])) == 2
    assert [form["to"] for _, form in sidecar.invoked] == [ADA, ADA]


async def test_thousands_of_texts_are_sent_a_hundred_at_once(africas_talking, sidecar):
    sidecar.answers[AT] = lambda form: said(*(recipient(number) for number in form["to"].split(",")))
    results = await africas_talking.send_bulk([text(to=f"+2547110{number:05}") for number in range(250)])
    assert [len(form["to"].split(",")) for _, form in sidecar.invoked] == [100, 100, 50]
    assert all(isinstance(result, Accepted) for result in results)


async def test_what_is_said_of_a_number_is_not_meant_of_all(africas_talking, sidecar):
    sidecar.answers[AT] = said(words="InvalidPhoneNumber")
    assert await africas_talking.send_bulk([text(), text(to=BEN)]) == [NotTaken("no recipient")] * 2
    sidecar.answers[AT] = said(words="InvalidSenderId")
    assert await africas_talking.send_bulk([text(), text(to=BEN)]) == [AccountError("402 InvalidSenderId")] * 2


async def test_no_texts_are_no_request(africas_talking, legacy, sidecar):
    assert await africas_talking.send_bulk([]) == await legacy.send_bulk([]) == []
    assert sidecar.invoked == []


async def test_a_real_sidecar_gets_a_form_and_the_log_nothing_of_it():
    got: list[tuple[str, str, str]] = []

    async def daprd(request: web.Request) -> web.Response:
        got.append((request.path, request.headers.get("content-type", ""), await request.text()))
        return web.json_response(said(recipient()).data, status=201)

    app, port = web.Application(), free_port()
    app.router.add_post("/{any:.*}", daprd)
    runner, sidecar = web.AppRunner(app), Sidecar(port=port, source="test")
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await sidecar.start()
    provider = AfricasTalking(sidecar, username="brewline")
    provider.unlock("at-key")
    with capture_logs() as logs:
        assert isinstance(await provider.send(text(body="1 & 2 = ☕")), Accepted)
    await sidecar.stop()
    await runner.cleanup()
    form = "username=brewline&to=%2B254711000001&message=1+%26+2+%3D+%E2%98%95"
    assert got == [(f"/v1.0/invoke/sms/method/{AT.partition('/')[2]}", "application/x-www-form-urlencoded", form)]
    assert [(each["event"], each["Payload"]) for each in logs] == [("integration.event", None)]


# --- the legacy provider ---


async def test_the_legacy_provider_is_asked_in_its_own_words(legacy, sidecar):
    done = {"IsSuccess": True, "TransactionId": "t-1", "ErrorDescription": None, "ChargedAmount": 0.05}
    sidecar.answers[LEGACY] = Answer(status=200, data=done)
    sent = text(sender="BREWLINE")
    assert await legacy.send(sent) == Accepted(message_id="t-1", cost=Cost("USD", Decimal("0.05")))
    wire = {"PhoneNumber": ADA, "MessageText": "Your order is ready", "Sender": "BREWLINE"}
    assert sidecar.invoked == [(LEGACY, wire)]
    assert sidecar.headers == [{"X-Api-Key": "legacy-key", "Idempotency-Key": sent.id}]


@pytest.mark.parametrize(
    ("described", "result"),
    [
        (f"Invalid phone number {ADA}", Rejected("invalid number", bounced=True)),
        ("InvalidNumber", Rejected("invalid number", bounced=True)),
        ("recipient is blacklisted", Rejected("opted out")),
        ("Insufficient credit", AccountError("account")),
        (f"could not reach {ADA}", NotTaken("not sent")),
        (None, NotTaken("not sent")),
    ],
)
async def test_the_legacy_providers_words_are_understood_and_not_repeated(legacy, sidecar, described, result):
    sidecar.answers[LEGACY] = Answer(status=200, data={"IsSuccess": False, "ErrorDescription": described})
    assert await legacy.send(text()) == result


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer(status=401, data=None), AccountError("http 401")),
        (Answer(status=409, data=None), Unknown("http 409")),
        (Answer(status=503, data=None), NotTaken("http 503")),
        (Answer(status=200, data=None), Unknown("unreadable answer")),
        (Answer(status=401, data={"IsSuccess": False, "ErrorDescription": "A valid key"}), AccountError("http 401")),
        (Answer(status=409, data={"IsSuccess": False, "ErrorDescription": "In flight"}), Unknown("http 409")),
        (Answer(status=200, data={"IsSuccess": True, "ChargedAmount": "x"}), Accepted(message_id="")),
        (held_back(), Unavailable()),
    ],
)
async def test_any_other_answer_of_the_legacy_provider_is_read_by_what_is_certain(legacy, sidecar, answer, result):
    sidecar.answers[LEGACY] = answer
    assert await legacy.send(text()) == result


async def test_the_legacy_provider_answers_a_list_with_a_list(legacy, sidecar):
    rows = [{"IsSuccess": True, "TransactionId": "t-1"}, {"IsSuccess": False, "ErrorDescription": "Invalid number"}]
    sidecar.answers[BULK] = Answer(status=200, data=rows)
    texts = [text(), text(to=BEN)]
    results = await legacy.send_bulk(texts)
    assert results == [Accepted(message_id="t-1"), Rejected("invalid number", bounced=True)]
    await legacy.send_bulk(texts)
    first, again = (headers["Idempotency-Key"] for headers in sidecar.headers)
    assert first == again


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (Answer(status=200, data=[]), Unknown("unreadable answer")),
        (Answer(status=401, data=None), AccountError("http 401")),
        (held_back(), Unavailable()),
    ],
)
async def test_a_list_that_is_no_answer_is_one_for_none_of_them(legacy, sidecar, answer, result):
    sidecar.answers[BULK] = answer
    assert await legacy.send_bulk([text(), text(to=BEN)]) == [result] * 2


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(status=200, data={"status": "Queued"}), SmsStatus.QUEUED),
        (Answer(status=200, data={"status": "Sent"}), SmsStatus.SENT),
        (Answer(status=200, data={"status": "Delivered"}), SmsStatus.DELIVERED),
        (Answer(status=200, data={"status": "Failed"}), SmsStatus.FAILED),
        (Answer(status=200, data={"status": "Lost"}), SmsStatus.UNKNOWN),
        (Answer(status=404, data=None), SmsStatus.UNKNOWN),
        (held_back(), SmsStatus.UNKNOWN),
    ],
)
async def test_the_legacy_provider_tells_what_became_of_a_message(legacy, sidecar, answer, status):
    sidecar.answers[LOOKUP] = answer
    assert await legacy.status("t/1") is status
    assert sidecar.invoked == [(f"{LOOKUP}?transactionId=t%2F1", None)]


async def test_a_status_without_a_sidecar_is_unknown(legacy, sidecar):
    sidecar.alive = False
    assert await legacy.status("t-1") is SmsStatus.UNKNOWN


async def test_no_provider_is_asked_before_its_key_is_there(sidecar, settings):
    for name in PROVIDERS:
        provider = PROVIDERS[name].provider(sidecar, settings)
        with pytest.raises(RuntimeError, match="no key yet"):
            await provider.send(text())
    assert sidecar.invoked == []


# --- the chain ---


class Provider:
    """Says what is next in `answers`, and remembers whom it was asked for."""

    def __init__(self, name: str, *answers: Any, askable: bool = False) -> None:
        self.name = name
        self.askable = askable
        self.answers = list(answers)
        self.asked: list[Text] = []

    def unlock(self, key: str) -> None:
        raise NotImplementedError

    async def send(self, text: Text) -> Any:
        self.asked.append(text)
        return self.answers.pop(0)

    async def send_bulk(self, texts: Any) -> Any:
        raise NotImplementedError

    async def status(self, message_id: str) -> SmsStatus:
        raise NotImplementedError


TAKEN = Accepted(message_id="m-1", cost=Cost("KES", Decimal("0.8000")), segments=2)


WORDS = "Your order is ready"


def by(provider: str, content: str = WORDS) -> Delivered:
    return Delivered(content=content, provider=provider, message_id="m-1", segments=2, cost="KES 0.8000")


def message(**changes: Any) -> Message:
    sample: dict[str, Any] = {
        "id": new_id(),
        "tenant": "default",
        "address": ADA,
        "rendered": Rendered(sms=WORDS),
        "context": {},
        "template": "order_ready",
        "subject_id": "o-1",
        "critical": False,
        "traceparent": "",
    }
    return Message(**sample | changes)


async def test_what_was_taken_tells_whether_its_provider_can_be_asked(africas_talking, legacy):
    for provider, can in ((Provider("a", TAKEN), False), (Provider("b", TAKEN, askable=True), True)):
        assert await Sms([provider], "").send(message()) == replace(by(provider.name), askable=can)
    assert (africas_talking.askable, legacy.askable) == (False, True)


async def test_the_first_provider_takes_what_it_can():
    first, second = Provider("a", TAKEN), Provider("b")
    sent = message()
    assert await Sms([first, second], "BREWLINE").send(sent) == by("a")
    assert first.asked == [Text(id=sent.id, to=ADA, body="Your order is ready", sender="BREWLINE")]
    assert second.asked == []


async def test_segments_that_no_provider_tells_are_counted_here():
    provider = Provider("a", Accepted(message_id="m-1"))
    outcome = await Sms([provider], "").send(message(rendered=Rendered(sms="x" * 161)))
    assert outcome == Delivered(content="x" * 161, provider="a", message_id="m-1", segments=2)


@pytest.mark.parametrize(
    "no", [Unavailable(), NotTaken("407 CouldNotRoute"), AccountError("402 InvalidSenderId"), OnHold("401 RiskHold")]
)
async def test_a_definite_no_turns_to_the_next_provider_at_once(no):
    assert await Sms([Provider("a", no), Provider("b", TAKEN)], "").send(message()) == by("b")


async def test_a_rejected_number_is_final_and_no_other_provider_is_asked():
    first, second = Provider("a", Rejected("403 InvalidPhoneNumber", bounced=True)), Provider("b")
    outcome = await Sms([first, second], "").send(message())
    assert outcome == Refused("a 403 InvalidPhoneNumber", bounced=True, provider="a")
    assert second.asked == []


async def test_open_breakers_everywhere_are_told_at_once():
    outcome = await Sms([Provider("a", Unavailable()), Provider("b", Unavailable())], "").send(message())
    assert outcome == Down("SMS service temporarily unavailable")


@pytest.mark.parametrize("no", [NotTaken("407 CouldNotRoute"), AccountError("account"), OnHold("401 RiskHold")])
async def test_a_definite_no_of_them_all_leaves_it_to_the_next_channel(no):
    outcome = await Sms([Provider("a", Unavailable()), Provider("b", no)], "").send(message())
    assert outcome == Down(f"a unavailable; b {no.reason}")


async def test_a_lost_answer_keeps_the_message_with_its_provider():
    first, second = Provider("a", Unknown("no answer"), Unavailable(), NotTaken("407"), TAKEN), Provider("b")
    sms, sent = Sms([first, second], ""), message()
    assert await sms.send(sent) == Postponed("a no answer", provider="a")
    again = replace(sent, provider="a")
    assert await sms.send(again) == Postponed("a unavailable", provider="a")
    assert await sms.send(again) == Postponed("a 407", provider="a")
    assert await sms.send(again) == by("a")
    assert second.asked == []


async def test_a_lost_answer_of_the_second_provider_keeps_the_message_there():
    first, second = Provider("a", Unavailable()), Provider("b", Unknown("no answer"), TAKEN)
    sms, sent = Sms([first, second], ""), message()
    assert await sms.send(sent) == Postponed("a unavailable; b no answer", provider="b")
    assert await sms.send(replace(sent, provider="b")) == by("b")
    assert len(first.asked) == 1


async def test_after_a_crash_another_process_asks_who_was_asked_and_nobody_else():
    """The first process dies while its second provider is being asked, who has taken the message."""
    posted: list[str] = []

    async def posting(provider: str) -> None:
        posted.append(provider)

    class Killed(Provider):
        async def send(self, text: Text) -> Any:
            assert posted[-1] == self.name  # on record before a word is said
            self.asked.append(text)
            raise asyncio.CancelledError

    sent, second = message(posting=posting), Killed("b")
    with pytest.raises(asyncio.CancelledError):
        await Sms([Provider("a", NotTaken("407")), second], "").send(sent)
    assert posted == ["a", "b"]
    first, there = Provider("a"), Provider("b", Unavailable(), TAKEN)
    sms, again = Sms([first, there], ""), replace(sent, provider=posted[-1])
    assert await sms.send(again) == Postponed("b unavailable", provider="b")
    assert await sms.send(again) == by("b")
    assert first.asked == []
    assert {text.id for text in there.asked + second.asked} == {sent.id}


async def test_who_was_asked_by_nobody_we_know_keeps_no_message():
    assert await Sms([Provider("a", TAKEN)], "").send(message(provider="sold")) == by("a")


async def test_the_wait_for_a_provider_that_may_have_it_ends():
    first, second = Provider("a", Unavailable()), Provider("b", TAKEN)
    assert await Sms([first, second], "", stay=0.0).send(message(provider="a")) == by("b")


async def test_what_was_waited_for_long_enough_goes_to_no_other_channel_all_the_same():
    first, second = Provider("a", NotTaken("407")), Provider("b", Unavailable())
    outcome = await Sms([first, second], "", stay=0.0).send(message(provider="a"))
    assert outcome == Postponed("a 407; b unavailable", provider="a")


async def test_a_lost_answer_keeps_no_other_message():
    first, second = Provider("a", Unknown("no answer"), Unavailable()), Provider("b", TAKEN)
    sms = Sms([first, second], "")
    await sms.send(message())
    assert await sms.send(message()) == by("b")


async def test_a_critical_message_waits_for_nobody():
    first, second = Provider("a", Unknown("no answer")), Provider("b", TAKEN)
    assert await Sms([first, second], "").send(message(critical=True)) == by("b")


async def test_a_critical_message_that_may_have_been_taken_is_not_refused_by_another_provider():
    first, second = Provider("a", Unknown("no answer")), Provider("b", Rejected("opted out"))
    outcome = await Sms([first, second], "").send(message(critical=True))
    assert outcome == Postponed("a no answer; b opted out", provider="a")


async def test_a_critical_message_that_nobody_answers_for_is_tried_everywhere_again():
    first, second = Provider("a", Unknown("no answer"), Unavailable()), Provider("b", Unavailable(), TAKEN)
    sms, sent = Sms([first, second], ""), message(critical=True)
    assert await sms.send(sent) == Postponed("a no answer; b unavailable", provider="a")
    assert await sms.send(replace(sent, provider="a")) == by("b")


@pytest.mark.parametrize("address", ["", "0711000001", "+0711000001", "+254711", "+254 711 000 001", "ada@example.com"])
async def test_a_number_that_can_not_be_used_is_refused_before_a_word_is_said(address):
    provider = Provider("a")
    assert await Sms([provider], "").send(message(address=address)) == Refused("the number can't be used")
    assert provider.asked == []


async def test_a_template_without_words_for_sms_is_refused_before_a_word_is_said():
    provider = Provider("a")
    assert isinstance(await Sms([provider], "").send(message(rendered=Rendered(text="mail only"))), Refused)
    assert provider.asked == []


async def test_a_text_of_hundreds_of_segments_is_paid_for_by_nobody():
    provider = Provider("a", TAKEN)
    sms = Sms([provider], "")
    assert await sms.send(message(rendered=Rendered(sms="x" * 1530))) == by("a", "x" * 1530)
    for words in ("x" * 1531, "☕" * 671, "x" * 65_536):
        refused = await sms.send(message(rendered=Rendered(sms=words)))
        assert refused == Refused("the text is longer than 10 segments")
    assert len(provider.asked) == 1


def test_a_chain_has_a_provider():
    with pytest.raises(ValueError, match="no provider"):
        Sms([], "")


async def test_an_account_that_needs_mending_is_an_error_in_the_log_and_nobody_is_named():
    with capture_logs() as logs:
        await Sms([Provider("a", AccountError("405 InsufficientBalance")), Provider("b", TAKEN)], "").send(message())
    [told] = logs
    assert (told["event"], told["log_level"], told["provider"]) == ("sms.account_error", "error", "a")
    assert ADA not in str(logs)
    assert "ready" not in str(logs)
