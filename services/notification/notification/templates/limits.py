"""What one rendering may use up: processor time, and the length of any text it makes."""

import time

from jinja2.runtime import Context

SECONDS = 0.25  # of processor time, for all parts of one template together
LONGEST_VALUE = 65_536  # characters of any one text made on the way
RUN = "<run>"  # where a context has its run: a name that no template can spell


class TooMuch(Exception):
    """A limit was reached; its text says which."""


class Run:
    """One rendering: its locale, and until when it may take."""

    __slots__ = ("_deadline", "locale")

    def __init__(self, locale: str, seconds: float) -> None:
        self.locale = locale
        self._deadline = time.thread_time() + seconds

    def tick(self) -> None:
        """Before every step, none of which takes longer than some hundredths of a second."""
        if time.thread_time() > self._deadline:
            raise TooMuch("time limit")


def run_of(context: Context) -> Run:
    return context.resolve_or_missing(RUN)


def measured(text: str) -> str:
    if len(text) > LONGEST_VALUE:
        raise TooMuch("size limit")
    return text
