"""k8s/base is what Kubernetes and Dapr accept, and its Dapr objects are those of components/."""

import copy
from pathlib import Path

import pytest
import yaml

import manifests

REDIS = {"pubsub", "statestore", "workflowstore"}
SERVICES = ("order-service", "payment-service", "notification-service")


@pytest.fixture(scope="module")
def dapr():
    return manifests.read_dapr(*manifests.dapr_module())


@pytest.fixture(scope="module")
def base():
    return [manifest for _, manifest in manifests.render(manifests.K8S / "base")]


@pytest.fixture(scope="module")
def local_run():
    return yaml.safe_load((manifests.ROOT / "dapr.yaml").read_text())


def one(objects, kind, name):
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def shared():
    return [manifest for _, manifest in manifests.documents(manifests.COMPONENTS)]


BAD = {
    "an unknown field": (
        "spec.policies.retries.calls",
        """
        apiVersion: dapr.io/v1alpha1
        kind: Resiliency
        metadata: {name: bad}
        spec: {policies: {retries: {calls: {policy: constant, maxRetry: 3}}}, targets: {}}
        """,
    ),
    "a text where a number belongs": (
        "spec.policies.circuitBreakers.payment.maxRequests",
        """
        apiVersion: dapr.io/v1alpha1
        kind: Resiliency
        metadata: {name: bad}
        spec: {policies: {circuitBreakers: {payment: {maxRequests: one}}}, targets: {}}
        """,
    ),
    "a component without its version": (
        "spec",
        """
        apiVersion: dapr.io/v1alpha1
        kind: Component
        metadata: {name: bad}
        spec: {type: state.redis, metadata: []}
        """,
    ),
    "scopes below spec": (
        "spec",
        """
        apiVersion: dapr.io/v2alpha1
        kind: Subscription
        metadata: {name: bad}
        spec: {pubsubname: pubsub, topic: orders, routes: {default: /events}, scopes: [order-service]}
        """,
    ),
    "misspelt metadata": (
        "metadata",
        """
        apiVersion: dapr.io/v1alpha1
        kind: HTTPEndpoint
        metadata: {name: bad, label: {}}
        spec: {baseUrl: "http://localhost"}
        """,
    ),
    "a version that Dapr does not have": (
        "kind",
        """
        apiVersion: dapr.io/v3
        kind: Component
        metadata: {name: bad}
        """,
    ),
    "a kind that Kubernetes does not have": (
        "kind",
        """
        apiVersion: apps/v1
        kind: Deploymnt
        metadata: {name: bad}
        """,
    ),
    "a misspelt field of a service": (
        "spec.ports.0",
        """
        apiVersion: v1
        kind: Service
        metadata: {name: bad}
        spec: {ports: [{port: 80, targetport: http}]}
        """,
    ),
    "a misspelt annotation": (
        "spec.template.metadata.annotations.dapr.io/appid",
        """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: bad}
        spec:
          selector: {matchLabels: {a: b}}
          template:
            metadata: {labels: {a: b}, annotations: {dapr.io/appid: order-service}}
            spec: {containers: [{name: app, image: brewline/order}]}
        """,
    ),
    "no kind at all": ("", "metadata: {name: bad}"),
}


@pytest.mark.parametrize(("field", "text"), BAD.values(), ids=BAD.keys())
def test_a_bad_manifest_is_refused_with_its_file_and_field(dapr, tmp_path: Path, field, text):
    (tmp_path / "bad.yaml").write_text(text)
    ((file, manifest),) = manifests.documents(tmp_path)
    problems = list(manifests.check(file, manifest, dapr))
    assert [problem.field for problem in problems] == [field]
    assert problems[0].file == str(tmp_path / "bad.yaml")


def test_a_folder_that_does_not_render_is_refused_with_its_name(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]")
    with pytest.raises(manifests.CheckError, match=f"{tmp_path} does not render"):
        manifests.render(tmp_path)


def test_a_file_that_is_not_yaml_is_refused_with_its_name(tmp_path: Path):
    (tmp_path / "torn.yaml").write_text("a: [")
    with pytest.raises(manifests.CheckError, match=r"torn\.yaml is not YAML"):
        list(manifests.documents(tmp_path))


def test_a_rendered_object_is_reported_under_the_file_it_came_from(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: [space.yaml]")
    (tmp_path / "space.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: here}")
    expected = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}}
    assert manifests.render(tmp_path) == [(str(tmp_path / "space.yaml"), expected)]


def test_the_manifests_of_this_repository_are_accepted(capsys: pytest.CaptureFixture[str]):
    assert manifests.main() == 0, capsys.readouterr().err
    assert ", valid (" in capsys.readouterr().out


def test_every_file_of_components_is_deployed():
    listed = yaml.safe_load((manifests.COMPONENTS / "kustomization.yaml").read_text())["resources"]
    present = {file.name for file in manifests.COMPONENTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == present


def in_the_cluster(manifest):
    """A shared object as the base deploys it: its namespace and the addresses patched, nothing else."""
    patched = copy.deepcopy(manifest)
    patched["metadata"] |= {"namespace": "brewline", "labels": {"app.kubernetes.io/part-of": "brewline"}}
    if patched["kind"] == "HTTPEndpoint":
        patched["spec"]["baseUrl"] = "https://provider.invalid"
    if patched["kind"] == "Component" and patched["metadata"]["name"] in REDIS:
        password = {"name": "redisPassword", "secretKeyRef": {"name": "brewline-redis", "key": "password"}}
        patched["spec"]["metadata"][0]["value"] = "redis:6379"
        patched["spec"]["metadata"].append(password)
    return patched


def test_the_cluster_runs_the_shared_dapr_objects_but_for_addresses(base):
    def by_name(objects):
        return {(o["kind"], o["metadata"]["name"]): o for o in objects if o["apiVersion"].startswith("dapr.io/")}

    assert by_name(base) == by_name(map(in_the_cluster, shared()))


def test_no_address_of_one_machine_and_no_sandbox_reaches_the_cluster(base):
    text = yaml.safe_dump_all(base)
    assert "localhost" not in text
    assert "127.0.0.1" not in text
    assert "sandbox" not in text


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_ports_and_health_checks_of_the_local_run(base, local_run, name):
    app = next(app for app in local_run["apps"] if app["appID"] == name)
    pod = one(base, "Deployment", name)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    port = str(app["appPort"])
    annotations = pod["metadata"]["annotations"]
    assert annotations["dapr.io/app-id"] == name
    assert annotations["dapr.io/app-port"] == port
    assert {"name": "APP_PORT", "value": port} in container["env"]
    assert container["ports"] == [{"name": "http", "containerPort": app["appPort"]}]
    assert container["command"][1:] == app["command"][1:]
    assert annotations["dapr.io/app-health-check-path"] == local_run["common"]["appHealthCheckPath"]
    assert annotations["dapr.io/app-health-probe-timeout"] == str(local_run["common"]["appHealthProbeTimeout"])
    assert one(base, "Configuration", annotations["dapr.io/config"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reached_and_guarded_by_its_own_label(base, name):
    deployment = one(base, "Deployment", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert one(base, "Service", name)["spec"]["selector"].items() <= labels.items()
    assert one(base, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one(base, "ServiceAccount", deployment["template"]["spec"]["serviceAccountName"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_it_does_not_need(base, name):
    pod = one(base, "Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"livenessProbe", "readinessProbe", "startupProbe", "resources"} <= container.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_outlives_the_shutdown_of_its_sidecar(base, name):
    template = one(base, "Deployment", name)["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    block = int(annotations["dapr.io/block-shutdown-duration"].removesuffix("s"))
    close = int(annotations["dapr.io/graceful-shutdown-seconds"])
    assert block + close < template["spec"]["terminationGracePeriodSeconds"]
