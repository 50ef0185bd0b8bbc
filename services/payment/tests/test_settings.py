"""What can be set, and what is refused because it would post what is being posted."""

import pytest
from pydantic import ValidationError

from payment.settings import Settings


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("APP_API_TOKEN", "app-token-of-the-tests")


def test_as_it_ships_an_attempt_is_its_drivers_for_longer_than_a_call_takes():
    settings = Settings()

    assert (settings.answer_seconds, settings.call_seconds, settings.claim_seconds) == (5.5, 16, 30)


UNSAFE = [{"CALL": "30"}, {"CLAIM": "16"}, {"CALL": "0"}, {"CALL": "5", "CLAIM": "4"}]


def test_times_by_which_another_replica_would_post_it_too_are_refused(monkeypatch: pytest.MonkeyPatch):
    for times in UNSAFE:
        with monkeypatch.context() as changed:
            for name, value in times.items():
                changed.setenv(f"PAYMENT_{name}_SECONDS", value)
            with pytest.raises(ValidationError, match="PAYMENT_"):
                Settings()


def test_times_can_be_small_together(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"CALL": "1", "CLAIM": "2"}.items():
        monkeypatch.setenv(f"PAYMENT_{name}_SECONDS", value)

    assert Settings().claim_seconds == 2
