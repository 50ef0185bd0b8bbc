"""`brewline new service NAME`: a service in the house's shape, from `templates/service/`."""

import keyword
import re
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import copier
import yaml

from stack import runfile
from stack.local import LocalError

_NAME = re.compile(r"[a-z][a-z0-9]{1,20}")


def new_service(root: Path, name: str) -> int:
    """Writes below `root`. Raises `LocalError` before anything is written where it can't be."""
    apps = runfile.parse((root / "dapr.yaml").read_text())["apps"]
    check(root, name, apps)
    port, sidecar_port = next_free(apps, "appPort"), next_free(apps, "daprHTTPPort")
    values = {"name": name, "port": port, "sidecar_port": sidecar_port}
    copier.run_copy(str(root / "templates" / "service"), root, data=values, defaults=True, quiet=True)
    append(root / "dapr.yaml", run_entry(name, port, sidecar_port))
    declare(root, f"{name}-service")
    deploy(root / "k8s", name)
    finish(root, name)
    print(f"services/{name}/ is made, on port {port}, and hears `orders`. Try it:")
    print(f"  make check && make test-unit IN=services/{name}")
    print(
        f'  brewline up && brewline order && curl -H "Authorization: Bearer $(brewline token --role staff)" '
        f"localhost:{port}/api/v1/counts"
    )
    return 0


def check(root: Path, name: str, apps: Iterable[dict[str, Any]]) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise LocalError(
            f"{name!r} is no name for a service: small letters and digits, a letter first, as in `loyalty`"
        )
    there = {app["appID"].removesuffix("-service") for app in apps} | {"tests", "tools"}
    if name in there or (root / "services" / name).exists() or find_spec(name):
        raise LocalError(f"{name} is there already, as a service or as a package that is imported by this name")


def next_free(apps: Iterable[dict[str, Any]], kind: str) -> int:
    """After the first service's port."""
    taken = {app[kind] for app in apps}
    return next(port for port in range(min(taken), max(taken) + 100) if port not in taken)


def run_entry(name: str, port: int, sidecar_port: int) -> str:
    return f"""  - appID: {name}-service
    appDirPath: .
    appPort: {port}
    daprHTTPPort: {sidecar_port}
    command: [".venv/bin/python", "-m", "{name}.main"]
"""


def declare(root: Path, app_id: str) -> None:
    """In the scopes of whatever every service uses; and that notification keeps its dead letters."""
    components = root / "components"
    everybody = {"order-service", "payment-service", "notification-service"}
    for file in sorted(components.glob("*.yaml")):
        documents = file.read_text().split("---\n")
        scoped = [everybody <= scopes(document) for document in documents]
        added = [
            f"{document.rstrip()}\n  - {app_id}\n" if of_all else document
            for document, of_all in zip(documents, scoped, strict=True)
        ]
        if any(scoped):
            file.write_text("---\n".join(added))
    scope_topics(components / "pubsub.yaml", app_id, publishes=(), hears=("orders",))
    append(components / "subscriptions.yaml", dead_letters(app_id))


def scope_topics(pubsub: Path, app_id: str, *, publishes: Iterable[str], hears: Iterable[str]) -> None:
    """What it may publish and hear, and that notification may hear its dead letters."""
    dead = [f"{topic}.{app_id}.dead" for topic in hears]
    lines = {
        "publishingScopes": [f"{app_id}={','.join([*publishes, 'health-probes', *dead])};"],
        "subscriptionScopes": [f"{app_id}={','.join(hears)};", f"notification-service={','.join(dead)};"],
    }
    text = pubsub.read_text()
    for name, added in lines.items():
        begin = f"    - name: {name}\n      value: >-\n"
        text = text.replace(begin, begin + "".join(f"        {line}\n" for line in added))
    pubsub.write_text(text)


def scopes(document: str) -> set[str]:
    component: dict[str, Any] = yaml.safe_load(document) or {}
    return set(component.get("scopes", []))


def dead_letters(app_id: str) -> str:
    return f"""---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: {app_id.removesuffix("-service")}-orders-dead-to-notification
spec:
  pubsubname: pubsub
  topic: orders.{app_id}.dead
  routes:
    default: /events/dead/{app_id}/orders
scopes:
  - notification-service
"""


def deploy(k8s: Path, name: str) -> None:
    """kustomize takes no pattern for files. In production it has a secret and an autoscaler, as the data source has."""
    kustomization = k8s / "base" / "kustomization.yaml"
    text = kustomization.read_text()
    text = text.replace("  - ../../components\n", f"  - {name}.yaml\n  - ../../components\n")
    kustomization.write_text(
        text.replace("patches:\n", f"  - name: brewline/{name}\n    newTag: latest\npatches:\n", 1)
    )
    for file in (k8s / "overlays" / "production" / each for each in ("autoscaling.yaml", "external-secrets.yaml")):
        (alike,) = (each for each in file.read_text().split("---\n") if "  name: datasource-service\n" in each)
        append(file, "---\n" + alike.replace("datasource-service", f"{name}-service"))


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text().rstrip("\n") + "\n" + text)


def finish(root: Path, name: str) -> None:
    """The environment knows the package, its imports are in order, and its contract is written."""
    for command in (
        ["tools/setup.sh", "environment"],
        [".venv/bin/ruff", "check", "--fix", "--quiet", f"services/{name}"],
        [".venv/bin/ruff", "format", "--quiet", f"services/{name}"],
        [".venv/bin/python", "tools/contracts.py"],
    ):
        done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise LocalError(f"`{' '.join(command)}` failed: {done.stdout}{done.stderr}")
