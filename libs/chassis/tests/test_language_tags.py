"""Which language, script and region a tag means, whatever a phone has added."""

import pytest

from chassis.language_tags import without_extensions

TAGS = {
    "en": "en",
    "pt-BR": "pt-BR",
    "zh_Hant_TW": "zh-Hant-TW",
    "en-US-u-mu-celsius": "en-US",  # Android 14 says so
    "de-u-co-phonebk-t-en-x-any": "de",
    "sr-Latn-RS-x-a-1": "sr-Latn-RS",
}
NO_TAGS = ("", "e", "en-", "en-u-", "../../etc", "en\n", "ен", "en" + "-abcdefgh" * 5, "en-u-" + "abc-" * 40 + "abc")


def test_extensions_are_left_out():
    assert {tag: without_extensions(tag) for tag in TAGS} == TAGS


@pytest.mark.parametrize("tag", NO_TAGS)
def test_what_is_no_tag_means_nothing(tag: str):
    assert without_extensions(tag) == ""
