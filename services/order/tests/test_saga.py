"""The story of an order, played by hand through every branch."""

from typing import Any

import pytest

from chassis.story import Phase, Story
from order.declines import DeclineCode
from order.saga import (
    Approved,
    Confirmed,
    Declined,
    GivenBack,
    OrderRef,
    Outcome,
    Refunded,
    TooLate,
    fulfil_order,
)

ORDER = OrderRef(tenant="default", id="o-1")
PAID = Approved(payment_id="p-1", transaction_id="tx-1")
CONFIRMED = Confirmed(version=2, paid=PAID)
REFUSED = Declined(status="declined", payment_id="p-1", code=DeclineCode.INSUFFICIENT_FUNDS)


def tell(*answers: Any) -> tuple[list[Any], Outcome]:
    """The steps that the story asks for when each is answered in turn, and how it ends."""
    story: Story[Outcome] = fulfil_order(ORDER)
    steps = [next(story)]
    for answer in answers:
        try:
            steps.append(story.send(answer))
        except StopIteration as told:
            return steps, told.value
    raise AssertionError("the story did not end")


def test_an_approved_charge_confirms_the_order():
    steps, outcome = tell(PAID, CONFIRMED)

    assert [step.title for step in steps] == ["charge", "confirm"]
    assert steps[1].argument == PAID
    assert outcome == CONFIRMED


def test_a_decline_gives_back_what_was_taken_and_charges_nothing_more():
    steps, outcome = tell(REFUSED, GivenBack(code=REFUSED.code))

    assert [step.title for step in steps] == ["charge", "give_back"]
    assert steps[1].argument == REFUSED
    assert outcome == GivenBack(code=DeclineCode.INSUFFICIENT_FUNDS)


def test_a_definite_refusal_to_process_is_taken_as_a_decline():
    failed = Declined(status="failed", payment_id="p-1", code=DeclineCode.NOT_PROCESSED)

    steps, _ = tell(failed, GivenBack(code=DeclineCode.NOT_PROCESSED))

    assert [step.title for step in steps] == ["charge", "give_back"]


def test_money_that_came_too_late_goes_back():
    steps, outcome = tell(PAID, TooLate(), Refunded())

    assert [step.title for step in steps] == ["charge", "confirm", "refund"]
    assert steps[2].argument == PAID
    assert outcome == Refunded()


def test_compensation_is_named_as_such():
    given_back, _ = tell(REFUSED, GivenBack(code=REFUSED.code))
    refunded, _ = tell(PAID, TooLate(), Refunded())
    confirmed, _ = tell(PAID, CONFIRMED)

    assert given_back[-1].phase is refunded[-1].phase is Phase.COMPENSATION
    assert [step.phase for step in confirmed] == [Phase.WHEN, Phase.THEN]


def test_an_answer_that_is_no_final_outcome_ends_the_story_loudly():
    with pytest.raises(AssertionError, match="o-1"):
        tell(CONFIRMED)


def test_told_again_from_the_start_it_asks_for_the_same_steps():
    assert tell(PAID, CONFIRMED) == tell(PAID, CONFIRMED)
