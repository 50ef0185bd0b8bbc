"""Card numbers, which nobody shall send us, and the tokens of a provider that stand for them."""

import re
import unicodedata
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, model_validator

from chassis.problems import Invalid, pointer_to
from chassis.redaction import adds_up

CardToken = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{2,127}$", examples=["tok_ok"])]

# 13 to 19 digits, perhaps in groups. Card numbers begin with 2 to 6 (ISO/IEC 7812); after a + it is a telephone's.
_CARD = re.compile(r"(?<![\d+])[2-6](?:[ -]?\d){12,18}(?!\d)")
_UUID = re.compile(r"(?<![\da-f])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}(?![\da-f])", re.IGNORECASE)
_SHORTEST = 13


class NoCards(BaseModel):
    """A body in which nothing may look like a card number, wherever it stands and whatever it is called."""

    @model_validator(mode="before")
    @classmethod
    def _no_card_number(cls, body: Any) -> Any:
        if (at := _card_in(body)) is not None:
            raise Invalid(pointer_to(at), "This looks like a card number. Send a token of your provider's instead.")
        return body


def _card_in(value: Any, *at: str | int) -> tuple[str | int, ...] | None:
    """Where the first text or number stands that looks like a card, None where there is none."""
    if isinstance(value, BaseModel):
        return None
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if any(map(_holds_card, members)):
            return at  # a pointer to it would tell it
        inside = members.items()
    elif isinstance(value, list):
        inside = enumerate(cast("list[Any]", value))
    else:
        return at if _holds_card(value) else None
    return next((found for key, member in inside if (found := _card_in(member, *at, key)) is not None), None)


def _holds_card(value: Any) -> bool:
    """Of numbers only whole ones; and no part of a UUID is a card number, however its digits fall."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int) or isinstance(value, bool):
        return False
    text = str(value)
    if len(text) < _SHORTEST:
        return False
    if not text.isascii():  # digits in full width are digits too
        text = unicodedata.normalize("NFKC", text)
    return any(map(adds_up, _CARD.findall(_UUID.sub("u", text))))
