"""components/ as a whole: no policy in vain, no call without a policy."""

import re
from pathlib import Path

import pytest
import yaml

import notification.settings
import payment.settings

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"timeouts": "timeout", "retries": "retry", "circuitBreakers": "circuitBreaker"}


def objects(kind):
    files = sorted((ROOT / "components").glob("*.yaml"))
    found = [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]
    return {manifest["metadata"]["name"]: manifest for manifest in found if manifest["kind"] == kind}


RESILIENCY = [manifest["spec"] for manifest in objects("Resiliency").values()]
COMPONENTS = objects("Component")
ENDPOINTS = objects("HTTPEndpoint")
SUBSCRIPTIONS = objects("Subscription")
APPS = {app["appID"] for app in yaml.safe_load((ROOT / "dapr.yaml").read_text())["apps"]}
EXAMPLES = {"kitchen-display", "partner", "plain"}
POLICIES = {field: RESILIENCY[0]["policies"][group] for group, field in FIELDS.items()}
TARGETS = RESILIENCY[0]["targets"]


def attached():
    """Every (target, field, policy) that stands under `targets`."""
    named = dict(TARGETS["apps"])
    for component, directions in TARGETS["components"].items():
        named |= {f"{component}.{direction}": policies for direction, policies in directions.items()}
    return [(target, field, policy) for target, policies in named.items() for field, policy in policies.items()]


def test_one_file_holds_every_policy():
    assert len(RESILIENCY) == 1
    assert set(RESILIENCY[0]["policies"]) == set(FIELDS)
    assert set(TARGETS) == {"apps", "components"}


def test_every_policy_is_attached_to_a_target():
    declared = {(field, name) for field, policies in POLICIES.items() for name in policies}
    assert declared - {(field, policy) for _, field, policy in attached()} == set()


def test_every_target_names_policies_that_exist():
    assert [(target, field, policy) for target, field, policy in attached() if policy not in POLICIES[field]] == []


def test_every_target_is_an_app_an_endpoint_or_a_component_that_exists():
    assert set(TARGETS["apps"]) - APPS - set(ENDPOINTS) == set()
    assert set(TARGETS["components"]) - set(COMPONENTS) == set()


def test_a_name_is_an_app_or_an_endpoint_never_both():
    assert APPS & set(ENDPOINTS) == set()


ONCE = "issuer-token"  # a code, and a refresh token that rotates, may be shown once


def test_what_may_be_asked_once_is_asked_once():
    assert TARGETS["apps"][ONCE] == {"timeout": "provider"}


@pytest.mark.parametrize("target", sorted(set(TARGETS["apps"]) - {ONCE}))
def test_a_call_is_retried_only_on_what_may_pass(target):
    """Without `matching` Dapr retries every status but 2xx, a refusal for good reason included."""
    retry = POLICIES["retry"][TARGETS["apps"][target]["retry"]]
    # INN8's 429 and 503 say when to come again, which the data source heeds: a retry before would only lengthen it.
    passing = "408,500-502,504-599" if target == "inn8" else "408,429,500-599"
    assert retry["matching"] == {"httpStatusCodes": passing}


def test_payment_is_called_as_the_design_says():
    """Architecture, step 2: 10 s, three exponential retries, a breaker of three failures and 30 s."""
    policies = TARGETS["apps"]["payment-service"]
    retry = POLICIES["retry"][policies["retry"]]
    assert POLICIES["timeout"][policies["timeout"]] == "10s"
    assert (retry["policy"], retry["maxRetries"]) == ("exponential", 3)


def test_whoever_asks_for_all_settings_asks_again_by_itself_and_shuts_nobody_out():
    """Every replica asks at its start; an answer of 5 s is a thousand settings, and there is a last known one."""
    policies = TARGETS["apps"]["backoffice-service"]
    assert (POLICIES["timeout"][policies["timeout"]], policies.keys()) == ("5s", {"timeout", "retry"})


@pytest.mark.parametrize("target", ["order-service", "notification-service"])
def test_a_page_of_an_export_has_thirty_seconds_and_no_breaker(target):
    """Payment's pages go under the policies of its charges, which are tighter."""
    policies = TARGETS["apps"][target]
    assert (POLICIES["timeout"][policies["timeout"]], policies.keys()) == ("30s", {"timeout", "retry"})


@pytest.mark.parametrize(
    ("target", "failures", "seconds"),
    [
        ("payment-service", 3, 30),
        ("payment-a", 5, 30),
        ("payment-b", 5, 30),
        ("sms", 5, 30),
        ("sms-legacy", 5, 30),
        ("push", 3, 60),
        ("inn8", 5, 60),
    ],
)
def test_a_breaker_opens_after_so_many_failures_for_so_long(target, failures, seconds):
    breaker = POLICIES["circuitBreaker"][TARGETS["apps"][target]["circuitBreaker"]]
    assert breaker == {"maxRequests": 1, "timeout": f"{seconds}s", "trip": f"consecutiveFailures >= {failures}"}


@pytest.mark.parametrize("endpoint", sorted(set(ENDPOINTS) - {ONCE}))
def test_a_provider_has_three_seconds_an_attempt_and_three_retries_whose_pauses_are_dapr_s(endpoint):
    """Why 3 s and not 30, and why the pauses are not 2, 4 and 8 s, stands beside the figures: only these two can be set
    of an exponential policy, and a field that Dapr doesn't know would be left out in silence. A page of INN8's is some
    hundred kilobytes, and nobody waits for it."""
    policies = TARGETS["apps"][endpoint]
    assert POLICIES["timeout"][policies["timeout"]] == ("10s" if endpoint == "inn8" else "3s")
    retry = POLICIES["retry"][policies["retry"]]
    assert retry.keys() == {"policy", "maxInterval", "maxRetries", "matching"}
    assert (retry["policy"], retry["maxInterval"], retry["maxRetries"]) == ("exponential", "10s", 3)


def longest_call(target: str) -> float:
    """Seconds that a call may take with every retry; Dapr's pauses begin at 0.5 s, grow by half, and are spread by as
    much again."""
    policies = TARGETS["apps"][target]
    retry = POLICIES["retry"][policies["retry"]]
    assert retry["policy"] == "exponential"
    pauses = sum(0.5 * 1.5**number * 1.5 for number in range(retry["maxRetries"]))
    return (1 + retry["maxRetries"]) * float(POLICIES["timeout"][policies["timeout"]].removesuffix("s")) + pauses


@pytest.mark.parametrize(
    ("service", "settings"),
    [("notification-service", notification.settings.Settings), ("payment-service", payment.settings.Settings)],
)
def test_what_is_sent_or_charged_is_in_hand_for_longer_than_a_provider_may_take(service, settings):
    providers = [name for name, endpoint in ENDPOINTS.items() if endpoint["scopes"] == [service]]

    assert max(map(longest_call, providers)) < settings(app_api_token="of no importance here").call_seconds


def test_every_breaker_trips_on_failures_in_a_row():
    trips = [breaker["trip"] for breaker in POLICIES["circuitBreaker"].values()]
    assert [trip for trip in trips if not re.fullmatch(r"consecutiveFailures >= [1-9]\d*", trip)] == []


@pytest.mark.parametrize("endpoint", sorted(set(ENDPOINTS) - {ONCE}))
def test_every_endpoint_has_a_timeout_and_retries_and_only_a_lookup_or_a_token_no_breaker(endpoint):
    """A look-up's ordinary answer is a 404, a wrong secret's a 401, and Dapr counts either as a failure."""
    breaker = set() if endpoint.endswith(("-lookup", "-token")) else {"circuitBreaker"}
    assert set(TARGETS["apps"][endpoint]) == {"timeout", "retry"} | breaker


def test_a_lookup_goes_to_the_provider_of_its_charges_and_a_token_is_for_the_lists_beside_it():
    apart = [name for name in ENDPOINTS if name.endswith(("-lookup", "-token"))]
    assert apart
    for name in apart:
        assert ENDPOINTS[name]["spec"] == ENDPOINTS[name.rpartition("-")[0]]["spec"]


def test_an_event_is_offered_again_until_it_is_taken():
    for name in (name for name, component in COMPONENTS.items() if component["spec"]["type"].startswith("pubsub.")):
        assert POLICIES["retry"][TARGETS["components"][name]["inbound"]["retry"]]["maxRetries"] == -1


@pytest.mark.parametrize("name", [*COMPONENTS, *ENDPOINTS, *SUBSCRIPTIONS])
def test_everything_is_scoped_to_apps_that_exist(name):
    scopes = ({**COMPONENTS, **ENDPOINTS, **SUBSCRIPTIONS})[name]["scopes"]
    assert scopes
    # A guest's events, and what the broker asks of whoever connects, are all that an example may have.
    assert set(scopes) <= (APPS | EXAMPLES if name in {"pubsub", "secrets"} else APPS)
