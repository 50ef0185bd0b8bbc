"""One cluster for all tests here: Dapr's control plane in it, the overlay `local` deployed by `make deploy`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from brewery import ORDER, Brewery
from deployed import NAMESPACE, NODE_PORTS, ROOT, Deployed, bearer, machine_state, run_deploy, url_of

import cluster
import order
from stack import containers, local

# As `make test-k8s` has them built: not the tag of what somebody else on this machine may run.
TAG = "k8s"
IMAGES = ROOT / "var" / "images" / f"{TAG}.tar"


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    if reason := cluster.missing():
        pytest.skip(reason)
    if not IMAGES.exists():
        pytest.skip(f"{IMAGES.relative_to(ROOT)} is not here: make test-k8s makes it")
    before = machine_state()
    with ExitStack() as whole:
        kubernetes = whole.enter_context(cluster.cluster())
        kubernetes.load(IMAGES)
        for outside in ("redis", "postgres", "sandbox"):
            kubernetes.tag(f"localhost/brewline/{outside}:{TAG}", "latest")
        said = run_deploy(kubernetes, f"--tag={TAG}")
        for app_id in NODE_PORTS:  # kube-proxy opens them a moment after the pods are ready
            door = f"{url_of(app_id)}/health/live"
            local.wait_until(lambda door=door: local.http_ok(door), within=30, what=door)
        yield Deployed(kubernetes, tag=TAG, said=said, before=before, end=whole.close)


@pytest.fixture
async def brewery(deployed: Deployed) -> AsyncIterator[Brewery]:
    limits = httpx.Limits(max_keepalive_connections=20, keepalive_expiry=60)
    async with (
        httpx.AsyncClient(base_url=url_of("sandbox"), timeout=30, trust_env=False) as sandbox,
        httpx.AsyncClient(
            base_url=url_of(ORDER), timeout=30, trust_env=False, headers=await bearer(sandbox), limits=limits
        ) as api,
    ):
        yield deployed.brewery(api, sandbox)


MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"


def upgrade() -> None:
    op.add_column("orders", sa.Column("added_next", sa.Integer, server_default="1"))
"""
DOCKERFILE = """
FROM localhost/brewline/order:{tag}
COPY {file} {folder}/
"""


@pytest.fixture(scope="session")
def next_version(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tag of a version whose order service brings one migration more; the other services are the same."""
    tag, engine, folder = f"{TAG}-next", containers.need(), tmp_path_factory.mktemp(ORDER)
    before = max(file.name for file in (Path(order.__file__).parent / "migrations").glob("[0-9]*.py"))[:4]
    revision = f"{int(before) + 1:04}"
    file = folder / f"{revision}_next.py"
    file.write_text(MIGRATION.format(revision=revision, before=before))
    found = "import order, pathlib; print(pathlib.Path(order.__file__).parent / 'migrations')"
    installed = deployed.cluster.kubectl(
        "exec", f"--namespace={NAMESPACE}", f"deployment/{ORDER}", "--container=app", "--", "python", "-c", found
    )
    (folder / "Dockerfile").write_text(DOCKERFILE.format(tag=TAG, file=file.name, folder=installed.strip()))
    engine.run("build", f"--tag=localhost/brewline/order:{tag}", folder)
    archive = folder / "order.tar"
    engine.run("save", f"--output={archive}", f"localhost/brewline/order:{tag}")
    for name in ("payment", "notification", "backoffice", "datasource"):
        deployed.cluster.tag(f"localhost/brewline/{name}:{TAG}", tag)
    deployed.cluster.load(archive)
    return tag
