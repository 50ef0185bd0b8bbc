"""Redis, PostgreSQL, a browser, Java, what runs containers: for `tools/setup.sh`, found or of the system's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stack import containers, local, postgres


def get_redis() -> None:
    """None of its own where REDIS_PORT names one that runs."""
    named = os.environ.get("REDIS_PORT", "")
    if shutil.which("redis-server") or (named.isdigit() and "PONG" in local.redis_says(int(named), "PING")):
        return
    install("redis-server", brew="redis", instead=", or name one that runs: REDIS_PORT=6379")


def get_postgres() -> None:
    if postgres.find() is None and not postgres.container_will_do():
        install("postgresql", brew="postgresql@16")


def get_browser() -> None:
    """Chromium and its driver."""
    if not shutil.which("chromedriver"):
        install("chromium-driver", brew="chromedriver")


def get_java() -> None:
    """Java, and Maven, which fetches what runs on it."""
    if not shutil.which("java"):
        install("default-jre-headless", brew="openjdk")
    if not shutil.which("mvn"):
        install("maven", brew="maven")


def get_containers() -> None:
    """What builds and runs images where no engine works, and what makes a base of Debian's packages. runc, for crun
    refuses the hybrid control groups that some machines have."""
    if containers.find() is None:
        network = ("netavark", "aardvark-dns", "iptables")
        install("podman", "buildah", "runc", *network, brew="podman", instead=", or start your Docker")
    if shutil.which("apt-get") and not shutil.which("debootstrap"):
        install("debootstrap", brew="debootstrap")


def get_cluster() -> None:
    """What a node of Kubernetes stands on; the rest of it is built (programs.py)."""
    tools = {"containerd": "containerd", "runc": "runc", "ip": "iproute2", "iptables": "iptables"}
    missing = [package for program, package in tools.items() if not shutil.which(program)]
    if not Path("/usr/lib/cni/bridge").exists():
        missing.append("containernetworking-plugins")
    if missing:
        install(*missing, brew="none: Linux alone has it")


def install(*packages: str, brew: str, instead: str = "") -> None:
    named = " ".join(packages)
    if not shutil.which("apt-get"):
        hint = f"install it from your system's packages (brew install {brew}){instead}"
        raise local.LocalError(f"{packages[0]} is missing: {hint}")
    if os.geteuid() != 0:
        raise local.LocalError(f"{packages[0]} is missing: run `sudo apt-get install {named}`{instead}")
    print(f"setup: installing {named} from the system's packages", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", "-qq", *words], env=environment, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise local.LocalError(f"`apt-get {' '.join(words)}` failed: {(done.stderr or done.stdout).strip()[-500:]}")


def main() -> int:
    """`run` needs no PostgreSQL: that is for the tests. `browser` and the like are that alone."""
    alone = {"browser": get_browser, "java": get_java, "containers": get_containers, "cluster": get_cluster}
    try:
        if sys.argv[1:] and sys.argv[1] in alone:
            alone[sys.argv[1]]()
            return 0
        get_redis()
        if sys.argv[1:] != ["run"]:
            get_postgres()
    except local.LocalError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
