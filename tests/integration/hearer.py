"""Hears the topic `orders` beside Brewline, as a consumer of another team would, and writes down which event came from
which partition to which of its replicas."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Request

REPLICA = os.environ["HEARER_REPLICA"]
HEARD = Path(os.environ["HEARER_FILE"])

app = FastAPI()


@app.get("/dapr/subscribe")
def subscriptions() -> list[dict[str, str]]:
    return [{"pubsubname": "pubsub", "topic": "orders", "route": "/events/orders"}]


@app.post("/events/orders")
def heard(event: Annotated[dict[str, Any], Body()], request: Request) -> dict[str, str]:
    seen = {
        "replica": REPLICA,
        "partition": request.headers.get("__partition"),
        "at": time.time(),
        "id": event["id"],
        "subject": event.get("subject"),
        "version": event["data"]["version"],
    }
    with HEARD.open("a") as file:  # one write: replicas share the file
        file.write(json.dumps(seen) + "\n")
    return {"status": "SUCCESS"}


@app.get("/health/live")
@app.get("/health/ready")
def live() -> dict[str, str]:
    return {"status": "alive"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["APP_PORT"]), log_level="warning")
