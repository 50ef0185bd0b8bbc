"""A service that knows nothing of ours but its sidecar: it hears `orders`, and processes them or not, as it is told."""

import os
from typing import Any

import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI

app = FastAPI()
heard: list[str] = []
state = {"status": "DROP"}


async def take(event: dict[str, Any]) -> dict[str, str]:
    heard.append(event["id"])
    return state


@app.get("/health/live")
@app.get("/health/ready")
async def well() -> None:
    """It is."""


@app.get("/heard")
async def what_was_heard() -> list[str]:
    return heard


@app.put("/status/{status}")
async def answer_with(status: str) -> None:
    state["status"] = status


DaprApp(app).subscribe(
    pubsub="pubsub", topic="orders", route="/events/orders", dead_letter_topic="orders.stock-service.dead"
)(take)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["APP_PORT"]), log_level="warning")
