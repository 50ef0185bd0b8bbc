"""What was taken since the start, by currency, from Brewline's events: FastAPI and Dapr's own extension alone.

It remembers in memory alone, so it begins at nothing: what has to be right after a restart is kept in a store, together
with the ids of the events that were taken.
"""

import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import Body, FastAPI, Header, HTTPException
from jsonschema import Draft202012Validator, ValidationError

CONFIRMED = "order.confirmed.v1"
CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
contract = Draft202012Validator(json.loads((CONTRACTS / "events" / f"{CONFIRMED}.json").read_text()))

app = FastAPI()
dapr = DaprApp(app)
taken: set[tuple[str, str]] = set()
sums: defaultdict[str, Decimal] = defaultdict(Decimal)


@dapr.subscribe(pubsub="pubsub", topic="orders", route="/events/orders")
def heard(event: Annotated[dict[str, Any], Body()], dapr_api_token: Annotated[str, Header()] = "") -> dict[str, str]:
    """The same event may come again: it is known by its source and id."""
    if dapr_api_token != os.environ.get("APP_API_TOKEN", ""):  # only the sidecar knows it
        raise HTTPException(401)
    key = (event.get("source", ""), event.get("id", ""))
    if event.get("type") != CONFIRMED or key in taken:
        return {"status": "SUCCESS"}
    try:
        contract.validate(event.get("data"))
    except ValidationError:  # it would never be right, and an error would bring it again without end
        return {"status": "DROP"}
    total = event["data"]["total"]
    sums[total["currency"]] += Decimal(total["amount"])
    taken.add(key)
    return {"status": "SUCCESS"}


@app.get("/takings")
def takings() -> dict[str, str]:
    return {currency: str(amount) for currency, amount in sums.items()}


@app.get("/health/live")
def live() -> dict[str, str]:
    return {"status": "alive"}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("APP_PORT", "8012")), log_level="warning")
