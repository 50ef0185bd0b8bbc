"""What a caller may say, and what others may."""

import pytest
from pydantic import ValidationError

from chassis.wire import RequestBody, Wire


class Inner(RequestBody):
    some_name: str = ""


class Asked(RequestBody):
    the_amount: int | None = None
    inner: Inner | str | None = None


class Heard(Wire):
    the_amount: int | None = None


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"amout": 1}, ("amout",)),
        ({"TheAmount": 1}, ("TheAmount",)),
        ({"the_amount": 1}, ("the_amount",)),
        ({"inner": {"some": ""}}, ("inner", "Inner", "some")),
    ],
)
def test_a_request_with_a_member_that_we_do_not_know_is_refused_by_its_name(body: dict[str, object], at: tuple[str]):
    with pytest.raises(ValidationError) as refused:
        Asked.model_validate(body)

    assert at in [error["loc"] for error in refused.value.errors() if error["type"] == "extra_forbidden"]


def test_what_others_tell_may_say_more():
    assert Heard.model_validate({"theAmount": 1, "more": 2}) == Heard(the_amount=1)
