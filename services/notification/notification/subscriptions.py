"""Who hears what. Our own topics are subscribed here; those of other teams, and the dead letters of other services, are
declared where a deployment can change them: components/subscriptions.yaml."""

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response

from chassis.events import receive
from chassis.flags import snapshot
from notification.incoming.dead_letters import keep
from notification.services import services

_TOPICS = ("orders", "customers", "exports", snapshot.TOPIC)


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    dapr = DaprApp(app)
    for topic in _TOPICS:
        dead = f"{topic}.{app_id}.dead"
        take = take_setting if topic == snapshot.TOPIC else take_event
        dapr.subscribe(pubsub=pubsub, topic=topic, route=f"/events/{topic}", dead_letter_topic=dead)(take)
        dapr.subscribe(pubsub=pubsub, topic=dead, route=f"/events/dead/{app_id}/{topic}")(keep_dead_letter)
    app.post("/events/dead/{app_id}/{topic}")(keep_dead_letter)
    app.post("/events/{topic}")(take_event)


async def take_setting(request: Request) -> Response:
    return await receive(request, snapshot.TOPIC, services(request).snapshot.take)


async def take_event(request: Request) -> Response:
    """What it means is the routing table's to say; the last part of the path is its topic."""
    topic = request.scope["path"].rpartition("/")[2]
    return await receive(request, topic, services(request).intake.take)


async def keep_dead_letter(request: Request) -> dict[str, str]:
    """What `app_id` could not process of `topic`, whatever it is: nothing is refused a second time."""
    app_id, topic = request.scope["path"].split("/")[-2:]
    return await keep(services(request).db, await request.body(), app_id=app_id, topic=topic)
