"""`brewline doctor`: what this machine, the declarations and the run look like, and how to mend what is wrong."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import yaml

from cli import machine, screen, vault
from cli.vault import ROOT, VAR
from stack import local
from stack.local import HOST, LocalError

COMPONENTS = ROOT / "components"
TOOLS_BIN = ROOT / "tools" / "bin"
# Each kind of policy, and the word by which a target names one.
POLICIES = {"timeouts": "timeout", "retries": "retry", "circuitBreakers": "circuitBreaker"}
_MEMORY = 1.5 * 2**30  # bytes: five services, six sidecars, Redis, placement and the scheduler take about 1.2 GB
_DISK = 2**30

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`mend` is empty where all is well."""

    area: str
    what: str
    found: str
    mend: str = ""


def doctor(*, as_json: bool) -> int:
    """1 when something is to be mended."""
    found = [
        finding
        for look in (machine_itself, programs, packages, ports, secrets, components, resiliency, running)
        for finding in look()
    ]
    wrong = [finding for finding in found if finding.mend]
    if as_json:
        print(json.dumps([asdict(finding) for finding in found]))
        return 1 if wrong else 0
    for finding in found:
        mark = ("✗ ", "red") if finding.mend else ("✓ ", "green")
        screen.line(mark, (f"{finding.area:12}", "dim"), f"{finding.what:34}", (finding.found, "dim"))
        if finding.mend:
            screen.line(f"    mend: {finding.mend}")
    screen.line(f"\n{len(wrong)} of {len(found)} to mend." if wrong else f"\nAll {len(found)} well.")
    return 1 if wrong else 0


def check(area: str, what: str, found: str, *, good: bool, mend: str) -> Finding:
    return Finding(area=area, what=what, found=found, mend="" if good else mend)


# --- this machine ---------------------------------------------------------------------------------------------------


def machine_itself() -> Iterator[Finding]:
    version = sys.version.split()[0]
    yield check("machine", "Python", version, good=sys.version_info >= (3, 11), mend="install Python 3.11 or newer")
    memory = psutil.virtual_memory().available
    enough = memory > _MEMORY or bool(machine.parts())
    gigabytes = f"{memory / 2**30:.1f} GB free, {os.cpu_count()} cores"
    yield check("machine", "memory", gigabytes, good=enough, mend="end other programs: a run takes about 1.2 GB")
    VAR.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(VAR).free
    full = "make room: databases, logs and Redis are in var/"
    yield check("machine", "disk", f"{disk / 2**30:.1f} GB free in {VAR}", good=disk > _DISK, mend=full)


def programs(tools_bin: Path = TOOLS_BIN) -> Iterator[Finding]:
    for name in ("daprd", "placement", "scheduler", "redis-server"):
        try:
            where = local.need_program(name, tools_bin)
        except LocalError as missing:
            yield Finding(area="programs", what=name, found="not here", mend=str(missing))
        else:
            yield daprd(where) if name == "daprd" else Finding(area="programs", what=name, found=str(where))


def daprd(program: Path) -> Finding:
    """A built one stays where it is when the repository goes on."""
    version, oldest = local.version_of(program) or (0,), local.OLDEST["daprd"]
    said, wanted = (".".join(map(str, numbers)) for numbers in (version, oldest))
    mend = f"`make setup` builds {wanted}"
    return check("programs", "daprd", f"{said} {program}", good=version >= oldest, mend=mend)


def packages(lock: Path = ROOT / "requirements.lock") -> Iterator[Finding]:
    """What every machine has; a line with a condition is for some alone."""
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", lock.read_text(), re.MULTILINE))
    other = sorted(name for name, version in wanted.items() if installed(name) != version)
    found = (
        f"{len(other)} not as in {lock.name}: {', '.join(other[:3])}" if other else f"{len(wanted)} as in {lock.name}"
    )
    yield check("programs", "Python's packages", found, good=not other, mend="`make setup` installs them")


def installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def ports() -> Iterator[Finding]:
    try:
        machine.check_ports()
    except LocalError as taken:
        yield Finding(area="ports", what="services, sidecars, SMTP", found="not all free", mend=str(taken))
    else:
        yield Finding(area="ports", what="services, sidecars, SMTP", found="free, or this run's")


def secrets(var: Path = VAR) -> Iterator[Finding]:
    makers: dict[str, Callable[[Path], object]] = {"secrets.json": vault.secrets_file, "tokens.env": vault.tokens}
    for what, make in makers.items():
        try:
            make(var)
        except (LocalError, OSError) as broken:
            yield Finding(area="secrets", what=what, found="can't be read", mend=str(broken))
            continue
        mode = (var / what).stat().st_mode & 0o777
        mend = f"`chmod 600 {var / what}`"
        yield check("secrets", what, f"complete, mode {mode:o}", good=mode == 0o600, mend=mend)


# --- the declarations -----------------------------------------------------------------------------------------------


def documents(folder: Path = COMPONENTS) -> list[tuple[str, Document]]:
    """Each with its file's name."""
    return [
        (file.name, cast("Document", document))
        for file in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document
    ]


def components(folder: Path = COMPONENTS) -> Iterator[Finding]:
    """Who may use each is an app of `dapr.yaml` or one of `examples/`: a misspelt scope is passed over silently."""
    apps, examples = set(machine.apps()), {folder.name for folder in ROOT.glob("examples/*/")}
    found = documents(folder)
    for file, document in found:
        name = document["metadata"]["name"] if "metadata" in document else file
        if strangers := set(document.get("scopes", [])) - apps - examples:
            mend = f"components/{file}: write an app-id of dapr.yaml, or add the app there"
            yield Finding(area="components", what=name, found=f"scoped to {', '.join(sorted(strangers))}", mend=mend)
    scoped = {scope for _, document in found for scope in document.get("scopes", [])}
    for app_id in sorted(apps - scoped - {"sandbox"}):
        mend = "add it to the scopes in components/ (`brewline new service` does)"
        yield Finding(area="components", what=app_id, found="is in no scope", mend=mend)
    kinds = [document["kind"] for _, document in found if document["kind"] != "Kustomization"]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    yield Finding(area="components", what="declared", found=counted)


def resiliency(folder: Path = COMPONENTS) -> Iterator[Finding]:
    """Each policy is attached to a target, each target is there and names policies that are."""
    found = [document for _, document in documents(folder)]
    specs = [document["spec"] for document in found if document["kind"] == "Resiliency"]
    known = set(machine.apps()) | {
        document["metadata"]["name"] for document in found if document["kind"] in {"HTTPEndpoint", "Component"}
    }
    attached = [each for spec in specs for each in attachments(spec)]
    declared = [
        (word, name) for spec in specs for kind, word in POLICIES.items() for name in spec["policies"].get(kind, {})
    ]
    mend = "components/resiliency.yaml: attach it under targets, or delete it"
    for word, name in declared:
        if (word, name) not in {(kind, policy) for _, kind, policy in attached}:
            yield Finding(area="resiliency", what=f"{word} {name}", found="is attached to nothing", mend=mend)
    for target, word, policy in attached:
        if target not in known:
            mend = f"components/resiliency.yaml: {target} is no app, endpoint or component"
            yield Finding(area="resiliency", what=target, found="does not exist", mend=mend)
        if (word, policy) not in declared:
            mend = f"components/resiliency.yaml: declare the {word} {policy}, or name another"
            yield Finding(area="resiliency", what=target, found=f"names no {word}: {policy}", mend=mend)
    targets = {target for target, _, _ in attached}
    summary = f"{len(declared)} policies, {len(attached)} attachments to {len(targets)} targets"
    yield Finding(area="resiliency", what="declared", found=summary)


def attachments(spec: Document) -> Iterator[tuple[str, str, str]]:
    """Every (target, kind of policy, policy)."""
    for target, policies in spec["targets"].get("apps", {}).items():
        yield from ((target, kind, policy) for kind, policy in policies.items())
    for target, directions in spec["targets"].get("components", {}).items():
        for policies in directions.values():
            yield from ((target, kind, policy) for kind, policy in policies.items())


# --- what runs ------------------------------------------------------------------------------------------------------


def running() -> Iterator[Finding]:
    parts = machine.parts()
    if not parts:
        yield Finding(area="running", what="nothing", found="`brewline up` starts it all")
        return
    dead = machine.dead()
    for name in dead:
        why = f"`brewline logs --service {name.partition('.')[0]} --sidecars` says why"
        yield Finding(area="running", what=name, found="has ended", mend=f"{why}; `brewline up` starts it all again")
    for app in machine.apps().values():
        mend = f"`brewline logs --service {app.app_id}` says what it waits for"
        if app.app_id not in dead:
            yield check("running", app.app_id, "ready" if app.ready else "not ready", good=app.ready, mend=mend)
        if f"{app.app_id}.sidecar" not in dead:
            yield sidecar(app)


def sidecar(app: machine.App) -> Finding:
    """Its version, and whether it has taken every component that is scoped to it."""
    what = f"{app.app_id}'s sidecar"
    headers = {"dapr-api-token": vault.tokens()["DAPR_API_TOKEN"]}
    try:
        answer = httpx.get(
            f"http://{HOST}:{app.sidecar_port}/v1.0/metadata", headers=headers, timeout=5, trust_env=False
        )
        told = answer.raise_for_status().json()
    except httpx.HTTPError as error:
        mend = f"`brewline logs --service {app.app_id} --sidecars` says why; `brewline up` starts it all again"
        return Finding(area="running", what=what, found=f"no answer ({type(error).__name__})", mend=mend)
    loaded = {component["name"] for component in told.get("components", [])}
    declared = {
        document["metadata"]["name"]
        for _, document in documents()
        if document["kind"] == "Component" and app.app_id in document.get("scopes", [app.app_id])
    }
    if missing := declared - loaded:
        mend = f"`brewline logs --service {app.app_id} --sidecars --level warning` says why"
        return Finding(area="running", what=what, found=f"is without {', '.join(sorted(missing))}", mend=mend)
    subscriptions = len(told.get("subscriptions", []))
    return Finding(
        area="running",
        what=what,
        found=f"Dapr {told['runtimeVersion']}, {len(loaded)} components, {subscriptions} subscriptions",
    )
