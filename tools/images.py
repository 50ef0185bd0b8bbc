"""`make images`: an image of each service and of the sandbox, with a bill of materials beside it in var/images, and
Redis and PostgreSQL for a cluster on one machine. Of one commit and base, podman and buildah make the same image twice.

Files and layers are of SOURCE_DATE_EPOCH, which is the same for every commit unless it is set: so a layer that has not
changed, such as that of the packages, is the same one in the next version too. When a commit was made, a label says.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from stack import containers
from stack.containers import Engine
from stack.local import LocalError

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "var" / "images"
SERVICES = (*sorted(path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")), "sandbox")
STORES = ("postgres", "redis")
# Of the Dockerfile too. Debian's release here has the same Python.
BASE_IMAGE = "python:3.11-slim-bookworm"
LOCAL_BASE = "local"
EPOCH = 315_532_800  # 1980, before which a wheel has no times
DEBIAN = "bookworm"
# Nothing of it is run or read in an image.
LEFT_OUT = (
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "dev/*",
    *(f"usr/share/{of}/*" for of in ("doc", "man", "locale", "info")),
)


class Builder:
    def __init__(self, engine: Engine, *, registry: str, tag: str, base: str) -> None:
        self.engine = engine
        self.registry = registry
        self.tag = tag
        self.epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
        self.committed_at = datetime.fromtimestamp(int(git("log", "-1", "--format=%ct") or self.epoch), UTC)
        self.base = self.get_base(base)

    def name_of(self, image: str, *, tag: str = "") -> str:
        return f"{self.registry}/brewline/{image}:{tag or self.tag}"

    def build(self, folder: Path, *options: str, **arguments: str) -> None:
        """`arguments` are build arguments. While it is built, the certificates that SSL_CERT_FILE names are there."""
        certificates = os.environ.get("SSL_CERT_FILE", "")
        limits = [f"--ulimit={name}={most}:{most}" for name, most in self.engine.limits().items()]
        # The cache doesn't ask of what time a layer is.
        cache = "--layers" if self.epoch == EPOCH else "--no-cache"
        same_twice = [] if self.engine.name == "docker" else [f"--timestamp={self.epoch}", cache]
        settings = {"SOURCE_DATE_EPOCH": str(self.epoch)} | arguments
        self.engine.run(
            "build",
            *same_twice,
            *limits,
            *([f"--secret=id=ca,src={certificates}"] if Path(certificates).is_file() else []),
            *(f"--build-arg={name}={value}" for name, value in settings.items()),
            *options,
            folder,
        )

    def get_base(self, asked: str) -> str:
        """The image all others are built on."""
        wanted = asked or BASE_IMAGE
        if wanted != LOCAL_BASE and (self.engine.has(wanted) or self.engine.ask("pull", wanted).returncode == 0):
            return wanted
        if asked not in ("", LOCAL_BASE):
            raise LocalError(f"{asked} is not here, and {self.engine.name} cannot pull it; BASE_IMAGE=local makes one")
        base = self.name_of("base", tag=DEBIAN)
        if not asked:
            say(f"no registry gives {BASE_IMAGE}, so the base is {base}, of Debian's packages")
        if not self.engine.has(base):
            say(f"{base}: a minute, once; remove it to have it made anew")
            folder = root_file_system()
            self.build(folder, f"--tag={base}")
            shutil.rmtree(folder)
        return base

    def service(self, name: str) -> None:
        image = self.name_of(name)
        arguments = {"SERVICE": name, "BASE_IMAGE": self.base}
        self.build(ROOT, f"--tag={image}", *self.labels(name), **arguments)
        parts = OUT / f".{name}"
        self.build(ROOT, "--target=sbom", f"--output=type=local,dest={parts}", **arguments)
        bill = self.bill_of_materials(name, parts)
        shutil.rmtree(parts)
        self.tell(image, f"; {bill.relative_to(ROOT)}")

    def store(self, name: str) -> None:
        image = self.name_of(name)
        self.build(ROOT / "tools" / "stores" / name, f"--tag={image}", BASE_IMAGE=self.base)
        self.tell(image)

    def labels(self, name: str) -> list[str]:
        # Not by the Dockerfile: buildah 1.28 takes a LABEL for the same whatever a build argument puts into it.
        labels = {
            "title": f"brewline/{name}",
            "description": f"Brewline's {name}",
            "licenses": "Apache-2.0",
            "version": self.tag,
            "revision": git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") or "unknown",
            "created": self.committed_at.isoformat(),
        }
        return [f"--label=org.opencontainers.image.{label}={value}" for label, value in labels.items()]

    def save(self, names: Sequence[str], file: Path) -> None:
        """All in one docker-archive, layers that they share but once: `ctr images import` and `docker load` read it."""
        if self.engine.name == "buildah":
            raise LocalError("buildah writes no archive of several images; podman does, and sees buildah's images")
        file.unlink(missing_ok=True)
        several = ["--multi-image-archive"] if self.engine.name == "podman" else []
        self.engine.run("save", *several, f"--output={file}", *(self.name_of(name) for name in names))
        say(f"{file}, {file.stat().st_size // 2**20} MB")

    def tell(self, image: str, more: str = "") -> None:
        size, *_ = self.engine.run("images", "--format={{.Size}}", image).splitlines()
        say(f"{image}, {size}{more}")

    def bill_of_materials(self, name: str, parts: Path) -> Path:
        """CycloneDX: what cyclonedx-bom found of Python's packages, and Debian's of the base."""
        bill: dict[str, Any] = json.loads((parts / "packages.json").read_text())
        for paragraph in (parts / "status").read_text().strip().split("\n\n"):
            package = Parser().parsestr(paragraph)
            where = {"arch": package["Architecture"]}
            url = PackageURL("deb", "debian", package["Package"], package["Version"], qualifiers=where).to_string()
            what = {"type": "library", "name": package["Package"], "version": package["Version"]}
            bill["components"].append(what | {"bom-ref": url, "purl": url})
        bill["metadata"]["timestamp"] = self.committed_at.isoformat()
        bill["metadata"]["component"] = {
            "type": "container",
            "bom-ref": "image",
            "name": f"brewline/{name}",
            "version": self.tag,
        }
        everything = [component["bom-ref"] for component in bill["components"]]
        bill["dependencies"].append({"ref": "image", "dependsOn": everything})
        file = OUT / f"{name}.cdx.json"
        file.write_text(json.dumps(bill, indent=2))
        return file


def root_file_system() -> Path:
    """A folder with a small Debian that has Python, as an archive, and its Dockerfile."""
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise LocalError("a base of Debian's packages needs root and debootstrap (tools/setup.sh containers)")
    folder = OUT / ".base"
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    command("debootstrap", "--variant=minbase", "--include=ca-certificates,python3", DEBIAN, tree)
    left_out = [f"--exclude=./{pattern}" for pattern in LEFT_OUT]
    command(
        "tar",
        "--create",
        "--numeric-owner",
        "--sort=name",
        *left_out,
        f"--file={folder}/tree.tar",
        f"--directory={tree}",
        ".",
    )
    shutil.rmtree(tree)
    (folder / "Dockerfile").write_text('FROM scratch\nADD tree.tar /\nCMD ["bash"]\n')
    return folder


def command(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"`{words[0]}` failed:\n{(done.stderr or done.stdout).strip()[-1500:]}")


def git(*words: str) -> str:
    """Empty where this is no clone."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def say(words: str) -> None:
    print(f"images: {words}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join((*SERVICES, *STORES))}; none: all")
    parser.add_argument("--engine", default="", help="docker, podman or buildah; none: the first that works")
    parser.add_argument("--registry", default="localhost", help="what the names begin with; localhost is nobody's")
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--base", default="", help=f"any Debian with Python 3.11; none: {BASE_IMAGE}; local: made here")
    parser.add_argument("--archive", type=Path, help="all of them too, for a containerd without a registry")
    asked = parser.parse_args()
    names: list[str] = asked.names or [*SERVICES, *STORES]
    if unknown := set(names) - {*SERVICES, *STORES}:
        parser.error(f"no such image: {', '.join(unknown)}")
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        builder = Builder(containers.need(asked.engine), registry=asked.registry, tag=asked.tag, base=asked.base)
        for name in names:
            (builder.store if name in STORES else builder.service)(name)
        if asked.archive:
            builder.save(names, asked.archive)
    except LocalError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
