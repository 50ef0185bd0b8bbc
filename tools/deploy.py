"""`make deploy` and `make undeploy`: an overlay of k8s/ to the cluster of kubectl's current context, where Dapr is
installed. The secrets that are missing there are made of random values; what is there is never changed.
"""

import argparse
import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, cast

import yaml

from cli import vault
from cli.vault import Secrets
from stack.local import LocalError

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = ROOT / "k8s" / "overlays"
BUILT = ROOT / "tools" / "bin" / "kubectl"
# What is no service keeps its image when the services get another: its data would go with its pod.
OUTSIDE = ("/redis", "/postgres", "/sandbox")
WORKLOADS = ("Deployment", "StatefulSet")
# Where the PostgreSQL of an overlay that brings its own is, by the secret that holds its password.
POSTGRES = "brewline-postgres"
DATABASE_URL = "postgresql://postgres:{password}@postgres:5432/{name}"

Manifest = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Overlay:
    name: str
    manifests: list[Manifest]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    @property
    def namespace(self) -> str:
        return self.of_kind("Namespace")[0]["metadata"]["name"]

    def needed(self) -> dict[str, set[str]]:
        """The secrets it names, with the keys that it names of them, but those that the overlay makes itself."""
        found: dict[str, set[str]] = {}
        for manifest in self.manifests:
            for name, key in _references(manifest):
                found.setdefault(name, set()).update({key} if key else ())
        made = {manifest["metadata"]["name"] for manifest in self.of_kind("Secret")}
        made |= {
            manifest["spec"].get("target", {}).get("name") or manifest["metadata"]["name"]
            for manifest in self.of_kind("ExternalSecret")
        }
        return {name: keys for name, keys in found.items() if name not in made}


def _references(node: Any) -> Iterable[tuple[str, str]]:
    """(secret, key) wherever one is named; the key is empty where all of it is meant."""
    if isinstance(node, list):
        for each in cast("list[Any]", node):
            yield from _references(each)
    if isinstance(node, dict):
        named = cast("Manifest", node)
        yield from _named(named)
        for value in named.values():
            yield from _references(value)


def _named(node: Manifest) -> Iterable[tuple[str, str]]:
    if (reference := node.get("secretKeyRef")) and not reference.get("optional"):
        yield reference["name"], reference["key"]
    for annotation in ("dapr.io/app-token-secret", "dapr.io/api-token-secret"):
        if annotation in node:
            yield node[annotation], "token"
    if "secrets" in node.get("resources", ()) and "apiGroups" in node:  # of a Role: what an app's sidecar may read
        yield from ((name, "") for name in node.get("resourceNames", ()))


class Target:
    """The cluster, by kubectl."""

    def __init__(self, kubectl: Path) -> None:
        self._kubectl = kubectl

    def ask(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [self._kubectl, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def run(self, *words: str, stdin: str = "") -> str:
        done = self.ask(*words, stdin=stdin)
        if done.returncode != 0:
            raise LocalError(f"`kubectl {' '.join(words[:3])}` failed: {done.stderr.strip()[-3000:]}")
        return done.stdout

    def listed(self, kind: str, namespace: str) -> list[Manifest]:
        return json.loads(self.run("get", kind, f"--namespace={namespace}", "--output=json"))["items"]

    def check(self) -> str:
        """The context's name. Raises `LocalError` where nothing can be deployed."""
        context = self.ask("config", "current-context")
        if context.returncode != 0:
            raise LocalError("kubectl has no current context: set KUBECONFIG, or `kubectl config use-context …`")
        name = context.stdout.strip()
        ready = self.ask("get", "--raw", "/readyz", "--request-timeout=10s")
        if ready.returncode != 0:
            raise LocalError(f"the cluster of the context {name} does not answer: {ready.stderr.strip()[-500:]}")
        return name

    def need_dapr(self, context: str) -> None:
        injector = self.ask("get", "mutatingwebhookconfiguration", "dapr-sidecar-injector")
        if injector.returncode != 0:
            raise LocalError(
                f"Dapr is not in the cluster of the context {context}: `dapr init --kubernetes --wait`, "
                "or its Helm chart (runtime 1.18.2, 1.18.4 or newer)"
            )


def read(name: str, target: Target, tag: str) -> Overlay:
    folder = OVERLAYS / name
    if not (folder / "kustomization.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml")))
        raise LocalError(f"there is no overlay {name}: OVERLAY is one of {known}")
    # Its base reads components/, beside it.
    rendered = target.run("kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder))
    overlay = Overlay(name=name, manifests=[each for each in yaml.safe_load_all(rendered) if each])
    if tag:
        for container in containers(overlay):
            image, _, _ = container["image"].rpartition(":")
            if image.rpartition("/")[0].endswith("brewline") and not image.endswith(OUTSIDE):
                container["image"] = f"{image}:{tag}"
    return overlay


def containers(overlay: Overlay) -> Iterable[Manifest]:
    for workload in overlay.of_kind(*WORKLOADS, "Job"):
        pod = workload["spec"]["template"]["spec"]
        yield from (*pod["containers"], *pod.get("initContainers", ()))


# --- secrets --------------------------------------------------------------------------------------------------------


def make_secrets(overlay: Overlay, target: Target) -> list[str]:
    """The names of those that were made or lacked something."""
    needed = overlay.needed()
    present: Secrets = {}
    for secret in target.listed("secrets", overlay.namespace):
        values = cast("dict[str, str]", secret.get("data") or {})
        present[secret["metadata"]["name"]] = {key: base64.b64decode(value).decode() for key, value in values.items()}
    whole = fresh(needed, present)
    if lacking := sorted(
        f"{name} ({key})" for name, keys in needed.items() for key in keys - whole.get(name, {}).keys()
    ):
        raise LocalError(
            f"secrets that only you can know are missing in namespace {overlay.namespace}: {', '.join(lacking)}; "
            "k8s/base/kustomization.yaml says what each is"
        )
    changed = [name for name in needed if name in whole and whole[name] != present.get(name, {})]
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": overlay.namespace},
            "stringData": whole[name],
        }
        for name in changed
    ]
    if documents:
        target.run("apply", "--server-side", "--field-manager=deploy", "-f", "-", stdin=yaml.safe_dump_all(documents))
    return changed


def fresh(needed: Iterable[str], present: Secrets) -> Secrets:
    """What is present, with all that is missing of what is needed and can be made up."""
    made = vault.fresh_secrets(ROOT / "nowhere", present)
    made["brewline-redis"] = {"password": token_urlsafe(32)}
    made |= {name: {"token": token_urlsafe(32)} for name in ("brewline-app-token", "brewline-dapr-token")}
    names = set(needed)
    if POSTGRES in names:
        password = present.get(POSTGRES, {}).get("password") or token_urlsafe(32)
        made[POSTGRES] = {"password": password}
        services = sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml"))
        made["brewline-database"] = {name: DATABASE_URL.format(password=password, name=name) for name in services}
    return {name: made.get(name, {}) | present.get(name, {}) for name in names}


# --- deploy ---------------------------------------------------------------------------------------------------------


def deploy(overlay: Overlay, target: Target, *, within: float) -> None:
    begun = time.monotonic()
    apply(target, overlay.of_kind("Namespace"))
    if made := make_secrets(overlay, target):
        say(f"secrets made: {', '.join(sorted(made))}")
    # A Job is never changed: the new version's migrations are a new one.
    for job in overlay.of_kind("Job"):
        target.run("delete", "job", job["metadata"]["name"], f"--namespace={overlay.namespace}", "--ignore-not-found")
    apply(target, overlay.manifests)
    say(f"{len(overlay.manifests)} objects applied to namespace {overlay.namespace}")
    await_ready(overlay, target, deadline=begun + within)
    say(f"ready after {time.monotonic() - begun:.0f} s")
    for line in addresses(overlay, target):
        print(line)


def apply(target: Target, manifests: Iterable[Manifest]) -> None:
    target.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(manifests))


def await_ready(overlay: Overlay, target: Target, *, deadline: float) -> None:
    shown = ""
    while waiting := [line for line in states(overlay, target) if line]:
        if time.monotonic() > deadline:
            raise LocalError("not ready in time: " + "; ".join([*waiting, *troubles(overlay, target)]))
        if (now := ", ".join(waiting)) != shown:
            say(f"waiting for {now}")
            shown = now
        time.sleep(1)


def states(overlay: Overlay, target: Target) -> Iterable[str]:
    """A line for each workload that is not whole yet in its newest version."""
    wanted = {(each["kind"], each["metadata"]["name"]) for each in overlay.of_kind(*WORKLOADS)}
    for workload in target.listed("deployments,statefulsets", overlay.namespace):
        name = workload["metadata"]["name"]
        if (workload["kind"], name) not in wanted:
            continue
        spec, status = workload["spec"], workload["status"]
        asked = spec.get("replicas", 1)
        current = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
        there = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)) if current else 0
        if there < asked or status.get("replicas", 0) > asked:
            yield f"{name} ({there} of {asked})"


def troubles(overlay: Overlay, target: Target) -> Iterable[str]:
    """Why pods are not made, or their containers do not run, as the cluster says."""
    for deployment in target.listed("deployments", overlay.namespace):
        for condition in deployment["status"].get("conditions", ()):
            if condition["type"] == "ReplicaFailure":
                yield f"{deployment['metadata']['name']}: {condition['message']}"
    for pod in target.listed("pods", overlay.namespace):
        status = pod["status"]
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waits = container["state"].get("waiting", {})
            if waits.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                hint = " (make images, and bring them to the nodes)" if "Image" in waits["reason"] else ""
                yield f"{pod['metadata']['name']}: {container['name']}: {waits['reason']}{hint}"


def addresses(overlay: Overlay, target: Target) -> Iterable[str]:
    nodes = json.loads(target.run("get", "nodes", "--output=json"))["items"]
    known = {each["type"]: each["address"] for each in nodes[0]["status"]["addresses"]} if nodes else {}
    node = known.get("ExternalIP") or known.get("InternalIP", "localhost")
    for service in target.listed("services", overlay.namespace):
        for port in service["spec"]["ports"]:
            if "nodePort" in port and port.get("name", "http") == "http":
                yield f"  {service['metadata']['name']:<22} http://{node}:{port['nodePort']}"
    for route in overlay.of_kind("HTTPRoute"):
        yield from (f"  {route['metadata']['name']:<22} https://{host}" for host in route["spec"].get("hostnames", ()))


def undeploy(overlay: Overlay, target: Target) -> None:
    """All of it: with the namespace go its secrets and the data that lies in it."""
    target.run("delete", "--ignore-not-found", "--wait=true", "-f", "-", stdin=yaml.safe_dump_all(overlay.manifests))
    say(f"namespace {overlay.namespace} is gone, with its secrets and what data lay in it")


def find_kubectl() -> Path:
    on_path = shutil.which("kubectl")
    if on_path is None and not BUILT.exists():
        raise LocalError("kubectl is missing: install it, or tools/setup.sh cluster builds one")
    return Path(on_path or BUILT)


def say(words: str) -> None:
    print(f"deploy: {words}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["deploy", "undeploy"])
    parser.add_argument("--overlay", default="local", help="a folder of k8s/overlays")
    parser.add_argument("--tag", default="", help="of the services' images; none: as the overlay says")
    parser.add_argument("--within", type=float, default=300, help="seconds until all must be ready")
    asked = parser.parse_args()
    try:
        target = Target(find_kubectl())
        context = target.check()
        overlay = read(asked.overlay, target, asked.tag)
        say(f"overlay {overlay.name}, context {context}")
        if asked.what == "undeploy":
            undeploy(overlay, target)
        else:
            target.need_dapr(context)
            deploy(overlay, target, within=asked.within)
    except LocalError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
