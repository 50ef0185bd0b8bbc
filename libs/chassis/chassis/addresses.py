"""E-mail addresses: what one is, is the same everywhere."""

from typing import Annotated

from email_validator import validate_email
from pydantic import AfterValidator, Field


def email_address(text: str) -> str:
    """The address as it is kept and written to: without quoting, display name or characters that nobody sees, its
    domain in lower case. Raises ValueError, in words. Whether somebody has that box, only a mail can tell."""
    # `.test` is for whoever tests, who must be able to.
    return validate_email(text, check_deliverability=False, test_environment=True).normalized


EmailAddress = Annotated[str, Field(max_length=254, examples=["ada@example.com"]), AfterValidator(email_address)]
