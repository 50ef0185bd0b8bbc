"""The process: `python -m sandbox.main`."""

import json
import logging
import signal
import socket
import sys
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

import uvicorn

from sandbox.app import TARGETS, create_app
from sandbox.connection import HttpProtocol
from sandbox.faults import Faults
from sandbox.settings import Settings

log = logging.getLogger("sandbox")

# Longer than the 90 s after which Go's clients, the sidecar's among them, drop an idle connection: a server that
# closes first makes them lose a request now and then, which is a fault nobody ordered.
_KEEP_ALIVE_S = 120


class SandboxServer(uvicorn.Server):
    """uvicorn's server, which lets go of held requests when it stops."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faults = Faults(TARGETS)
        super().__init__(
            uvicorn.Config(
                create_app(settings, faults=self._faults),
                host=settings.host,
                port=settings.app_port,
                loop="uvloop",
                http=HttpProtocol,
                ws="none",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says so."""
        await super().startup(sockets)
        if self.started:
            host, http, smtp = self._settings.host, self._settings.app_port, self._settings.smtp_port
            places = {"http": f"http://{host}:{http}", "smtp": f"smtp://{host}:{smtp}"}
            log.info("sandbox.started", extra={"keys": places | {"data": str(self._settings.data_dir)}})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what is held, then stops as ever."""
        self._faults.let_go()
        await super().shutdown(sockets)


class _JsonLines(logging.Formatter):
    """One JSON object a line: a name and keys."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        line = {"at": at, "level": record.levelname.lower(), "event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "keys", {}))


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def main() -> None:
    """Runs until SIGINT or SIGTERM, both of which are an orderly end."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    # aiosmtpd logs addresses.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    # uvicorn raises a signal it has handled once more, for whoever handled it before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    SandboxServer(Settings()).run()


if __name__ == "__main__":
    main()
