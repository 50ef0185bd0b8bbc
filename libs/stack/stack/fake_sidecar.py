"""A sidecar for unit tests: it keeps what it was asked to do, and answers as told. What a real one does is tested
against a real one."""

from collections.abc import Callable, Mapping
from typing import Any

from cryptography.fernet import Fernet

from chassis.sidecar import Answer, Sidecar, SidecarDown

_AT_EVERY_START = "backoffice-service/settings-snapshot"  # nobody is there unless a test says so


class FakeSidecar(Sidecar):
    """`answers` maps `app-id/method` to an `Answer`, or to a function from the body to one."""

    def __init__(self, answers: Mapping[str, Answer | Callable[[Any], Answer]] | None = None) -> None:
        super().__init__(port=0, source="test")
        self.answers = dict(answers or {})
        self.alive = True
        self.invoked: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []  # of what was invoked
        self.published: list[dict[str, Any]] = []
        self.workflows: dict[str, Any] = {}
        self.jobs: dict[str, str] = {}
        self.state: dict[str, Any] = {}
        self.etags: dict[str, int] = {}
        self.secrets = {"seal-keys": Fernet.generate_key().decode()}  # of every name

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def invoke(
        self,
        app_id: str,
        method: str,
        body: Any = None,
        *,
        verb: str = "POST",  # noqa: ARG002  the real one's signature
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        private: bool = False,  # noqa: ARG002  the real one's signature
    ) -> Answer:
        self.require()
        if (name := f"{app_id}/{method.partition('?')[0]}") == _AT_EVERY_START and name not in self.answers:
            raise SidecarDown
        sent = body if form is None else dict(form)
        self.invoked.append((f"{app_id}/{method}", sent))
        self.headers.append(dict(headers or {}))
        answer = self.answers[name]
        return answer if isinstance(answer, Answer) else answer(sent)

    async def publish(self, pubsub: str, topic: str, events: list[dict[str, Any]]) -> dict[str, str]:  # noqa: ARG002
        self.require()
        self.published += events
        return {}

    async def probe_broker(self, pubsub: str, topic: str) -> None:  # noqa: ARG002
        self.require()

    async def get_state(self, store: str, key: str) -> tuple[Any, str]:
        self._require_store(store)
        return (self.state[key], str(self.etags.get(key, 1))) if key in self.state else (None, "")

    async def insert_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> bool:  # noqa: ARG002
        if not self.alive or key in self.state:
            return False
        self.state[key] = value
        return True

    async def update_state(self, store: str, key: str, value: Any, etag: str, *, ttl_seconds: int) -> bool:  # noqa: ARG002
        if not self.alive or key not in self.state or etag != str(self.etags.get(key, 1)):
            return False
        self.state[key] = value
        self.etags[key] = self.etags.get(key, 1) + 1
        return True

    async def save_state(self, store: str, key: str, value: Any, *, ttl_seconds: int) -> None:  # noqa: ARG002  the real one's signature
        self._require_store(store)
        self.state[key] = value
        self.etags[key] = self.etags.get(key, 0) + 1

    async def delete_state(self, store: str, key: str, etag: str) -> bool:  # noqa: ARG002
        return self.state.pop(key, None) is not None

    async def secret(self, store: str, name: str) -> dict[str, str]:  # noqa: ARG002
        self._require_store(store)
        return self.secrets

    async def metadata(self) -> dict[str, Any]:
        self.require()
        return {"runtimeVersion": "1.18.2", "components": []}

    async def start_workflow(self, name: str, instance_id: str, argument: Any) -> None:
        self.require()
        self.workflows[instance_id] = (name, argument)

    async def get_job(self, name: str) -> Any:
        return {"schedule": self.jobs[name]} if name in self.jobs else None

    async def put_job(self, name: str, schedule: str) -> None:
        self.require()
        self.jobs[name] = schedule

    def _require_store(self, store: str) -> None:
        if not self.alive:
            raise SidecarDown(store)
