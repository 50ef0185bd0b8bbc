"""Images that are one program and nothing else: an archive as `docker save` writes it, made without an engine."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive(target: Path, programs: Mapping[str, Path]) -> None:
    """`programs` by the image's name and tag. Each runs as the user 65532 and stands at the root, by its own name."""
    manifest: list[dict[str, object]] = []
    with tarfile.open(target, "w") as whole:
        for image, program in programs.items():
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                info = tar.gettarinfo(program, arcname=program.name)
                info.uid = info.gid = info.mtime = 0
                info.mode = 0o755
                with program.open("rb") as opened:
                    tar.addfile(info, opened)
            digest = hashlib.sha256(layer.getvalue()).hexdigest()
            config = json.dumps(
                {
                    "architecture": ARCHITECTURES[platform.machine()],
                    "os": "linux",
                    "config": {"User": "65532:65532", "Entrypoint": [f"/{program.name}"]},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                }
            ).encode()
            configured = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(whole, f"{digest}/layer.tar", layer.getvalue())
            _add(whole, configured, config)
            manifest.append({"Config": configured, "RepoTags": [image], "Layers": [f"{digest}/layer.tar"]})
        _add(whole, "manifest.json", json.dumps(manifest).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
