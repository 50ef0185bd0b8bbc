"""k8s/base is what Kubernetes and Dapr accept, and its Dapr objects are those of components/."""

import copy
import re
from pathlib import Path

import pytest
import yaml

import manifests
from cli import machine

REDIS = {"pubsub", "statestore", "workflowstore"}
SERVICES = tuple(app for app in machine.apps() if app != "sandbox")
# Run on a machine, beside the services: in a cluster their own team deploys them.
EXAMPLES = ("kitchen-display", "partner", "plain", "sandbox")
NOBODY = {"defaultAction": "deny", "trustDomain": "public"}
POST_ONLY = {"httpVerb": ["POST"], "action": "allow"}


def calls(caller, *paths):
    named = {"appId": caller, "defaultAction": "deny", "trustDomain": "public", "namespace": "brewline"}
    return named | {"operations": [{"name": path, **POST_ONLY} for path in paths]}


EXPORTS = calls("backoffice-service", "/export-page")
COMMON = {**NOBODY, "policies": [calls("notification-service", "/events/*", "/person-data"), EXPORTS]}
CHARGES = calls("order-service", "/process-payment", "/refund-payment")
POLICIES = dict.fromkeys(SERVICES, COMMON) | {
    "payment-service": {**NOBODY, "policies": [CHARGES, EXPORTS, calls("notification-service", "/events/*")]},
    "backoffice-service": {
        **NOBODY,
        "policies": [
            calls("order-service", "/settings-snapshot"),
            calls("payment-service", "/settings-snapshot"),
            calls("datasource-service", "/settings-snapshot"),
            calls("notification-service", "/settings-snapshot", "/person-data", "/events/*"),
        ],
    },
}


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
    """A shared object as the base deploys it: namespace, addresses, where secrets come from, and the policy."""
    patched = copy.deepcopy(manifest)
    patched["metadata"] |= {"namespace": "brewline", "labels": {"app.kubernetes.io/part-of": "brewline"}}
    kind, name = patched["kind"], patched["metadata"]["name"]
    if kind == "HTTPEndpoint":
        patched["spec"]["baseUrl"] = "https://provider.invalid"
    if kind == "Component" and name in REDIS:
        host, password, *_ = patched["spec"]["metadata"]
        host["value"] = "redis:6379"
        password["secretKeyRef"]["name"] = "brewline-redis"
        del patched["auth"]  # there the operator reads it
    if (kind, name) == ("Component", "secrets"):
        patched["spec"] |= {"type": "secretstores.kubernetes", "metadata": []}
    if kind == "Configuration":
        patched["spec"]["accessControl"] = COMMON
    return patched


def test_the_cluster_runs_the_shared_dapr_objects_but_for_addresses_secrets_and_policies(base):
    def by_name(objects):
        return {(o["kind"], o["metadata"]["name"]): o for o in objects if o["apiVersion"].startswith("dapr.io/")}

    deployed = by_name(base)
    for name in ("payment-service", "backoffice-service"):
        del deployed["Configuration", name]
    policies = [key for key in deployed if key[0] == "WorkflowAccessPolicy"]
    assert {name for _, name in policies} == set(one(base, "Component", "workflowstore")["scopes"])
    for key in policies:
        del deployed[key]
    assert deployed == by_name(map(in_the_cluster, shared()))


@pytest.mark.parametrize(("name", "policy"), POLICIES.items())
def test_an_app_is_called_by_whom_its_policy_names_and_nobody_else(base, name, policy):
    annotations = one(base, "Deployment", name)["spec"]["template"]["metadata"]["annotations"]
    configuration = one(base, "Configuration", annotations["dapr.io/config"])
    (common,) = [manifest for manifest in shared() if manifest["kind"] == "Configuration"]
    assert configuration["spec"]["accessControl"] == policy
    assert configuration["spec"]["tracing"] == common["spec"]["tracing"]


def test_no_other_configuration_and_none_without_a_policy_is_deployed(base):
    deployed = [manifest for manifest in base if manifest["kind"] == "Configuration"]
    assert {manifest["metadata"]["name"] for manifest in deployed} == {
        "brewline",
        "payment-service",
        "backoffice-service",
    }
    assert all(manifest["spec"]["accessControl"]["defaultAction"] == "deny" for manifest in deployed)


def test_one_machine_has_no_policies():
    """Without certificates nobody has a name there, so that a policy would refuse everyone."""
    assert not [manifest for manifest in shared() if "accessControl" in manifest["spec"]]


def test_nobody_but_the_app_itself_starts_or_steers_its_workflows(base):
    """A policy that has no rules lets nobody else in; without one everybody may."""
    for policy in (manifest for manifest in base if manifest["kind"] == "WorkflowAccessPolicy"):
        assert (policy["spec"], policy["scopes"]) == ({}, [policy["metadata"]["name"]])


@pytest.mark.parametrize("root", manifests.kustomizations(), ids=lambda root: root.name)
def test_a_policy_names_callers_of_its_own_namespace(root):
    """kustomize moves objects to another namespace, and leaves the one in a policy as it is."""
    for _, manifest in manifests.render(root):
        if manifest["kind"] == "Configuration":
            callers = manifest["spec"]["accessControl"].get("policies", [])
            assert {caller["namespace"] for caller in callers} <= {manifest["metadata"]["namespace"]}


SECRET_WORDS = re.compile(r"password|token|secret|key|credential|database_url", re.IGNORECASE)
NO_SECRETS = {"secretsFile"}  # where they are, not what they are


def metadata(objects):
    """Every (object, field) that configures a component or an endpoint."""
    for manifest in objects:
        if manifest["kind"] in {"Component", "HTTPEndpoint"}:
            for field in (*manifest["spec"].get("metadata", []), *manifest["spec"].get("headers", [])):
                yield manifest["metadata"]["name"], field


def test_no_component_or_endpoint_holds_a_secret(base):
    """Not on one machine and not in the cluster: what is secret comes from the store."""
    for name, field in (*metadata(shared()), *metadata(base)):
        if SECRET_WORDS.search(field["name"]) and field["name"] not in NO_SECRETS:
            assert set(field) == {"name", "secretKeyRef"}, f"{name}.{field['name']}"


def test_redis_is_entered_with_a_password_from_the_store():
    entered = {name: field for name, field in metadata(shared()) if field["name"] == "redisPassword"}
    assert set(entered) == REDIS
    for name, field in entered.items():
        assert field["secretKeyRef"] == {"name": "redis", "key": "password"}
        assert one(shared(), "Component", name)["auth"] == {"secretStore": "secrets"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_secret_of_a_pod_is_a_reference(base, name):
    template = one(base, "Deployment", name)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    secret = {entry["name"]: entry for entry in container["env"] if SECRET_WORDS.search(entry["name"])}
    assert {"APP_API_TOKEN", "DAPR_API_TOKEN", f"{name.removesuffix('-service').upper()}_DATABASE_URL"} <= set(secret)
    for entry in secret.values():
        assert set(entry["valueFrom"]) == {"secretKeyRef"}, entry["name"]
    # The injector reads the same two for the sidecar, under the key `token`.
    tokens = {entry: secret[entry]["valueFrom"]["secretKeyRef"] for entry in ("APP_API_TOKEN", "DAPR_API_TOKEN")}
    annotations = template["metadata"]["annotations"]
    assert tokens == {
        "APP_API_TOKEN": {"name": annotations["dapr.io/app-token-secret"], "key": "token"},
        "DAPR_API_TOKEN": {"name": annotations["dapr.io/api-token-secret"], "key": "token"},
    }


def test_no_secret_is_in_the_manifests(base):
    assert not [manifest for manifest in base if manifest["kind"] == "Secret"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_sidecar_reads_the_secret_named_like_its_app_and_nothing_else(base, name):
    (binding,) = [
        manifest for manifest in base if manifest["kind"] == "RoleBinding" and manifest["subjects"][0]["name"] == name
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "brewline"}]
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get"]}
    assert one(base, "Role", binding["roleRef"]["name"])["rules"] == [rule]
    assert not [manifest for manifest in base if manifest["kind"].startswith("ClusterRole")]


@pytest.mark.parametrize("name", SERVICES)
def test_the_right_to_read_it_goes_to_the_sidecar_and_not_to_the_app(base, name):
    template = one(base, "Deployment", name)["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    volume, _, folder = template["metadata"]["annotations"]["dapr.io/volume-mounts"].partition(":")
    assert pod["automountServiceAccountToken"] is False
    assert folder == "/var/run/secrets/kubernetes.io/serviceaccount"
    (token,) = [each for each in pod["volumes"] if each["name"] == volume]
    assert "serviceAccountToken" in token["projected"]["sources"][0]
    assert volume not in {mount["name"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("kind", ["Component", "HTTPEndpoint"])
def test_every_component_and_endpoint_is_scoped(base, kind):
    for manifest in (*shared(), *base):
        if manifest["kind"] == kind:
            assert manifest.get("scopes"), manifest["metadata"]["name"]
            examples = EXAMPLES if manifest["metadata"]["name"] in {"pubsub", "secrets"} else ()
            assert set(manifest["scopes"]) <= {*SERVICES, *examples}


@pytest.mark.parametrize("name", SERVICES)
def test_an_overlay_that_forgets_the_issuer_fails_loudly(base, name):
    (container,) = one(base, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (values["AUTH_ISSUER"], values["AUTH_AUDIENCE"]) == ("https://issuer.invalid", "brewline")


def test_no_address_of_one_machine_and_no_sandbox_reaches_the_cluster(base):
    text = yaml.safe_dump_all(base)
    assert "localhost" not in text
    assert "127.0.0.1" not in text
    named = [manifest["metadata"]["name"] for manifest in base if "sandbox" in yaml.safe_dump(manifest)]
    assert sorted(named) == ["pubsub", "secrets"]  # in their scopes, beside the examples


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


@pytest.mark.parametrize("root", manifests.kustomizations(), ids=lambda root: root.name)
def test_every_pod_is_as_restricted_as_its_namespace_asks(root):
    objects = [manifest for _, manifest in manifests.render(root)]
    labels = next(manifest for manifest in objects if manifest["kind"] == "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in objects:
        if workload["kind"] in {"Deployment", "StatefulSet", "Job"}:
            pod, name = workload["spec"]["template"]["spec"], workload["metadata"]["name"]
            assert pod["automountServiceAccountToken"] is False, name
            assert pod["securityContext"]["runAsNonRoot"] is True, name
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
                assert set(container["resources"]) == {"requests", "limits"}, name


@pytest.mark.parametrize("root", manifests.kustomizations(), ids=lambda root: root.name)
def test_the_network_lets_nothing_pass_that_no_policy_names(root):
    policies = [manifest["spec"] for _, manifest in manifests.render(root) if manifest["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    for rule in (rule for spec in policies for rule in (*spec.get("ingress", ()), *spec.get("egress", ()))):
        assert rule, "an empty rule allows everything"
        namespaces = [each.get("namespaceSelector") for each in (*rule.get("to", ()), *rule.get("from", ()))]
        assert rule.get("ports") or all(each and each["matchLabels"] for each in namespaces)


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_serves_after_the_migrations_of_its_own_version(base, name):
    package = name.removesuffix("-service")
    pod = one(base, "Deployment", name)["spec"]["template"]["spec"]
    (app,), (waiting,) = pod["containers"], pod["initContainers"]
    (job,) = one(base, "Job", f"{package}-migrations")["spec"]["template"]["spec"]["containers"]
    assert app["image"] == waiting["image"] == job["image"]
    assert job["command"] == ["python", "-m", "chassis.migrations", package]
    assert waiting["command"] == [*job["command"], "--wait"]
    assert waiting["env"] == job["env"]
    assert job["env"][0] in app["env"]


@pytest.fixture(scope="module")
def production():
    return [manifest for _, manifest in manifests.render(manifests.K8S / "overlays" / "production")]


def test_production_says_every_address_that_the_base_leaves_open(production):
    assert [manifest["metadata"]["name"] for manifest in production if ".invalid" in yaml.safe_dump(manifest)] == []
    assert one(production, "HTTPEndpoint", "payment-a")["spec"]["baseUrl"] == "https://challenge.trio.dev"


def test_production_gets_every_secret_that_it_names_from_the_vault(production):
    external = {manifest["metadata"]["name"] for manifest in production if manifest["kind"] == "ExternalSecret"}
    assert secrets_named(production) == external


def secrets_named(node):
    match node:
        case {"secretKeyRef": {"name": name}}:
            return {name}
        case {"kind": "Role", "rules": rules}:
            return {name for rule in rules for name in rule["resourceNames"]}
        case dict():
            return set().union(*map(secrets_named, node.values()))
        case list():
            return set().union(*map(secrets_named, node))
        case _:
            return set()


@pytest.mark.parametrize("name", SERVICES)
def test_production_has_three_replicas_at_least_of_each_service_and_one_autoscaler(production, name):
    assert "replicas" not in one(production, "Deployment", name)["spec"]
    least = {
        manifest["spec"]["scaleTargetRef"]["name"]: manifest["spec"].get(
            "minReplicas", manifest["spec"].get("minReplicaCount")
        )
        for manifest in production
        if manifest["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    assert least[name] == 3
    assert len(least) == len(SERVICES)


def test_production_keeps_each_topic_to_whom_it_is_on_one_machine(production, base):
    def scopes(objects):
        fields = one(objects, "Component", "pubsub")["spec"]["metadata"]
        return {
            field["name"]: field["value"] for field in fields if "opes" in field["name"] or "Topics" in field["name"]
        }

    assert scopes(production) == scopes(base)
    assert len(scopes(base)) == 3


def test_the_lag_that_scales_notification_is_of_topics_that_it_hears(production):
    (scaled,) = [manifest for manifest in production if manifest["kind"] == "ScaledObject"]
    lags = [trigger["metadata"] for trigger in scaled["spec"]["triggers"] if trigger["type"] == "kafka"]
    assert {lag["consumerGroup"] for lag in lags} == {"notification-service"}
    assert "orders" in {lag["topic"] for lag in lags}


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_outlives_the_shutdown_of_its_sidecar(base, name):
    template = one(base, "Deployment", name)["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    block = int(annotations["dapr.io/block-shutdown-duration"].removesuffix("s"))
    close = int(annotations["dapr.io/graceful-shutdown-seconds"])
    assert block + close < template["spec"]["terminationGracePeriodSeconds"]
