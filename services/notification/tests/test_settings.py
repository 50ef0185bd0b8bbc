"""What can be set, and what is refused because it would send twice."""

import pytest
from pydantic import ValidationError

from notification.settings import Settings


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("APP_API_TOKEN", "app-token-of-the-tests")


def test_as_it_ships_a_row_is_its_replicas_for_longer_than_it_is_sent():
    settings = Settings()

    assert (settings.call_seconds, settings.send_seconds, settings.lease_seconds) == (16, 20, 30)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEND", "16"),  # the declared retries would be cut off
        ("SEND", "26"),  # too little would be left of the lease to wait, and to write it down
        ("LEASE", "24"),
        ("CALL", "20"),
        ("CALL", "0"),
    ],
)
def test_times_by_which_another_replica_would_send_it_too_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(f"NOTIFICATION_{name}_SECONDS", value)
    with pytest.raises(ValidationError, match="NOTIFICATION_"):
        Settings()


def test_times_can_be_small_together(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"CALL": "1", "SEND": "2", "LEASE": "7"}.items():
        monkeypatch.setenv(f"NOTIFICATION_{name}_SECONDS", value)

    assert Settings().lease_seconds == 7
