"""contracts/ is what the code says, and every consumer understands what every producer tells."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

import contracts
import notification
from chassis import migrations
from chassis.db import Database
from chassis.events import CloudEvent
from notification.incoming.foreign_events import misspelt
from notification.incoming.intake import take
from notification.incoming.read_event import read
from notification.incoming.routing_table import shipped
from notification.tables import metadata
from notification.templates.shipped import samples

# Topic by topic, from the outside contract.
TOLD = {
    "orders": {
        "order.created.v1",
        "order.confirmed.v1",
        "order.payment-failed.v1",
        "order.status-changed.v1",
        "order.shipped.v1",
        "order.cancelled.v1",
    },
    "payments": {"payment.captured.v1", "payment.declined.v1", "payment.refunded.v1"},
    "notifications": {"notification.sent.v1", "notification.delivered.v1", "notification.failed.v1"},
    "customers": {"customer.changed.v1", "customer.erased.v1"},
    "settings": {"setting.changed.v1"},
    "exports": {"export.completed.v1", "export.failed.v1"},
}
EVENTS = {event.type: contracts.event_schema(event) for event in contracts.EVENTS}
each_event = pytest.mark.parametrize("kind", EVENTS)


@pytest.fixture(scope="module")
def documents():
    return {name: app.openapi() for name, app in contracts.services().items()}


@pytest.fixture(scope="module")
def operations(documents):
    return [
        (f"{service} {verb.upper()} {path}", operation)
        for service, document in documents.items()
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]


def test_what_is_committed_is_what_the_code_says():
    stale = contracts.differences(contracts.generate(), contracts.CONTRACTS)

    assert stale == [], "run `make contracts`"


def test_every_service_says_valid_openapi_3_1(documents):
    for document in documents.values():
        OpenAPIV31SpecValidator(document).validate()
        assert document["openapi"].startswith("3.1")
        assert document["servers"]


def test_no_request_has_a_default_which_some_generated_clients_take_for_required(documents):
    for name, document in documents.items():
        schemas = document["components"]["schemas"]
        defaults = [f"{name} {of}" for of, schema in schemas.items() for part in _parts(schema) if "default" in part]
        assert defaults == []


def test_every_request_has_an_example_that_is_one_and_no_member_that_nobody_knows(documents, operations):
    schemas = {name: document["components"]["schemas"] for name, document in documents.items()}
    for where, operation in operations:
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" not in content:  # none, or a file
            continue
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        known = schemas[where.split()[0]]
        (example,) = known[name]["examples"]
        assert known[name]["additionalProperties"] is False  # a misspelt member is refused
        Draft202012Validator({"components": {"schemas": known}, **known[name]}).validate(example)


def _parts(schema):
    yield schema
    for member in schema.get("properties", {}).values():
        yield from _parts(member)


def test_a_changed_a_missing_and_a_forgotten_file_are_each_named(tmp_path: Path):
    wanted = {"events/a.json": "1\n", "events/b.json": "2\n"}
    contracts.write(wanted, tmp_path)
    assert contracts.differences(wanted, tmp_path) == []

    (tmp_path / "events" / "a.json").write_text("0\n")
    (tmp_path / "events" / "b.json").unlink()
    (tmp_path / "events" / "c.json").write_text("3\n")

    assert contracts.differences(wanted, tmp_path) == ["events/a.json", "events/b.json", "events/c.json"]
    contracts.write(wanted, tmp_path)
    assert contracts.differences(wanted, tmp_path) == []


@each_event
def test_an_event_is_on_its_topic_in_the_outside_contract(kind):
    assert kind in TOLD[EVENTS[kind]["x-topic"]]


def test_every_order_event_of_the_outside_contract_is_told():
    assert {kind for kind, schema in EVENTS.items() if schema["x-topic"] == "orders"} == TOLD["orders"]


@each_event
def test_an_events_example_is_valid_by_its_own_schema(kind):
    Draft202012Validator.check_schema(EVENTS[kind])
    assert EVENTS[kind]["examples"]

    for example in EVENTS[kind]["examples"]:
        Draft202012Validator(EVENTS[kind]).validate(example)


@each_event
def test_an_event_carries_its_aggregates_version_and_camel_case_names(kind):
    assert "version" in EVENTS[kind]["required"]
    assert all(re.fullmatch(r"[a-z][A-Za-z]*", name) for name in EVENTS[kind]["properties"])


ROUTED = {route.type: route for (topic, _), route in shipped().items() if topic in TOLD}


def test_every_type_that_notification_takes_from_ours_is_one_that_somebody_tells():
    assert ROUTED.keys() <= EVENTS.keys()
    assert all(route.topic == EVENTS[kind]["x-topic"] for kind, route in ROUTED.items())


FOREIGN = {event.type: contracts.event_schema(event) for event in contracts.FOREIGN}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_another_team_tells_is_routed_by_fields_that_it_has_and_its_templates_are_proven_with_them(kind):
    Draft202012Validator.check_schema(FOREIGN[kind])
    strict = Draft202012Validator(FOREIGN[kind] | {"additionalProperties": False})
    for example in FOREIGN[kind]["examples"]:
        strict.validate(example)
    route = shipped()[FOREIGN[kind]["x-topic"], kind]
    assert misspelt(route) == []
    for message in route.messages:
        strict.validate(samples()[message.category, message.template])


def test_a_loan_application_has_ten_fields():
    schema = FOREIGN["LoanApplicationCreated"]
    assert len(schema["properties"]) == len(schema["required"]) == 10


def test_the_asyncapi_has_every_topic_that_is_told_or_routed_and_refers_to_the_committed_schemas():
    document = yaml.safe_load((contracts.CONTRACTS / "asyncapi.yaml").read_text())
    messages, channels = document["components"]["messages"], document["channels"]
    listed = {(topic, kind) for topic, channel in channels.items() for kind in channel["messages"]}
    known = EVENTS | FOREIGN
    assert listed == {(schema["x-topic"], kind) for kind, schema in known.items()} | shipped().keys()
    assert messages.keys() == {kind for _, kind in listed}
    for kind in known:
        assert messages[kind]["payload"]["allOf"][1]["properties"]["data"] == {"$ref": f"./events/{kind}.json"}
    actions = {name.partition("-")[2]: operation["action"] for name, operation in document["operations"].items()}
    assert actions == {topic: "send" if topic in TOLD else "receive" for topic in channels}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "notification.db"
    migrations.upgrade(f"sqlite:///{path}", notification, metadata)
    return path


@pytest.mark.parametrize("kind", ROUTED)
@pytest.mark.parametrize("added", [{}, {"loyaltyPoints": 3, "gift": {"message": "hi"}}], ids=["as told", "more fields"])
async def test_notification_takes_what_ours_tell(kind, added, migrated: Path, tmp_path: Path):
    db = Database(f"sqlite:///{shutil.copy(migrated, tmp_path)}")
    await db.start()
    (example,) = EVENTS[kind]["examples"]
    # What an order says of its customer; the data source tells of nothing else, an export of its user's id alone.
    customer = example.get("customer", example)
    event = CloudEvent(
        id="0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0a02",
        type=kind,
        source="order-service",
        subject=example.get("orderId", example.get("jobId", "")),
        data=example | added | ({"customer": customer | added} if "customer" in example else {}),
    )

    await db.write(lambda conn: take(conn, read(event, ROUTED[kind])))

    waiting = await db.read(lambda conn: conn.execute(metadata.tables["notifications"].select()).all())
    (contact,) = await db.read(lambda conn: conn.execute(metadata.tables["contacts"].select()).all())
    await db.stop()
    # What this event means to nobody in particular, or only with another status, still makes its customer known.
    wanted = [one for one in ROUTED[kind].messages if all(example.get(at) == told for at, told in one.when.items())]
    assert [row.template for row in waiting] == [one.template for one in wanted]
    assert {row.event_id for row in waiting} <= {event.id}
    assert (contact.email, contact.phone) == (customer.get("email", ""), customer.get("phone", ""))


def test_every_operation_is_tagged_and_named_for_what_it_does(operations):
    for at, operation in operations:
        assert operation["tags"], at
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"]), at  # a verb, and what of


def test_an_operations_name_is_its_own(documents):
    for document in documents.values():
        names = [one["operationId"] for verbs in document["paths"].values() for one in verbs.values()]
        assert len(names) == len(set(names))


def test_every_body_is_of_a_named_model_or_a_list_of_one(operations):
    for at, operation in operations:
        answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        for body in (operation.get("requestBody", {}), *answers):
            for kind, media in body.get("content", {}).items():
                schema = media["schema"]
                assert kind != "application/json" or "$ref" in schema.get("items", schema), at


# What others put there, which is JSON of any shape.
ANYTHING = {
    "JsonValue",
    "BulkRecipient.context",
    "BulkRequest.context",
    "SendCommand.personalizationContext",
    *(f"{model}.sample" for model in ("Draft", "NewTemplate", "NewVersion", "StoredDraft", "TemplateView")),
    *("DeadLetterDetail.event", "DeadLetterDetail.original", "DeadLetterMove.before", "DeadLetterMove.after"),
    *("EditedData.data", "QuarantinedView.payload", "PersonHeld.held", "PersonData.services"),
}


def test_a_member_has_a_type_unless_it_may_be_anything(documents):
    untyped = {
        f"{name}.{member}".removesuffix(".")
        for document in documents.values()
        for name, model in document["components"]["schemas"].items()
        for member, schema in (model.get("properties") or {"": model}).items()
        if _holds_anything(schema)
    }
    assert untyped == ANYTHING


def _holds_anything(schema):
    inner = [schema[of] for of in ("items", "additionalProperties") if of in schema] + schema.get("anyOf", [])
    typed = schema.keys() & {"$ref", "type", "enum", "const", "anyOf", "allOf", "oneOf"}
    return schema is True or not typed or any(one is True or (one and _holds_anything(one)) for one in inner)


@pytest.mark.parametrize("service", ["order", "payment"])
def test_no_object_in_a_requests_body_takes_members_that_nobody_knows(documents, service):
    """A misspelt one would be left out in silence: `{"amout": "1.00"}` once refunded everything."""
    schemas = documents[service]["components"]["schemas"]
    asked = [
        content["schema"]
        for verbs in documents[service]["paths"].values()
        for operation in verbs.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    met = set()
    while asked:
        schema = asked.pop()
        if isinstance(schema, list):
            asked += schema
        elif isinstance(schema, dict):
            asked += schema.values()
            if (name := schema.get("$ref", "").rpartition("/")[2]) and name not in met:
                met.add(name)
                asked.append(schemas[name])

    objects = {name for name in met if schemas[name].get("type") == "object"}
    assert objects
    assert {name for name in objects if schemas[name].get("additionalProperties") is not False} == set()


@pytest.mark.parametrize("service", ["order", "payment", "notification"])
def test_a_status_a_phase_or_a_step_is_one_of_those_that_there_are(documents, service):
    """So that a generated client can switch on it. The steps of notification's sagas are data."""
    words = {"status", "phase", "fromStatus", "toStatus"} | ({"step"} if service != "notification" else set())
    schemas = documents[service]["components"]["schemas"]
    said = {
        f"{name}.{member}": schema
        for name, shape in schemas.items()
        for member, schema in shape.get("properties", {}).items()
        if member in words and name != "ProblemDocument"
    }
    assert said
    for at, schema in said.items():
        for choice in schema.get("anyOf", [schema]):
            meant = schemas[choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
            assert choice == {"type": "null"} or meant.get("enum") or "const" in meant, at


def test_every_refusal_is_a_problem_document_and_nothing_else(documents, operations):
    for at, operation in operations:
        assert "default" in operation["responses"], at
        for status, answer in operation["responses"].items():
            if status == "default" or status >= "400":
                content = answer["content"]
                assert content == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
                }, (at, status)
    for document in documents.values():
        assert document["components"]["schemas"].keys() >= {"ProblemDocument", "FieldProblem"}
        assert not any("ValidationError" in name for name in document["components"]["schemas"])


@pytest.mark.parametrize(
    ("service", "verb", "path", "statuses"),
    [
        ("order", "post", "/api/v1/orders", {"201", "202", "402", "409", "422", "503"}),
        ("order", "get", "/api/v1/orders/{order_id}", {"200", "404"}),
        ("order", "post", "/api/v1/orders/{order_id}/status", {"200", "404", "409", "422"}),
        ("order", "post", "/api/v1/orders/{order_id}/cancel", {"200", "202", "404", "409"}),
        ("payment", "post", "/process-payment", {"200", "422"}),
        ("payment", "post", "/refund-payment", {"200", "404", "409", "422"}),
    ],
)
def test_the_answers_that_the_contract_names_are_documented(documents, service, verb, path, statuses):
    assert documents[service]["paths"][path][verb]["responses"].keys() >= statuses


def test_a_placed_order_is_located_and_says_when_it_is_replayed(documents):
    answers = documents["order"]["paths"]["/api/v1/orders"]["post"]["responses"]

    assert answers["201"]["headers"].keys() >= {"Location", "Idempotency-Replayed"}
    assert answers["503"]["headers"].keys() == {"Retry-After"}
