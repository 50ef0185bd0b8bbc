"""E-mail addresses: what one is, is the same everywhere."""

from functools import lru_cache
from typing import Annotated

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from pydantic import AfterValidator, Field


def email_address(text: str) -> str:
    """The address as it is kept and written to: without quoting, display name or characters that nobody sees, its
    domain in lower case. Raises ValueError, in words. Whether somebody has that box, only a mail can tell."""
    return _validated(text).normalized


def by_smtp(text: str) -> str | None:
    """The address as any mail server takes it: a domain beyond ASCII by its IDNA name, so that only a box whose own
    name is beyond ASCII needs SMTPUTF8. None for what is no address."""
    try:
        known = _validated(text)
    except EmailNotValidError:
        return None
    return known.ascii_email or known.normalized


@lru_cache(maxsize=4096)
def _validated(text: str) -> ValidatedEmail:
    # `.test` is for whoever tests, who must be able to.
    return validate_email(text, check_deliverability=False, test_environment=True)


EmailAddress = Annotated[str, Field(max_length=254, examples=["ada@example.com"]), AfterValidator(email_address)]
