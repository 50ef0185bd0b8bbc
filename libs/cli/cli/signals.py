"""Asked to stop: Ctrl-C, SIGTERM, or the terminal closed."""

import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Raised by each of them (main.py)."""
