"""What looks like a card number, and what does not."""

import uuid

import pytest
from pydantic import ValidationError

from chassis.cards import CardToken, NoCards
from chassis.ids import new_id
from chassis.problems import Invalid
from chassis.wire import RequestBody

CARDS = {
    "plain": "4111111111111111",
    "spaced": "4111 1111 1111 1111",
    "dashed": "5500-0000-0000-0004",
    "amex": "3782 822463 10005",
    "thirteen": "4222222222222",
    "nineteen": "6304000000000000000",
    "mastercard-2": "2223003122003222",
    "in a text": "card: 4111111111111111.",
    "in a token": "tok_4111111111111111",
    "full width": "\uff14111111111111111",
    "number": 4111111111111111,
    "float": 4111111111111111.0,
}


class Pay(RequestBody, NoCards):
    token: CardToken


def test_a_card_number_is_found_wherever_it_stands():
    for name, card in CARDS.items():
        for body, pointer in (
            ({"a/b": card}, "/a~1b"),
            ({"x": {"y": [1, card]}}, "/x/y/1"),
            ({"x": {str(card): 1}}, "/x"),
        ):
            with pytest.raises(Invalid) as refused:
                NoCards.model_validate(body)
            assert refused.value.pointer == pointer, name


@pytest.mark.parametrize(
    "harmless",
    [
        "+4915112345678",
        "+12025550123",
        "1763720000000",
        "20260101T120000.123456",
        "4111111111111112",  # the check digit is wrong
        "9.00",
        9.5,
        0.4111111111111111,
        True,
        None,
        "txn_00000000000000000000",
        "01234567-8901-7234-8567-890123456789",
        "0199f7b5-7a3e-7cc0-9d51-123456789015",
    ],
)
def test_what_is_no_card_number_is_let_in(harmless):
    NoCards.model_validate({"anything": harmless, "list": [harmless]})


def test_no_id_of_ours_is_ever_taken_for_one():
    """One in 1,400 UUIDv7 was, before UUIDs were left out."""
    for _ in range(10_000):
        NoCards.model_validate({"key": f"{new_id()}:charge", "old": str(uuid.uuid4())})


def test_a_token_is_a_word_and_never_a_number():
    assert Pay.model_validate({"token": "tok_ok"}).token == "tok_ok"
    for token in ("4242424242424242", "tok 1", "t", "tok_\nok", "tok_ok\n", ""):
        with pytest.raises((ValidationError, Invalid)):
            Pay.model_validate({"token": token})
