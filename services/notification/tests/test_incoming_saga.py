"""An event that is told step by step: the story alone, its record, and its steps by hand."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from chassis.events import CloudEvent
from chassis.ids import now
from chassis.saga import Incident, Run
from chassis.story import Step, Unknown
from chassis.takeover import instance_id
from notification import tables
from notification.domain import NotYours, OtherTenant, SagaNotFailed, UnknownSaga
from notification.incoming.intake import take
from notification.incoming.read_event import read
from notification.incoming.routing_table import shipped
from notification.incoming.saga import WORKFLOW, Completed, StepEnded, TellRef, TellStep, tell, tell_in_turn
from notification.incoming.saga_records import Sagas, SagaStatus, takeover
from notification.incoming.saga_steps import Steps
from notification.queue.history import Filter, Notifications, Page
from notification.recipients.contacts import Contacts
from notification.sending.sender import Sender
from notification.tables import notifications

CUSTOMER, STAFF = TellStep(name="CustomerNotification"), TellStep(name="StaffNotification")
EVENT = "0199f7b5-7a3e-7cc0-9d5f-3d9f1f6f0b01"
LOAN = shipped()["loan-origination", "LoanApplicationCreated"]


class Idle(Sender):
    """Sends nothing, and counts how often it is woken."""

    def __init__(self):
        self.woken = 0

    def wake(self):
        self.woken += 1


@pytest.fixture
def sender():
    return Idle()


@pytest.fixture
def steps(db, sender):
    return Steps(db=db, sender=sender, pauses=())  # what isn't gone is not waited for


@pytest.fixture
def taking_over(db, sidecar):
    return takeover(db, sidecar, past_timer=timedelta(minutes=1))


@pytest.fixture
def begin(db):
    """The loan application's event is taken."""

    async def begin(*, tenant="default", key="e-1", route=LOAN, tenant_name="", **told):
        data = {
            "eventId": EVENT,
            "applicationId": "LA-1",
            "customerId": "c-1",
            "customerName": "Ada",
            "customerPhone": "+254711000001",
            "customerEmail": "ada@example.com",
            "branchId": "7",
        } | told
        event = CloudEvent(id=key, type="LoanApplicationCreated", tenantid=tenant, tenantname=tenant_name, data=data)
        news = read(event, route)
        return await db.write(lambda conn: take(conn, news))

    return begin


@pytest.fixture
def staff(db):
    def put(conn):
        for key in ("s-1", "s-2"):
            Contacts(conn, "default").put(
                key, name="", email=f"{key}@example.com", phone="", locale="", groups=["branch:7"], version=0
            )

    return lambda: db.write(put)


@pytest.fixture
def rows(db):
    async def read_all():
        found, _ = await db.read(lambda conn: Notifications(conn, "default").history(Filter(), Page()))
        return list(reversed(found))

    return read_all


@pytest.fixture
def record(db):
    return lambda owner=None: db.read(lambda conn: Sagas(conn, "default", owner).get(EVENT))


def end(db, status):
    """Every message that waits has reached this status."""
    ended = {"status": status, "next_attempt_at": None}
    waiting = notifications.c.status == "queued"
    return db.write(lambda conn: conn.execute(sa.update(notifications).where(waiting).values(ended)))


def run(ref):
    return Run(reference=ref)


# --- the story ---


def played(steps, sent):
    """The names of what the story does, where each step ends as told; and how it ends."""
    story, done, outcome = tell_in_turn(TellRef(tenant="default", id="e", steps=steps)), [], None
    try:
        while True:
            step = story.send(outcome)
            assert isinstance(step, Step)
            match step.argument:
                case TellStep(name=name):
                    done.append(name)
                    outcome = StepEnded(step=name, sent=sent)
                case _:
                    done.append(step.title)
                    outcome = Completed()
    except StopIteration as told:
        return done, told.value


@pytest.mark.parametrize("sent", [True, False])
def test_the_steps_are_told_in_turn_and_whatever_became_of_one_the_next_is_told(sent):
    assert played(("Customer", "Staff"), sent) == (["Customer", "Staff", "complete"], Completed())


def test_a_story_without_steps_completes():
    assert played((), sent=True) == (["complete"], Completed())


# --- its record ---


async def test_the_event_begins_a_saga_and_sends_nothing_yet(begin, rows, record):
    ref = await begin()
    assert ref.steps == (CUSTOMER.name, STAFF.name)
    assert await rows() == []
    saga = await record()
    assert (saga.current_step, saga.steps, saga.recipient_id, saga.subject_id) == (CUSTOMER.name, "[]", "c-1", "LA-1")
    assert saga.due_at is not None
    assert saga.completed_at is None


async def test_an_event_begins_its_saga_once(begin):
    assert await begin() is not None
    assert await begin() is None
    assert await begin(key="e-2") is None  # published again under another id, it is the same business event
    assert await begin(tenant="acme") is not None


async def test_a_saga_is_its_tenants_and_its_owners(begin, db, record):
    await begin()
    assert (await record("c-1")).correlation_id == EVENT
    with pytest.raises(NotYours):
        await record("c-2")
    with pytest.raises(OtherTenant):
        await db.read(lambda conn: Sagas(conn, "acme").get(EVENT))
    with pytest.raises(UnknownSaga):
        await db.read(lambda conn: Sagas(conn, "default").get("e-0"))


# --- its steps ---


async def test_a_step_queues_its_messages_and_is_unknown_until_one_is_sent(begin, steps, sender, rows, db):
    ref = await begin()
    assert isinstance(await steps.tell(ref, CUSTOMER, run(ref)), Unknown)
    ((row,), woken) = (await rows(), sender.woken)
    assert (row.channel, row.chain, row.template, row.status) == ("sms", "email", "application-received", "queued")
    assert (row.next_attempt_at <= now(), row.lease_until, woken) == (True, None, 1)
    await end(db, "sent")
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=True)
    assert len(await rows()) == 1  # asked again, it queued nothing again


@pytest.mark.parametrize("status", ["failed", "suppressed", "bounced"])
async def test_a_step_that_reaches_nobody_has_ended(begin, steps, db, record, status):
    ref = await begin()
    await steps.tell(ref, CUSTOMER, run(ref))
    await end(db, status)
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=False)
    (told,) = json.loads((await record()).steps)
    assert (told["step"], told["sent"]) == (CUSTOMER.name, False)


async def test_staff_of_the_branch_hear_in_their_turn(begin, staff, steps, rows, db, record):  # noqa: PLR0917
    await staff()
    ref = await begin()
    await steps.tell(ref, CUSTOMER, run(ref))
    await end(db, "sent")
    await steps.tell(ref, CUSTOMER, run(ref))
    assert isinstance(await steps.tell(ref, STAFF, run(ref)), Unknown)
    assert [(row.recipient_id, row.status) for row in await rows()] == [
        ("c-1", "sent"),
        ("s-1", "queued"),
        ("s-2", "queued"),
    ]
    assert (await record()).current_step == STAFF.name
    await end(db, "sent")
    await steps.tell(ref, STAFF, run(ref))
    assert [one["step"] for one in json.loads((await record()).steps)] == [CUSTOMER.name, STAFF.name]


async def test_two_steps_in_the_same_words_to_the_same_person_are_two_messages(begin, steps, rows):
    first = LOAN.messages[0]
    again = first.model_copy(update={"step": "Reminder"})
    ref = await begin(route=LOAN.model_copy(update={"messages": (first, again)}))
    await steps.tell(ref, CUSTOMER, run(ref))
    assert isinstance(await steps.tell(ref, TellStep(name="Reminder"), run(ref)), Unknown)
    assert [row.template for row in await rows()] == [first.template] * 2
    await steps.tell(ref, CUSTOMER, run(ref))
    assert len(await rows()) == 2


async def test_a_step_that_is_told_again_late_changes_nothing_on_record(begin, steps, db, record):
    ref = await begin()
    await steps.tell(ref, CUSTOMER, run(ref))
    await end(db, "sent")
    await steps.tell(ref, CUSTOMER, run(ref))
    await steps.tell(ref, STAFF, run(ref))
    under_way = await record()
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=True)
    assert await record() == under_way
    await steps.complete(ref, None, run(ref))
    completed = await record()
    for step in (CUSTOMER, STAFF):
        await steps.tell(ref, step, run(ref))
    assert await record() == completed


async def test_a_step_ends_once_with_its_first_word(begin, steps, db):
    ref = await begin()
    await steps.tell(ref, CUSTOMER, run(ref))
    long_ago = sa.update(tables.sagas).values(step_started_at=now() - timedelta(minutes=61))
    await db.write(lambda conn: conn.execute(long_ago))
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=False)
    await end(db, "sent")
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=False)


async def test_a_group_of_nobody_ends_its_step(begin, steps):
    ref = await begin()
    assert await steps.tell(ref, STAFF, run(ref)) == StepEnded(step=STAFF.name, sent=False)


@pytest.mark.parametrize("branch", [None, "Nairobi West", "x" * 70])
async def test_a_group_that_cannot_be_named_ends_its_step(begin, steps, branch):
    ref = await begin(branchId=branch)
    assert await steps.tell(ref, STAFF, run(ref)) == StepEnded(step=STAFF.name, sent=False)


async def test_after_an_hour_the_story_goes_on_without_the_step(begin, steps, db):
    ref = await begin()
    await steps.tell(ref, CUSTOMER, run(ref))
    long_ago = sa.update(tables.sagas).values(step_started_at=now() - timedelta(minutes=61))
    await db.write(lambda conn: conn.execute(long_ago))
    assert await steps.tell(ref, CUSTOMER, run(ref)) == StepEnded(step=CUSTOMER.name, sent=False)


async def test_a_saga_is_completed_once_and_no_sweep_looks_for_it(begin, steps, taking_over, sidecar, record):
    ref = await begin()
    assert await steps.complete(ref, None, run(ref)) == Completed()
    first = await record()
    await steps.complete(ref, None, run(ref))
    again = await record()
    assert (first.current_step, first.due_at) == ("Completed", None)
    assert (again.completed_at, again.version) == (first.completed_at, first.version)
    await taking_over.waiting(ref, timedelta(0))
    await taking_over.sweep()
    assert sidecar.workflows == {}


# --- who drives it ---


async def test_the_saga_is_the_workflows_and_the_sweep_takes_over_what_died(begin, taking_over, sidecar, record, db):
    ref = await begin(tenant_name="Kötter ☕")
    assert ref.tenant_name == "Kötter ☕"
    driven = {instance_id(ref): (WORKFLOW, {"reference": ref.model_dump(mode="json"), "attempt": 0})}
    await taking_over.hand_over(ref, "begun")
    assert sidecar.workflows == driven
    assert (await record()).due_at > now()
    sidecar.workflows.clear()
    await taking_over.sweep()
    assert sidecar.workflows == {}  # somebody has it
    await db.write(lambda conn: conn.execute(sa.update(tables.sagas).values(due_at=now())))
    await taking_over.sweep()
    assert sidecar.workflows == driven


async def test_a_saga_that_was_begun_and_never_handed_over_is_found_by_the_sweep(begin, taking_over, sidecar, db):
    refs = [await begin(), await begin(tenant="acme")]
    await taking_over.sweep()
    assert sidecar.workflows == {}  # whoever took the event has 10 s for it
    await db.write(lambda conn: conn.execute(sa.update(tables.sagas).values(due_at=now())))
    await taking_over.sweep()
    assert sidecar.workflows.keys() == {instance_id(ref) for ref in refs}


# --- a step that broke for good ---


@pytest.fixture
async def failed(begin, steps, staff):
    """The customer's step broke for good, staff was told, and the saga has ended."""
    await staff()
    ref = await begin()
    await steps.give_up(ref, broken())
    await steps.tell(ref, STAFF, run(ref))
    await steps.complete(ref, None, run(ref))
    return ref


def broken(at=None):
    return Incident(step=tell("CustomerNotification"), error="KeyError", at=at or now())


def sagas(db, work):
    return db.write(lambda conn: work(Sagas(conn, "default")))


@pytest.mark.usefixtures("failed")
async def test_a_step_that_broke_for_good_is_an_incident_and_the_next_is_told(db, rows):
    assert {row.recipient_id for row in await rows()} == {"s-1", "s-2"}
    row = await sagas(db, lambda mine: mine.get(EVENT))
    ended = {"step": CUSTOMER.name, "sent": False}
    assert row.saga_status == "failed"
    assert ended.items() <= json.loads(row.steps)[0].items()
    [incident] = await sagas(db, lambda mine: mine.incidents(EVENT))
    assert (incident.step, incident.error, incident.stops) == ("CustomerNotification", "KeyError", False)
    [listed] = await sagas(db, lambda mine: mine.page(status=SagaStatus.FAILED, before=None, limit=5))
    assert listed.correlation_id == EVENT


async def test_told_twice_it_is_one_incident_and_ends_the_step_once(db, begin, steps):
    ref, incident = await begin(), broken()

    await steps.give_up(ref, incident)
    await steps.give_up(ref, incident)

    assert len(await sagas(db, lambda mine: mine.incidents(EVENT))) == 1
    assert len(json.loads((await sagas(db, lambda mine: mine.get(EVENT))).steps)) == 1


async def test_tried_again_it_tells_whom_it_had_not_and_nobody_twice(db, failed, steps, rows, taking_over):
    ref = await sagas(db, lambda mine: mine.take_up(EVENT, by="boss"))
    assert ref == failed
    assert [due.id for due in await taking_over.due(10)] == [EVENT], "the sweep drives it if whoever asked dies"
    with pytest.raises(SagaNotFailed):
        await sagas(db, lambda mine: mine.take_up(EVENT, by="another"))

    for step in (CUSTOMER, STAFF):
        await steps.tell(ref, step, run(ref))
        await end(db, "sent")
        await steps.tell(ref, step, run(ref))
    await steps.complete(ref, None, run(ref))

    assert sorted(row.recipient_id for row in await rows()) == ["c-1", "s-1", "s-2"]
    row = await sagas(db, lambda mine: mine.get(EVENT))
    assert row.saga_status == "completed"
    assert {step["step"]: step["sent"] for step in json.loads(row.steps)} == {CUSTOMER.name: True, STAFF.name: True}
    [incident] = await sagas(db, lambda mine: mine.incidents(EVENT))
    assert incident.retried_by == "boss"
