"""The services beside real sidecars: started once on each database, for every test here."""

import base64
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml
from brewery import BACKOFFICE, NOTIFICATION, ORDER, PAYMENT, SERVICES, Brewery, Notices, bearer, client_of, replicas
from cryptography.fernet import Fernet

from payment.providers import PROVIDERS
from stack.eventually import eventually
from stack.local import free_port
from stack.postgres import Postgres
from stack.sidecars import AppSpec, Stack

ROOT = Path(__file__).resolve().parents[2]


# As the tests spell them; every JWT begins with the last.
PERSONAL = ("ada@example.com", "+12025550123", '"Ada"', "tok_", "eyJ")


# Dollars as shipped; euros are shared out between the providers.
ROUTES = [{"currencies": ["EUR"], "weights": {"a": 1, "b": 1}}, {"weights": {"a": 1, "b": 0}}]
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"the secret of the integration tests").decode()
PAYMENT_B_KEY = "key-of-the-integration-tests"
AFRICAS_TALKING_KEY, LEGACY_SMS_KEY = "at-key-of-the-integration-tests", "legacy-key-of-the-integration-tests"
PROVIDER_WEBHOOK_SECRETS = json.dumps(
    {name: f"whsec_{base64.b64encode(f'the secret of provider {name}!'.encode()).decode()}" for name in PROVIDERS}
)
INN8_SECRET = "inn8-secret-of-the-integration-tests"
INN8_ROWS = {"clients": 120, "portfolios": 150, "securities": 20, "transactions": 300}
RECEIPT_SECRETS = json.dumps(
    {"africas-talking": "receipts-of-the-integration-tests", "legacy": WEBHOOK_SECRET, "smtp": WEBHOOK_SECRET}
)


# On PostgreSQL.
REPLICATED = {ORDER, PAYMENT, NOTIFICATION, BACKOFFICE}

# By service: for how long something is in the hands of a process that may be dead. As short as is safe under the
# policies of `components` below; as they are shipped they are waited for in test_shipped_times.py.
QUICK: Mapping[str, Mapping[str, str]] = {
    "order": {
        "ORDER_PAYMENT_SECONDS": "3",
        "ORDER_STEP_SECONDS": "4",
        "ORDER_DRIVER_LEASE_SECONDS": "5",
        "ORDER_PAST_TIMER_SECONDS": "8",
    },
    "payment": {"PAYMENT_ANSWER_SECONDS": "2.5", "PAYMENT_CALL_SECONDS": "11", "PAYMENT_CLAIM_SECONDS": "15"},
    "datasource": {"DATASOURCE_LEASE_SECONDS": "3"},
    "notification": {
        "NOTIFICATION_CALL_SECONDS": "11",
        "NOTIFICATION_SEND_SECONDS": "12",
        "NOTIFICATION_LEASE_SECONDS": "18",
        "NOTIFICATION_SAGA_PAST_TIMER_SECONDS": "10",
        # Slow enough for a small bulk to be met in the middle.
        "NOTIFICATION_BULK_RATES": '{"smtp": 20}',
    },
    "backoffice": {
        "BACKOFFICE_UPLOAD_SECONDS": "5",
        "BACKOFFICE_ABANDONED_SECONDS": "5.1",
        # Small pages: an export of few rows is met in the middle.
        "BACKOFFICE_EXPORT_PAGE": "2",
        "BACKOFFICE_EXPORT_AGAIN_SECONDS": "0.2",
    },
}
OPERATOR = {"OPERATOR_TENANT": "default"}
AS_SHIPPED: Mapping[str, Mapping[str, str]] = {service: {} for service in QUICK}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    elsewhere = [item for item in items if not _belongs_here(item)]
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


def _belongs_here(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("only_on")
    return mark is None or not isinstance(item, pytest.Function) or item.callspec.params["apps"] == mark.args[0]


def components(folder: Path) -> Path:
    """The components, with breakers that are open for a shorter time and one retry less."""
    shutil.copytree(ROOT / "components", folder)
    file = folder / "resiliency.yaml"
    document = yaml.safe_load(file.read_text())
    policies = document["spec"]["policies"]
    policies["retries"]["calls"]["maxRetries"] = 2
    for breaker in policies["circuitBreakers"].values():
        breaker["timeout"] = "6s"
    file.write_text(yaml.safe_dump(document))
    return folder


def seal_keys() -> dict[str, str]:
    return {"seal-keys": Fernet.generate_key().decode()}


def specs(
    folder: Path,
    database_of: Callable[[str], str] | None = None,
    *,
    times: Mapping[str, Mapping[str, str]] = AS_SHIPPED,
) -> list[AppSpec]:
    """Every service with its data under `folder`, or where `database_of` says for its name; the files in `components/`
    know the sandbox by its usual address."""
    database_of = database_of or (lambda name: f"sqlite:///{folder}/{name}.db")
    smtp = str(free_port())
    return [
        AppSpec(
            app_id="sandbox",
            module="sandbox.main",
            known_as="localhost:8009",
            env={
                "SANDBOX_DATA_DIR": str(folder / "sandbox"),
                "SANDBOX_SMTP_PORT": smtp,
                "SANDBOX_WEBHOOK_URL": "{payment-service}/api/v1/webhooks",
                "SANDBOX_PROVIDER_WEBHOOK_SECRETS": PROVIDER_WEBHOOK_SECRETS,
                "SANDBOX_PAYMENT_B_KEY": PAYMENT_B_KEY,
                "SANDBOX_RECEIPT_URL": "{notification-service}/api/v1/receipts",
                "SANDBOX_RECEIPT_SECRETS": RECEIPT_SECRETS,
                "SANDBOX_AFRICAS_TALKING_KEY": AFRICAS_TALKING_KEY,
                "SANDBOX_LEGACY_SMS_KEY": LEGACY_SMS_KEY,
                "SANDBOX_INN8_CLIENT_SECRET": INN8_SECRET,
                "SANDBOX_INN8_ROWS": json.dumps(INN8_ROWS),
            },
        ),
        AppSpec(
            app_id="payment-service",
            module="payment.main",
            env={
                "PAYMENT_DATABASE_URL": database_of("payment"),
                "PAYMENT_ROUTES": json.dumps(ROUTES),
                **OPERATOR,
                **times["payment"],
            },
            secrets=seal_keys()
            | {"provider-webhook-secrets": PROVIDER_WEBHOOK_SECRETS, "payment-b-key": PAYMENT_B_KEY},
        ),
        AppSpec(
            app_id="notification-service",
            module="notification.main",
            env={
                "NOTIFICATION_DATABASE_URL": database_of("notification"),
                "NOTIFICATION_SMTP_PORT": smtp,
                **OPERATOR,
                **times["notification"],
            },
            secrets={
                "unsubscribe-key": "a-key-of-the-integration-tests-only",
                "receipt-secrets": RECEIPT_SECRETS,
                "africas-talking-key": AFRICAS_TALKING_KEY,
                "legacy-sms-key": LEGACY_SMS_KEY,
            },
        ),
        AppSpec(
            app_id="order-service",
            module="order.main",
            env={
                "ORDER_DATABASE_URL": database_of("order"),
                "ORDER_CATALOG_FILE": str(Path(__file__).with_name("catalog.json")),
                **OPERATOR,
                **times["order"],
            },
            secrets=seal_keys(),
        ),
        AppSpec(
            app_id="datasource-service",
            module="datasource.main",
            env={
                "DATASOURCE_DATABASE_URL": database_of("datasource"),
                "DATASOURCE_PAGE_ROWS": "60",
                **OPERATOR,
                **times["datasource"],
            },
            secrets={"inn8-client-secret": INN8_SECRET},
        ),
        AppSpec(
            app_id="backoffice-service",
            module="backoffice.main",
            env={
                "BACKOFFICE_DATABASE_URL": database_of("backoffice"),
                "BACKOFFICE_PUBLIC_URL": "{backoffice-service}",
                **OPERATOR,
                **times["backoffice"],
            },
            secrets=seal_keys() | {"link-key": "a-key-of-the-integration-tests-only"},
        ),
    ]


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def apps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[AppSpec]:
    """On PostgreSQL each service has a database of its own, and those in REPLICATED have a second replica."""
    folder = tmp_path_factory.mktemp("data")
    if request.param == "sqlite":
        return specs(folder, times=QUICK)
    server: Postgres = request.getfixturevalue("postgres_server")
    found = specs(folder, server.create, times=QUICK)
    return [*found, *(replace(spec, name=f"{spec.name}-2") for spec in found if spec.app_id in REPLICATED)]


@pytest.fixture(scope="session")
def stack(apps: list[AppSpec], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    running = Stack(
        apps=apps, components=components(folder / "given"), run_dir=folder, tools_bin=ROOT / "tools" / "bin"
    )
    with running:
        yield running
        names = [name for app_id in SERVICES for name in replicas(running, app_id)]
        told = {name: running.logs(name) for one in names for name in (one, f"{one}.sidecar")}
        secrets = [running.app_token, running.dapr_token, *PERSONAL]
    # Whatever the tests did, no log of ours, or of a sidecar, tells a person's data, a card or a bearer token.
    for name, log in told.items():
        for secret in secrets:
            assert secret not in log, f"{name} logs {secret}"


@pytest.fixture
async def sandbox(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The outside world's controls: faults, ledger, inbox."""
    async with httpx.AsyncClient(base_url=stack.url("sandbox"), timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The order service, as staff of tenant `default` reaches it."""
    async with client_of(stack, ORDER, bearer(stack, "staff")) as client:
        yield client


@pytest.fixture
async def notices(stack: Stack) -> AsyncIterator[Notices]:
    """The notification service, as an admin of tenant `default` reaches it."""
    async with client_of(stack, NOTIFICATION, bearer(stack, "admin")) as client:
        yield Notices(client)


@pytest.fixture
def brew(stack: Stack, api: httpx.AsyncClient, sandbox: httpx.AsyncClient) -> Brewery:
    return Brewery(stack, api, sandbox)


@pytest.fixture(autouse=True)
async def fair_weather(brew: Brewery) -> None:
    """No test inherits another's faults, what it killed, or a breaker that it opened."""
    brew.stack.heal()
    await brew.fair()

    async def served() -> bool:
        return (await brew.place(id="canary")).status_code == 201 and await brew.every_payment_replica_charges()

    await eventually(served, within=60, every=1)
