"""One cluster for all tests here: Dapr's control plane in it, the overlay `local` deployed by `make deploy`."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import cluster
import httpx
import pytest
from brewery import ORDER, Brewery
from deployed import Deployed, bearer, machine_state, url_of

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "var" / "images" / "brewline.tar"


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
        environment = {**os.environ, "KUBECONFIG": str(kubernetes.kubeconfig)}
        command = [sys.executable, ROOT / "tools" / "deploy.py", "deploy", "--overlay=local", "--within=120"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + kubernetes.kubectl("get", "pods", "--all-namespaces")
        yield Deployed(kubernetes, said=done.stdout, before=before, end=whole.close)


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
