"""What a move from Redis to Kafka and PostgreSQL needs (docs/operations.md tells when):

moving.py topics         every topic of ours, one a line, to be made in Kafka
moving.py subscriptions  everybody's subscriptions once more, on a component `former`, as manifests
moving.py idempotency    copies the records behind Idempotency-Key: from the Redis at --redis (its password in
                         REDISCLI_AUTH) to the PostgreSQL of STATE_DATABASE_URL; to be run as often as one likes
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import yaml
from fastapi.routing import APIRoute

import contracts
from tree import ROOT

FORMER = "former"
PROBES = "health-probes"
RECORDS = "order-service||idem:*"
TABLE = "statestore_state"  # as k8s/overlays/production/statestore.yaml names it

Manifest = dict[str, Any]

# The whole of it in one answer: asked for one after the other, a hundred thousand records take minutes.
_READ = """
local cursor, found = '0', {}
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local value = redis.call('HGET', key, 'data')
    if value then found[#found + 1] = cjson.encode({key, value, redis.call('PTTL', key)}) end
  end
until cursor == '0'
return found
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("topics", "subscriptions", "idempotency"))
    parser.add_argument("--redis", default="localhost:6379", help="host:port")
    asked = parser.parse_args()
    match asked.what:
        case "topics":
            print("\n".join(topics()))
        case "subscriptions":
            print(yaml.safe_dump_all(subscriptions(), sort_keys=False), end="")
        case _:
            print(f"moving: {copy_idempotency(asked.redis, os.environ['STATE_DATABASE_URL'])} records copied")
    return 0


def subscriptions() -> list[Manifest]:
    """Those in code and those that components/ declares, each on `former`."""
    found = [
        {
            "apiVersion": "dapr.io/v2alpha1",
            "kind": "Subscription",
            "metadata": {"name": f"{FORMER}-{spec['topic']}-to-{app}".replace(".", "-")},
            "spec": {
                "pubsubname": FORMER,
                "topic": spec["topic"],
                "routes": {"default": spec["route"]},
                **({"deadLetterTopic": spec["deadLetterTopic"]} if spec.get("deadLetterTopic") else {}),
            },
            "scopes": [app],
        }
        for app, spec in in_code()
    ]
    for declared in yaml.safe_load_all((ROOT / "components" / "subscriptions.yaml").read_text()):
        declared["metadata"]["name"] = f"{FORMER}-{declared['metadata']['name']}"
        declared["spec"]["pubsubname"] = FORMER
        found.append(declared)
    return found


def topics() -> list[str]:
    heard = {each["spec"]["topic"] for each in subscriptions()}
    return sorted(heard | {event.topic for event in contracts.EVENTS} | {PROBES})


def in_code() -> Iterator[tuple[str, Manifest]]:
    """App and subscription, as each service tells its sidecar."""
    for service, app in contracts.services().items():
        for route in app.routes:
            if isinstance(route, APIRoute) and route.path == "/dapr/subscribe":
                yield from ((f"{service}-service", spec) for spec in route.endpoint())


def copy_idempotency(redis: str, url: str) -> int:
    """How many were copied; what PostgreSQL has already is newer, and stays."""
    host, _, port = redis.partition(":")
    command = ["redis-cli", "--raw", "-h", host, "-p", port or "6379", "EVAL", _READ, "0", RECORDS]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in said.splitlines() if line]
    insert = (
        f"INSERT INTO {TABLE} (key, value, expires_at) VALUES (%s, %s, now() + %s * interval '1 millisecond')"  # noqa: S608
        " ON CONFLICT (key) DO NOTHING"
    )
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        if rows:
            cursor.executemany(insert.encode(), [(key, value.encode(), ttl) for key, value, ttl in rows if ttl > 0])
        return max(cursor.rowcount, 0)


if __name__ == "__main__":
    sys.exit(main())
