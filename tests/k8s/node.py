"""The first process of the node's namespaces (see cluster.py), run by its path: makes the node's own /run and /var, and
stays. With its end the kernel ends every other process there, and the mounts and interfaces with the last of them."""

import signal
import subprocess
import sys
from pathlib import Path

# The kubelet sets these, and they are the whole machine's. In the node's eyes they are already as it wants them, so the
# machine's stay as they are.
KERNEL = {
    "kernel/keys/root_maxbytes": 25_000_000,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}
# Of the network namespace alone.
NETWORK = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")
SYSCTL = Path("/proc/sys")
READY = "ready"


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def main(folder: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever loses a parent here becomes a child of this process
    layers = {name: folder / name for name in ("upperdir", "workdir")}
    for layer in layers.values():
        layer.mkdir(parents=True)
    options = ",".join(f"{name}={path}" for name, path in {"lowerdir": "/var", **layers}.items())
    mount("-t", "overlay", "-o", options, "overlay", "/var")
    mount("-t", "tmpfs", "tmpfs", "/run")
    for number, (name, value) in enumerate(KERNEL.items()):
        file = Path(f"/run/kernel-{number}")
        file.write_text(f"{value}\n")
        mount("--bind", file, SYSCTL / name)
    for name in NETWORK:
        (SYSCTL / name).write_text("1\n")
    (folder / READY).touch()
    while True:
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
