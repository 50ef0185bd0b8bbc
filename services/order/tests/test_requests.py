"""What an order may look like: what is let in, and as what it is kept. What is refused, and by which pointer, is in
test_bad_input."""

from collections.abc import Callable
from typing import Any

import pytest

from order.requests import CustomerRequest, OrderRequest

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def customer(wanted: Body) -> Callable[..., CustomerRequest]:
    def make(**change: Any) -> CustomerRequest:
        return OrderRequest.model_validate(wanted(customer=wanted()["customer"] | change)).customer

    return make


def test_currency_location_method_and_language_can_be_left_out(wanted: Body):
    body = wanted(payment={"token": "tok_ok"})
    del body["currency"], body["location"]

    order = OrderRequest.model_validate(body)

    assert (order.currency, order.location, order.payment.method) == ("USD", "take-away", "credit_card")
    assert order.customer.locale == "en"


def test_a_languages_extensions_are_left_out(customer: Callable[..., CustomerRequest]):
    assert customer(locale="en_US-u-mu-celsius").locale == "en-US"


def test_a_name_is_whatever_people_write(customer: Callable[..., CustomerRequest]):
    for name in (
        "Ada ☕🦄",
        "李",
        "\u200f\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "👩\u200d👩\u200d👧",
        "\u3164 Ada",
    ):
        assert customer(name=name).name == name


def test_an_address_is_kept_as_it_is_written_to(customer: Callable[..., CustomerRequest]):
    written = {
        "ada@EXAMPLE.com": "ada@example.com",
        "o'brien+tag@ex-ample.co.uk": "o'brien+tag@ex-ample.co.uk",
        "ada@bücher.example": "ada@bücher.example",
        "ada@xn--bcher-kva.example": "ada@bücher.example",
        "jürgen@example.com": "jürgen@example.com",
    }
    assert {email: customer(email=email).email for email in written} == written
