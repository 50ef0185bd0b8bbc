"""A Kubernetes of one node on this machine, with Dapr's whole control plane.

It lives in namespaces of its own (processes, mounts, network), whose first process is node.py: with that one everything
ends, containers included. Its programs are built by `tools/setup.sh cluster`; containerd, runc and the network plugins
are Debian's. Nothing is pulled: images come from this machine's engine, and those of Dapr are its programs.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe

import psutil
import yaml
from archives import archive
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from node import READY

import programs
from stack import local
from stack.local import LocalError, scratch, wait_until
from stack.processes import Processes, scratch_home

HERE = Path(__file__).parent
# The two ends of the cable between the node and this machine; the range is for trying networks out (RFC 2544).
CABLE, HOST_ADDRESS, NODE_ADDRESS = "brewline-k8s", "198.18.0.1", "198.18.0.2"
NODE = "node1"
PODS, SERVICES, DNS = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.10"
API = f"https://{NODE_ADDRESS}:6443"
ETCD = "http://127.0.0.1:2379"
PLUGINS = Path("/usr/lib/cni")
ON_PATH = ("containerd", "ctr", "runc", "ip", "iptables", "unshare", "nsenter")
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "brewline-k8s"
DAPR = ("operator", "placement", "scheduler", "sentry", "injector", "daprd")
DAPR_NAMESPACE = "dapr-system"


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    if os.geteuid() != 0:
        return "a cluster needs root"
    ours = {*programs.CLUSTER.programs, *programs.CONTROL_PLANE.programs, *programs.RUNTIME.programs}
    if absent := sorted(name for name in ours if not local.find_program(name, programs.TOOLS_BIN)):
        return f"{', '.join(absent)} not here: tools/setup.sh cluster builds them, about 9 minutes"
    absent = [name for name in ON_PATH if not shutil.which(name)]
    if not (PLUGINS / "bridge").exists():
        absent.append("containernetworking-plugins")
    if absent:
        return f"{', '.join(absent)} not here: tools/setup.sh cluster installs them on Debian"
    return ""


class Cluster:
    """`folder` is whole its own, and its paths short: sockets lie in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes(folder, logs=folder / "logs", cwd=folder)
        self.kubeconfig = folder / "kubeconfig"
        self.laps: dict[str, float] = {}
        self._begun = time.monotonic()
        self._inside: list[str] = []

    # --- asking it ---------------------------------------------------------------------------------------------------

    def kubectl(self, *words: str | Path, stdin: str = "", check: bool = True, within: float = 300) -> str:
        """What it prints. Raises `LocalError` with its last words."""
        return self._tool("kubectl", *words, stdin=stdin, check=check, within=within)

    def helm(self, *words: str | Path) -> str:
        return self._tool("helm", *words)

    def _tool(self, name: str, *words: str | Path, stdin: str = "", check: bool = True, within: float = 300) -> str:
        done = subprocess.run(
            [_program(name), *words],
            input=stdin,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check and done.returncode != 0:
            said = " ".join(str(word) for word in words[:6])
            raise LocalError(f"`{name} {said}` failed: {(done.stderr or done.stdout).strip()[-3000:]}")
        return done.stdout

    def inside(self, *words: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
        """A command run on the node."""
        return subprocess.run([*self._inside, *words], check=True, capture_output=True, **options)  # type: ignore[call-overload]

    def kill_container(self, pod: str, container: str) -> None:
        """Its process dies at once, as of a fault; the kubelet starts it again."""
        wanted = f'labels."io.kubernetes.pod.name"=={pod},labels."io.kubernetes.container.name"=={container}'
        listed = self._ctr("containers", "list", "--quiet", wanted).stdout.decode().split()
        running = {
            line.split()[0] for line in self._ctr("tasks", "list").stdout.decode().splitlines() if "RUNNING" in line
        }
        for identity in running.intersection(listed):
            self._ctr("tasks", "kill", "--signal=SIGKILL", identity)

    # --- up ----------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self._start_node()
        self._start_containerd()
        self._lap("node's namespaces, containerd")
        with ThreadPoolExecutor() as beside:
            images = beside.submit(self._import_own_images)
            self._start_control_plane()
            self._lap("Kubernetes' API answers")
            self._start_kubelet()
            images.result()
        self._lap("Dapr's images")
        self.kubectl("apply", "-f", HERE / "coredns.yaml")
        self._install_dapr()
        self._lap("Dapr")

    def _lap(self, what: str) -> None:
        self.laps[what] = round(time.monotonic() - self._begun, 1)

    def _start(self, name: str, *words: str | Path) -> None:
        self.processes.start(name, [*self._inside, *words])

    def _start_node(self) -> None:
        namespaces = ["--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc"]
        node = self.folder / "node"
        # The system's Python: only what is on every machine may be needed there.
        self.processes.start("node", ["unshare", *namespaces, "python3", "-I", HERE / "node.py", node])
        self.processes.wait_for("node", (node / READY).exists, within=10)
        self._first = psutil.Process(self.processes.started["node"].pid).children()[0].pid
        self._inside = ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", "--ipc"]
        _run("ip", "link", "add", CABLE, "type", "veth", "peer", "name", "machine", "netns", str(self._first))
        _run("ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", CABLE)
        _run("ip", "link", "set", CABLE, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{NODE_ADDRESS}/30", "dev", "machine"),
            ("link", "set", "machine", "up"),
            ("route", "add", "default", "via", HOST_ADDRESS),
        ):
            self.inside("ip", *words)
        for parent in cgroup_parents():
            (parent / CGROUP).mkdir(exist_ok=True)

    def _start_containerd(self) -> None:
        root, network = self.folder / "containerd", self.folder / "network"
        network.mkdir()
        range_ = {"ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
        plugin = bridge | {"ipam": {"type": "host-local", **range_}}
        configuration = {"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]}
        (network / "10-pods.conflist").write_text(json.dumps(configuration))
        # Without `restrict_oom_score_adj` runc may not start a container where this machine gives root less than all.
        settings = self.folder / "containerd.toml"
        settings.write_text(f"""
version = 2
root = "{root}"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:latest"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
""")
        self._start("containerd", "containerd", "--config", settings)
        self.processes.wait_for("containerd", lambda: self._ctr("version").returncode == 0, within=20)

    def _ctr(self, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
        command = [*self._inside, "ctr", "--namespace=k8s.io", *words]
        return subprocess.run(command, check=False, capture_output=True)

    def _import_own_images(self) -> None:
        images = {f"localhost/dapr/{name}:latest": _program(name) for name in DAPR}
        images |= {f"localhost/{name}:latest": _program(name) for name in ("pause", "coredns")}
        file = self.folder / "images.tar"
        archive(file, images)
        self.load(file)
        file.unlink()

    def load(self, file: Path) -> None:
        """The images of an archive that `docker save` or `podman save --format=docker-archive` wrote."""
        done = self._ctr("images", "import", file)
        if done.returncode != 0:
            raise LocalError(f"containerd took no images: {done.stderr.decode()[-1000:]}")

    def tag(self, image: str, tag: str) -> None:
        """The same image under another tag."""
        self._ctr("images", "tag", "--force", image, f"{image.rpartition(':')[0]}:{tag}")

    def _start_control_plane(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key, public = self.folder / "accounts.key", self.folder / "accounts.pub"
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(private.public_key().public_bytes(pem, form))
        token, certificates = token_urlsafe(32), self.folder / "certificates"
        (self.folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        self.processes.start(
            "etcd",
            [
                *self._inside,
                _program("etcd"),
                f"--data-dir={self.folder / 'etcd'}",
                "--unsafe-no-fsync",  # what is lost with the machine is not missed
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
            ],
        )
        self._start(
            "kube-apiserver",
            _program("kube-apiserver"),
            f"--etcd-servers={ETCD}",
            f"--cert-dir={certificates}",
            "--secure-port=6443",
            f"--advertise-address={NODE_ADDRESS}",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
        authority = certificates / "apiserver.crt"
        self._write_kubeconfig(token, authority)
        apiserver = "kube-apiserver"
        self.processes.wait_for(apiserver, authority.exists, within=30, together=["etcd"])
        self.processes.wait_for(
            apiserver, lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok", within=60
        )
        configured = f"--kubeconfig={self.kubeconfig}"
        self._start(
            "kube-controller-manager",
            _program("kube-controller-manager"),
            configured,
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={authority}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--cert-dir={self.folder / 'controllers'}",
        )
        self._start(
            "kube-scheduler",
            _program("kube-scheduler"),
            configured,
            "--leader-elect=false",
            f"--cert-dir={self.folder / 'scheduling'}",
        )
        self._start(
            "kube-proxy",
            _program("kube-proxy"),
            configured,
            "--proxy-mode=iptables",
            f"--cluster-cidr={PODS}",
            f"--hostname-override={NODE}",
            # The table of connections is the whole machine's.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )

    def _write_kubeconfig(self, token: str, authority: Path) -> None:
        name = "brewline"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": API, "certificate-authority": str(authority)}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def _start_kubelet(self) -> None:
        resolver = self.folder / "resolv.conf"
        resolver.touch()
        settings = self.folder / "kubelet.yaml"
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # Dapr's chart hands its pods certificates in volumes that are filled after they started.
            "syncFrequency": "5s",
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "featureGates": {"KubeletInUserNamespace": True},
            "localStorageCapacityIsolation": False,
            "clusterDNS": [DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolver),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 60,
        }
        settings.write_text(yaml.safe_dump(document))
        self._start(
            "kubelet",
            _program("kubelet"),
            f"--config={settings}",
            f"--kubeconfig={self.kubeconfig}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-certificates'}",
        )
        ready = ["get", "node", NODE, "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"]
        self.processes.wait_for(
            "kubelet", lambda: self.kubectl(*ready, check=False) == "True", within=60, together=["containerd"]
        )

    def _install_dapr(self) -> None:
        """With mTLS, as the chart has it. What its parts ask for at their start is there before them: installed in one
        go, sentry may die for want of the Configuration's definition, and the rest waits for it in ever longer pauses.
        """
        chart = self.folder / "chart"
        _, module = programs.dapr_module()
        shutil.copytree(module / "charts" / "dapr", chart)  # the module cache is read-only
        _run("chmod", "-R", "u+w", str(chart))
        self.kubectl("create", "namespace", DAPR_NAMESPACE)
        self.kubectl("apply", "--server-side", "-f", chart / "crds")
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        configuration = "charts/dapr_config/templates/dapr_default_config.yaml"
        rendered = self.helm("template", "dapr", chart, f"--namespace={DAPR_NAMESPACE}", "--show-only", configuration)
        self.kubectl("apply", f"--namespace={DAPR_NAMESPACE}", "-f", "-", stdin=rendered)
        values = [
            "global.registry=localhost/dapr",
            "global.tag=latest",
            "global.imagePullPolicy=Never",
            "dapr_scheduler.cluster.inMemoryStorage=true",
            "dapr_sidecar_injector.sidecarDropALLCapabilities=true",  # else the namespace lets no sidecar in
        ]
        named = [word for value in values for word in ("--set", value)]
        where = [f"--namespace={DAPR_NAMESPACE}", "--skip-crds", "--take-ownership"]
        self.helm("install", "dapr", chart, *where, *named, "--wait", "--timeout=4m")

    # --- down --------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """The first process ends, and the kernel ends all the rest."""
        if first := getattr(self, "_first", None):
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(first).kill()
        for process in self.processes.started.values():
            process.wait(30)
        wait_until(lambda: not Path("/sys/class/net", CABLE).exists(), within=20, what="the end of the node's network")
        remove_cgroups()


@contextlib.contextmanager
def cluster() -> Generator[Cluster]:
    """A running one, alone on this machine."""
    with (Path(tempfile.gettempdir()) / f"{CGROUP}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("another cluster runs on this machine") from None
        # Of a run that was killed nothing else is left.
        remove_cgroups()
        for folder in scratch().glob("brewline-k8s-*"):
            shutil.rmtree(folder)
        with scratch_home("k8s") as home:
            made = Cluster(home / "var")
            try:
                made.up()
                yield made
            finally:
                made.down()


def cgroup_parents() -> list[Path]:
    """Where a group is made: in each controller's tree, or in the one that there is."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def remove_cgroups() -> None:
    for parent in cgroup_parents():
        for group, _, _ in os.walk(parent / CGROUP, topdown=False):
            wait_until(lambda group=group: _removed(Path(group)), within=20, what=f"the end of {group}")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # its last process is still on its way out
        return not group.exists()
    return True


def _program(name: str) -> Path:
    found = local.find_program(name, programs.TOOLS_BIN)
    if found is None:
        raise LocalError(f"{name} is missing: tools/setup.sh cluster")
    return found.resolve()


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LocalError(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
