"""A whole Brewline as `make up` runs it, with its data in a folder of its own, and
beside it what a page says to type."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from snippets import ROOT, snippets

from cli import machine
from stack import local

MADE_HERE = shutil.ignore_patterns("node_modules", "built", "generated", ".dapr", "partner")


class Elsewhere:
    """`home` has what the pages name below the repository's root; of the examples a copy, on ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        usual = {machine.variable(app.app_id, "PORT"): app.port for app in machine.apps().values()}
        sidecars = [machine.variable(app_id, "SIDECAR_PORT") for app_id in machine.apps()]
        ports = {name: str(local.free_port()) for name in (*usual, *sidecars, "SANDBOX_SMTP_PORT")}
        self._ports = {str(port): ports[name] for name, port in usual.items()}
        path = f"{ROOT / 'tools' / 'bin'}:{os.environ['PATH']}"
        # What tools/setup.sh examples has fetched is at hand.
        self.env = os.environ | ports | {"BREWLINE_HOME": str(home), "PATH": path, "npm_config_prefer_offline": "true"}
        for name in (".venv", "contracts", "tools"):
            (home / name).symlink_to(ROOT / name)
        (home / "examples").mkdir()
        shutil.copy(ROOT / "examples" / "config.yaml", home / "examples")
        for example in (ROOT / "examples").glob("*/"):
            shutil.copytree(example, home / "examples" / example.name, ignore=MADE_HERE)
            for file in (home / "examples" / example.name).glob("dapr.yaml"):
                entry = file.read_text()
                usual_port = entry.partition("appPort: ")[2].split()[0]
                self._ports[usual_port] = str(local.free_port())
                file.write_text(entry.replace(f"appPort: {usual_port}", f"appPort: {self._ports[usual_port]}"))

    def here(self, words: str) -> str:
        """The same words with these ports, and with the root for make, which would set this folder up anew."""
        for usual, port in self._ports.items():
            words = words.replace(f"localhost:{usual}", f"localhost:{port}")
        return words.replace("make -s -C ../..", "make -s").replace("make -s", f"make -s -C {ROOT}")

    def typed(self, commands: str, *, at: str = "") -> str:
        """What a shell in the folder `at` shows that stops at the first command which fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail"],
            input=self.here(commands),
            env=self.env,
            cwd=self.home / at,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def goes_on(self, commands: str, *, at: str) -> Generator[Path]:
        """While what the last command starts runs; what it shows is in that file. Ends as by Ctrl-C, and has to end:
        what it has started a moment after itself."""
        log = self.home / "goes-on.log"
        line = "set -euo pipefail\n" + self.here(commands).replace("dapr run", "exec dapr run")
        with log.open("w") as shown:
            process = subprocess.Popen(
                ["bash", "-c", line], env=self.env, cwd=self.home / at, stdout=shown, stderr=shown
            )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
        folder = str(self.home / at)

        def all_gone() -> bool:
            return not any(folder in (each.info["cwd"] or "") for each in psutil.process_iter(["cwd"]))

        local.wait_until(all_gone, within=15, what=f"the end of what {at} has started")

    def client(self, app: str, role: str = "staff") -> httpx.Client:
        """Of a service's API; close it, or use it as a context."""
        token = self.typed(f".venv/bin/brewline token --role {role}").strip()
        return httpx.Client(
            base_url=f"http://localhost:{self.env[f'{app}_PORT']}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=30,
        )

    def get(self, address: str) -> Any:
        return json.loads(httpx.get(self.here(address), trust_env=False).text)


def told_by(page: str, language: str = "sh") -> list[str]:
    """The page's blocks of that language, in order."""
    return [one.text for one in snippets() if (one.page, one.language) == (page, language)]
