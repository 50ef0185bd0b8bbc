"""Language tags (RFC 5646): which language, script and region to write in."""

import re

LONGEST = 128  # with all that phones add

# What is meant, and behind it extensions of a single letter each, which say nothing that we write by.
_TAG = re.compile(r"([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)(?:-[A-Za-z0-9](?:-[A-Za-z0-9]{1,8})+)*", re.ASCII)
_LONGEST_MEANT = 35  # 4.4.1


def without_extensions(tag: str) -> str:
    """en-US for en_US-u-mu-celsius, as phones say it; "" for what is no tag."""
    found = _TAG.fullmatch(tag.replace("_", "-")) if len(tag) <= LONGEST else None
    return found[1] if found and len(found[1]) <= _LONGEST_MEANT else ""
