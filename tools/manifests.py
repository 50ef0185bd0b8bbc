"""`make check`: renders k8s/ with kustomize and refuses what Kubernetes 1.34 or Dapr's schemas would not take whole.

daprd and a plain `kubectl apply` drop a field they don't know without a word, so an unknown field is an error here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

from programs import dapr_module, go
from stack.local import LocalError

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "tools" / "bin"
COMPONENTS = ROOT / "components"
K8S = ROOT / "k8s"
KUBERNETES = "1.34"
KUSTOMIZE_MODULE = "sigs.k8s.io/kustomize/kustomize/v5"
KUSTOMIZE_MAJOR = re.compile(r"^(?:Kustomize Version: )?v(\d+)\.", re.MULTILINE)
# Of others that overlays use: where in their modules, which tools/crds pins, the schemas of those kinds are.
CRDS = ROOT / "tools" / "crds"
OTHERS = {
    "github.com/external-secrets/external-secrets": "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    "github.com/kedacore/keda/v2": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "sigs.k8s.io/gateway-api": "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
}
ORIGIN = "config.kubernetes.io/origin"

Manifest = dict[str, Any]


class CheckError(Exception):
    """A folder that can't be rendered: one sentence for a person."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`field` is dotted, empty where the whole object is meant."""

    file: str
    subject: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.subject}: {self.field or '(object)'}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Dapr:
    """What Dapr's pinned release accepts, and others beside it: a schema for each (apiVersion, kind), and the
    annotations of a pod."""

    version: str
    schemas: dict[tuple[str, str], Manifest]
    annotations: frozenset[str]


def main() -> int:
    try:
        dapr = read_dapr(*dapr_module())
        kustomize()  # built before several threads would
        with ThreadPoolExecutor() as pool:
            rendered = pool.map(render, kustomizations())
            found = [*(each for root in rendered for each in root), *documents(COMPONENTS)]
    except (CheckError, LocalError) as refusal:
        print(f"manifests: {refusal}", file=sys.stderr)
        return 1
    # What an overlay leaves as its base has it is looked at once.
    distinct = {json.dumps(each, default=str): each for each in found}.values()
    problems = dict.fromkeys(str(problem) for file, manifest in distinct for problem in check(file, manifest, dapr))
    for problem in problems:
        print(problem, file=sys.stderr)
    verdict = f"problems: {len(problems)}" if problems else "valid"
    print(f"manifests: {len(found)} objects, {verdict} (Kubernetes {KUBERNETES}, Dapr {dapr.version})")
    return 1 if problems else 0


# Checking


def check(file: str, manifest: Manifest, dapr: Dapr) -> Iterator[Problem]:
    """What is wrong with one object; nothing when it would be taken as it stands."""
    kind = str(manifest.get("kind", "?"))
    subject = f"{kind}/{at(manifest, 'metadata', 'name') or '?'}"
    api_version = str(manifest.get("apiVersion", "?"))
    schema = dapr.schemas.get((api_version, kind))
    errors = (
        dapr_errors(manifest, schema) if schema or api_version.startswith("dapr.io/") else kubernetes_errors(manifest)
    )
    for field, message in (*errors, *annotation_errors(manifest, dapr.annotations)):
        yield Problem(file=file, subject=subject, field=field, message=message)


def dapr_errors(manifest: Manifest, schema: Manifest | None) -> Iterator[tuple[str, str]]:
    if schema is None:
        yield "kind", f"Dapr has no {manifest.get('kind')} in {manifest.get('apiVersion')}"
        return
    validator: Any = Draft202012Validator(schema)  # its own types stop half-way
    for error in validator.iter_errors(manifest):
        yield ".".join(map(str, error.absolute_path)), error.message


def kubernetes_errors(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if missing := {"apiVersion", "kind"} - manifest.keys():
        yield "", f"no {' and no '.join(sorted(missing))}"
        return
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield ".".join(map(str, error.absolute_path)), error.message
    except kubernetes_validate.SchemaNotFoundError as error:
        yield "kind", error.message


def annotation_errors(manifest: Manifest, known: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The injector ignores an annotation that it does not know, a misspelt one included."""
    annotations: Manifest = at(manifest, "spec", "template", "metadata", "annotations") or {}
    for name in annotations:
        if name.startswith("dapr.io/") and name not in known:
            yield f"spec.template.metadata.annotations.{name}", "Dapr's injector knows no such annotation"


def at(value: Any, *path: str) -> Any:
    """What stands at the path, None where the way there is no mapping: the object may be wrong in any place."""
    for name in path:
        value = cast("Manifest", value).get(name) if isinstance(value, dict) else None
    return value


# Dapr's schemas


def read_dapr(version: str, module: Path) -> Dapr:
    crds = sorted((module / "charts" / "dapr" / "crds").glob("*.yaml"))
    if not crds:
        raise CheckError(f"no CRDs in {module}/charts/dapr/crds: run `go clean -modcache` and try again")
    crds += other_crds()
    source = (module / "pkg" / "injector" / "annotations" / "annotations.go").read_text()
    return Dapr(
        version=version,
        schemas={key: schema for crd in crds for key, schema in crd_schemas(crd)},
        annotations=frozenset(re.findall(r'"(dapr\.io/[a-z0-9-]+)"', source)),
    )


def other_crds() -> list[Path]:
    """Downloaded where they are missing; by version, or go would fetch all that those modules are built of."""
    pinned = re.findall(r"^\t(\S+) (v\S+)$", (CRDS / "go.mod").read_text(), re.MULTILINE)
    answers = go("mod", "download", "-json", *(f"{module}@{version}" for module, version in pinned), folder=CRDS)
    found: list[Path] = []
    for answer in re.split(r"(?<=^})\n", answers.strip(), flags=re.MULTILINE):
        module = json.loads(answer)
        found.append(Path(module["Dir"]) / OTHERS[module["Path"]])
    return found


def crd_schemas(file: Path) -> Iterator[tuple[tuple[str, str], Manifest]]:
    for crd in read_yaml(file):
        spec = crd["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = METADATA
            schema["required"] = ["apiVersion", "kind", "metadata"]
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


# A CRD leaves metadata to the API server, which knows these fields among others that no file of ours sets.
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA: Manifest = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": TEXTS,
        "annotations": TEXTS,
    },
    "additionalProperties": False,
}


def strict(schema: Manifest) -> Manifest:
    """The schema refusing what it does not name, as `kubectl --validate=strict` would; open parts stay open."""
    closed = dict(schema)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            closed[word] = strict(schema[word])
    if "properties" in schema:
        closed["properties"] = {name: strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed


# Reading and rendering


def kustomizations() -> list[Path]:
    """The base and every overlay."""
    return [K8S / "base", *sorted(file.parent for file in K8S.glob("overlays/*/kustomization.yaml"))]


def documents(folder: Path) -> Iterator[tuple[str, Manifest]]:
    """Each object of a folder of plain manifests with its file's name; kustomize reads its own file itself."""
    for file in sorted(folder.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            for manifest in read_yaml(file):
                yield shown(file), manifest


def render(root: Path) -> list[tuple[str, Manifest]]:
    """What kustomize makes of a folder, each object with the file it came from."""
    command = kustomize()
    with tempfile.TemporaryDirectory() as name:
        around = Path(name).resolve()
        # An overlay around the folder asks for the origins, so that the folder itself need not carry them.
        overlay = {"resources": [os.path.relpath(root.resolve(), around)], "buildMetadata": ["originAnnotations"]}
        (around / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        built = run(*command, str(around))
        if built.returncode != 0:
            # Asked without the overlay, kustomize speaks of the folder's own mistake alone.
            raise CheckError(f"{shown(root)} does not render: {run(*command, str(root)).stderr.strip()}")
        return [(origin(manifest, around), manifest) for manifest in load_all(built.stdout)]


def origin(manifest: Manifest, around: Path) -> str:
    """Takes kustomize's note about the file off the object."""
    annotations = manifest["metadata"]["annotations"]
    note = yaml.safe_load(annotations.pop(ORIGIN))
    if not annotations:
        del manifest["metadata"]["annotations"]
    return shown(around / note["path"])


def read_yaml(file: Path) -> list[Manifest]:
    try:
        return load_all(file.read_text())
    except yaml.YAMLError as broken:
        raise CheckError(f"{shown(file)} is not YAML: {' '.join(str(broken).split())}") from broken


def load_all(text: str) -> list[Manifest]:
    # libyaml reads Dapr's CRDs ten times faster than the Python parser.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [manifest for manifest in yaml.load_all(text, loader) if manifest]


def shown(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(ROOT) if resolved.is_relative_to(ROOT) else resolved)


# The programs


@cache
def kustomize() -> list[str]:
    """The command that renders: one found on PATH from version 5 on, else the pinned one, built at first use."""
    if found_major("kustomize", "version"):
        return ["kustomize", "build"]
    if found_major("kubectl", "version", "--client"):
        return ["kubectl", "kustomize"]
    built = BIN / "kustomize"
    if not built.exists():
        print("manifests: building kustomize (half a minute, once) …", flush=True)
        flags = ("-trimpath", "-ldflags", "-s -w")
        go("build", *flags, "-o", str(built), KUSTOMIZE_MODULE, folder=ROOT / "tools" / "kustomize")
    return [str(built), "build"]


def found_major(program: str, *ask: str) -> bool:
    if shutil.which(program) is None:
        return False
    version = KUSTOMIZE_MAJOR.search(run(program, *ask).stdout)
    return version is not None and int(version[1]) >= 5  # the first with origins and `labels`


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
