"""INN8's clients by dlt: `python dlt_sync.py DATABASE INN8 SECRET`. The same pages as ours, merged by their id; its
settings are its own. It prints what sync.py prints of ours."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.helpers import requests


def pages(inn8: str, secret: str) -> Iterator[list[dict[str, Any]]]:
    form = {"grant_type": "client_credentials", "client_id": "bench", "client_secret": secret, "scope": "api.read"}
    token = requests.post(f"{inn8}/oauth/token", data=form).json()["access_token"]
    asked = {"limit": "500"}
    while True:
        page = requests.get(f"{inn8}/clients", params=asked, headers={"Authorization": f"Bearer {token}"}).json()
        yield page["items"]
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


def destination(url: str) -> tuple[Any, str]:
    """And what the data set is called there: SQLite knows `main` alone."""
    if url.startswith("sqlite"):
        return dlt.destinations.sqlalchemy(url, create_primary_keys=True), "main"
    # It wants a password, if only for a server that asks for none.
    return dlt.destinations.postgres(url.replace("@", ":none@", 1)), "inn8"


def main(url: str, inn8: str, secret: str) -> None:
    to, dataset = destination(url)
    state = Path(f"dlt-{dataset}").resolve()
    pipeline = dlt.pipeline("bench", destination=to, dataset_name=dataset, pipelines_dir=str(state))
    seconds: list[float] = []
    megabytes: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        clients = dlt.resource(pages(inn8, secret), name="clients", write_disposition="merge", primary_key="id")
        pipeline.run(clients).raise_on_failed_jobs()
        seconds.append(time.perf_counter() - began)
        megabytes.append(resident())
    with pipeline.sql_client() as client:
        rows = client.execute_sql("SELECT count(*) FROM clients")[0][0]
    print(json.dumps({"rows": rows, "seconds": seconds, "mb": megabytes}))


def resident() -> float:
    """At most, until now; in MB."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
