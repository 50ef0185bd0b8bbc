"""Who hears what: the back office tells what is set."""

from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request, Response

from chassis.events import receive
from chassis.flags.snapshot import TOPIC
from payment.services import services


def subscribe(app: FastAPI, *, app_id: str, pubsub: str) -> None:
    route, dead = f"/events/{TOPIC}", f"{TOPIC}.{app_id}.dead"
    DaprApp(app).subscribe(pubsub=pubsub, topic=TOPIC, route=route, dead_letter_topic=dead)(take_setting)


async def take_setting(request: Request) -> Response:
    return await receive(request, TOPIC, services(request).snapshot.take)
