"""What an e-mail address is."""

import pytest

from chassis.addresses import email_address

KEPT = {
    "ada@example.com": "ada@example.com",
    "ada@EXAMPLE.com": "ada@example.com",
    "Ada.L+x@mail.example.co.uk": "Ada.L+x@mail.example.co.uk",
    "ada@b\u00fccher.example": "ada@b\u00fccher.example",
    "ada@xn--bcher-kva.example": "ada@b\u00fccher.example",
    "j\u00fcrgen@example.com": "j\u00fcrgen@example.com",
    "ada@brewline.test": "ada@brewline.test",
}
REFUSED = (
    "", "ada", "ada@", "@example.com", "ada,bob@example.com", "<ada@example.com>", "Ada <ada@example.com>",
    '"ada"@example.com', "ada@[192.0.2.1]", "ada@localhost", "ada@192.0.2.1", " ada@example.com", "ada@example.com\n",
    "a\u200bda@example.com", "a\u202eda@example.com", "ada@exam\u00adple.com", "ada@a b.example", "ada@example..com",
    "a" * 65 + "@" + "b" * 63 + "." + "c" * 63 + "." + "d" * 63 + ".example",
)  # fmt: skip


def test_an_address_is_kept_as_it_is_written_to():
    assert {text: email_address(text) for text in KEPT} == KEPT


def test_what_is_no_address_or_shows_another_one_is_refused():
    for text in REFUSED:
        with pytest.raises(ValueError, match=r".+"):
            email_address(text)
