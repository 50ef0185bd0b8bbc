"""A receiver of webhooks that does as it is told."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

KEYS = {"a": b"0123456789abcdef0123456a", "b": b"0123456789abcdef0123456b"}  # each provider's own
SECRETS = {provider: "whsec_" + base64.b64encode(key).decode() for provider, key in KEYS.items()}


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, answering each with the next of `statuses` and then with 204, while its `gate` is open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hooks"
        self.clean()

    def clean(self) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.taken]

    def await_taken(self, count: int) -> None:
        await_that(lambda: len(self.taken) >= count)


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = cast("Receiver", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        receiver.gate.wait(60)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = receiver.statuses.pop(0) if receiver.statuses else 204
        receiver.taken.append((self.path, headers, body))
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@contextlib.contextmanager
def receiving() -> Generator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()
