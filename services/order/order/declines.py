"""Why a payment was declined: a code that callers switch on, and words for the customer.

What a provider says beyond these stays with payment: it may be nobody's business ("stolen card"), or no words at all.
"""

from enum import StrEnum


class DeclineCode(StrEnum):
    CARD_DECLINED = "card_declined"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    EXPIRED_CARD = "expired_card"
    NOT_PROCESSED = "not_processed"
    NO_ANSWER = "no_answer"


WORDS = {
    DeclineCode.CARD_DECLINED: "the card was declined",
    DeclineCode.INSUFFICIENT_FUNDS: "there is not enough money on the card",
    DeclineCode.EXPIRED_CARD: "the card has expired",
    DeclineCode.NOT_PROCESSED: "the payment could not be processed",
    DeclineCode.NO_ANSWER: "the payment could not be completed in time",
}


def decline_code(status: str, reason: str) -> DeclineCode:
    """Of a payment that ended as `declined` or `failed`, and what its provider said."""
    if status == "failed":
        return DeclineCode.NOT_PROCESSED
    return DeclineCode(reason) if reason in set(DeclineCode) else DeclineCode.CARD_DECLINED
