"""The services beside real sidecars: started once, for every test here."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from chassis.local import free_port
from chassis.testing.stack import AppSpec, Stack

ROOT = Path(__file__).resolve().parents[2]


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
                "PAYMENT_SEAL_KEY_FILE": str(folder / "payment.key"),
            },
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
                "ORDER_SEAL_KEY_FILE": str(folder / "order.key"),
            },
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


@pytest.fixture
async def sandbox(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The outside world's controls: faults, ledger, inbox."""
    async with httpx.AsyncClient(base_url=stack.url("sandbox"), timeout=15, trust_env=False) as client:
        yield client


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The order service, as its callers reach it."""
    async with httpx.AsyncClient(base_url=stack.url("order-service"), timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
async def fair_weather(stack: Stack, sandbox: httpx.AsyncClient) -> None:
    """No test inherits another's faults, nor what it killed."""
    stack.heal()
    (await sandbox.delete("/sandbox/faults")).raise_for_status()
