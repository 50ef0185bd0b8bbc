"""The services beside real sidecars: started once, for every test here."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from brewery import ORDER, SERVICES, Brewery, bearer, client_of
from cryptography.fernet import Fernet

from chassis.local import free_port
from chassis.testing import eventually
from chassis.testing.stack import AppSpec, Stack

ROOT = Path(__file__).resolve().parents[2]


# As the tests spell them; every JWT begins with the last.
PERSONAL = ("ada@example.com", "+12025550123", '"Ada"', "tok_", "eyJ")


def seal_keys() -> dict[str, str]:
    return {"seal-keys": Fernet.generate_key().decode()}


def specs(folder: Path) -> list[AppSpec]:
    """Every service with its data under `folder`; the files in `components/` know the sandbox by its usual address."""
    smtp = str(free_port())
    return [
        AppSpec(
            app_id="sandbox",
            module="sandbox.main",
            known_as="localhost:8009",
            env={"SANDBOX_DATA_DIR": str(folder / "sandbox"), "SANDBOX_SMTP_PORT": smtp},
        ),
        AppSpec(
            app_id="payment-service",
            module="payment.main",
            env={
                "PAYMENT_DATABASE_URL": f"sqlite:///{folder}/payment.db",
            },
            secrets=seal_keys(),
        ),
        AppSpec(
            app_id="notification-service",
            module="notification.main",
            env={
                "NOTIFICATION_DATABASE_URL": f"sqlite:///{folder}/notification.db",
                "NOTIFICATION_SMTP_PORT": smtp,
            },
        ),
        AppSpec(
            app_id="order-service",
            module="order.main",
            env={
                "ORDER_DATABASE_URL": f"sqlite:///{folder}/order.db",
                "ORDER_CATALOG_FILE": str(Path(__file__).with_name("catalog.json")),
            },
            secrets=seal_keys(),
        ),
    ]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    data = folder / "data"
    data.mkdir()
    running = Stack(apps=specs(data), components=ROOT / "components", run_dir=folder, tools_bin=ROOT / "tools" / "bin")
    with running:
        yield running
        told = {name: running.logs(name) for app_id in SERVICES for name in (app_id, f"{app_id}.sidecar")}
        secrets = [running.app_token, running.dapr_token, *PERSONAL]
    # Whatever the tests did, no log of ours, or of a sidecar, tells a person's data, a card or a bearer token.
    for name, log in told.items():
        for secret in secrets:
            assert secret not in log, f"{name} logs {secret}"


@pytest.fixture
async def sandbox(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The outside world's controls: faults, ledger, inbox."""
    async with httpx.AsyncClient(base_url=stack.url("sandbox"), timeout=15, trust_env=False) as client:
        yield client


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The order service, as staff of tenant `default` reaches it."""
    async with client_of(stack, ORDER, bearer(stack, "staff")) as client:
        yield client


@pytest.fixture
def brew(stack: Stack, api: httpx.AsyncClient, sandbox: httpx.AsyncClient) -> Brewery:
    return Brewery(stack, stack.run_dir / "data", api, sandbox)


@pytest.fixture(autouse=True)
async def fair_weather(brew: Brewery) -> None:
    """No test inherits another's faults, what it killed, or a breaker that it opened."""
    brew.stack.heal()
    await brew.fair()

    async def served() -> bool:
        return (await brew.place(id="canary")).status_code == 201

    await eventually(served, within=60, every=1)
