"""Who hears what, in code and declared: nothing twice, and a place for what can't be processed."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from fastapi.routing import APIRoute

import contracts
import manifests
import moving

ROOT = Path(__file__).resolve().parents[2]
KEEPER = "notification-service"
EXAMPLES = ("kitchen-display", "partner", "plain")
PROBE = "health-probes"
OWN = {
    "order-service": {"orders"},
    "payment-service": {"payments"},
    "notification-service": {"notifications", "customers"},
    "backoffice-service": {"exports", "settings"},
    "datasource-service": {"customers"},
    "sandbox": {"loan-origination", "collections", "identity", "client-management"},  # plays the other teams
    "partner": {"loan-origination"},
    "kitchen-display": set(),
    "plain": set(),
}


class Heard(NamedTuple):
    app: str
    topic: str
    route: str
    dead: str | None


def declared():
    documents = yaml.safe_load_all((ROOT / "components" / "subscriptions.yaml").read_text())
    for spec, scopes in ((document["spec"], document["scopes"]) for document in documents):
        for app in scopes:
            yield Heard(app, spec["topic"], spec["routes"]["default"], spec.get("deadLetterTopic"))


def in_code():
    for service, app in contracts.services().items():
        asked = [route for route in app.routes if isinstance(route, APIRoute) and route.path == "/dapr/subscribe"]
        for spec in (spec for route in asked for spec in route.endpoint()):
            yield Heard(f"{service}-service", spec["topic"], spec["route"], spec.get("deadLetterTopic"))


@pytest.fixture(scope="module")
def heard():
    return [*declared(), *in_code()]


def test_no_app_hears_a_topic_twice(heard):
    pairs = [(each.app, each.topic) for each in heard]
    assert len(pairs) == len(set(pairs))
    assert ("notification-service", "orders") in pairs
    assert ("notification-service", "collections") in pairs


def test_what_an_app_cannot_process_is_kept_with_its_name_wherever_it_hears_of_it(heard):
    """Whoever subscribes declares in components/subscriptions.yaml that notification keeps the dead letters."""
    topics = [each for each in heard if not each.topic.endswith(".dead")]
    kept = {each.topic: each.route for each in heard if each.app == KEEPER}
    for each in topics:
        assert each.dead == f"{each.topic}.{each.app}.dead", each
        assert kept.get(each.dead) == f"/events/dead/{each.app}/{each.topic}", each


def test_a_dead_letter_can_be_delivered_to_the_route_that_its_topic_has(heard):
    """As incoming.dead_letters does; the path says the topic to notification too."""
    topics = [each for each in heard if not each.topic.endswith(".dead")]
    assert [each for each in topics if each.route != f"/events/{each.topic}"] == []


def scoped(name):
    """Each app's topics by a scope of the pub/sub component: an app may have several entries."""
    component = yaml.safe_load((ROOT / "components" / "pubsub.yaml").read_text())
    (value,) = [field["value"] for field in component["spec"]["metadata"] if field["name"] == name]
    found = {}
    for entry in value.replace(" ", "").split(";"):
        app, _, topics = entry.partition("=")
        found.setdefault(app, set()).update(filter(None, topics.split(",")))
    return component, found


def test_an_app_may_hear_what_it_hears_and_nothing_else(heard):
    component, may = scoped("subscriptionScopes")
    hears = {app: set() for app in component["scopes"]}
    for each in heard:
        hears[each.app].add(each.topic)
    others = {app: may[app] for app in (*EXAMPLES, "sandbox")}
    assert others == {"kitchen-display": {"orders"}, "plain": {"orders"}, "partner": set(), "sandbox": set()}
    assert may == hears | others


def test_an_app_may_publish_its_own_topics_its_dead_letters_and_its_probe_and_nothing_else(heard):
    component, may = scoped("publishingScopes")
    operations = yaml.safe_load((ROOT / "contracts" / "asyncapi.yaml").read_text())["operations"]
    told = {name.removeprefix("tell-") for name, operation in operations.items() if operation["action"] == "send"}
    assert set(may) == set(component["scopes"])
    dead = {app: {each.dead for each in heard if each.app == app and each.dead} for app in may}
    own = {app: may[app] - dead[app] - {PROBE} for app in may}
    assert own == {app: set[str]() for app in own} | OWN
    services = {app for app in may if app.endswith("-service")}
    assert all(dead[app] | {PROBE} <= may[app] for app in services)
    assert set().union(*(own[app] for app in services)) == told


def test_a_topic_is_nobodys_who_is_not_named():
    """Dapr lets an app without an entry do everything, but for protected topics."""
    component, _ = scoped("publishingScopes")
    (value,) = [field["value"] for field in component["spec"]["metadata"] if field["name"] == "protectedTopics"]
    document = yaml.safe_load((ROOT / "contracts" / "asyncapi.yaml").read_text())
    assert set(value.replace(" ", "").split(",")) == set(document["channels"])


@pytest.fixture(scope="module")
def rows():
    """The README's table, and of a service that brings its own README that one's: the cells of each row, by column."""
    return [row for file in (ROOT / "README.md", *ROOT.glob("services/*/README.md")) for row in table(file.read_text())]


def table(text):
    lines = text[text.index("| topic |") :].partition("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_readme_names_every_topic_that_is_heard_where_it_is_subscribed_and_its_dead_letters(heard, rows):
    by_hand = {(each.topic, each.app) for each in declared()}
    shown = {
        (row["topic"].strip("`"), *pair)
        for row in rows
        for pair in zip(row["heard by"].split("; "), row["dead letters"].split("; "), strict=True)
        if "service" in row["heard by"]
    }
    assert shown == {
        (each.topic, f"{each.app}, {'declared' if (each.topic, each.app) in by_hand else 'in code'}", f"`{each.dead}`")
        for each in heard
        if not each.topic.endswith(".dead")
    }


def test_the_readme_names_whoever_tells_each_of_our_events(rows):
    """An empty cell says the same as the one above it."""
    tellers, teller = {}, ""
    for row in rows:
        teller = row["told by"] or teller
        tellers |= dict.fromkeys(re.findall("`([^`]+)`", row["type"]), teller)
    for event in contracts.EVENTS:
        assert tellers[event.type] == f"{event.__module__.partition('.')[0]}-service"


def test_a_move_to_another_broker_leaves_nobody_deaf_to_the_former_one(heard):
    former = moving.subscriptions()
    dapr = manifests.read_dapr(*manifests.dapr_module())

    there = [(app, one["spec"]["topic"], one["spec"]["routes"]["default"]) for one in former for app in one["scopes"]]
    assert sorted(there) == sorted((each.app, each.topic, each.route) for each in heard)
    assert len({one["metadata"]["name"] for one in former}) == len(former)
    assert [problem for one in former for problem in manifests.check("former", one, dapr)] == []
    assert {each.topic for each in heard} | {"payments"} <= set(moving.topics())
