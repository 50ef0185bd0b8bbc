"""Who may publish where: `publishingScopes` and `protectedTopics` of components/pubsub.yaml, by the sidecars' word."""

import httpx
import pytest
from brewery import BACKOFFICE, DATASOURCE, NOTIFICATION, ORDER, PAYMENT, Brewery

REFUSED = [
    (PAYMENT, "orders"),
    (NOTIFICATION, "orders"),
    (ORDER, "payments"),
    (ORDER, "orders.notification-service.dead"),
    (BACKOFFICE, "customers"),
    (DATASOURCE, "settings"),
    ("sandbox", "orders"),
    (ORDER, "nobodys"),
]


async def published(brew: Brewery, publisher: str, topic: str) -> httpx.Response:
    url = f"{brew.stack.sidecar_url(publisher)}/v1.0/publish/pubsub/{topic}"
    headers = {"dapr-api-token": brew.stack.dapr_token}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        return await client.post(url, json={"of": "no type that anybody knows"})


@pytest.mark.parametrize(("publisher", "topic"), REFUSED)
async def test_a_topic_of_another_is_refused(brew: Brewery, publisher: str, topic: str):
    answer = await published(brew, publisher, topic)

    assert (answer.status_code, answer.json()["errorCode"]) == (403, "ERR_PUBSUB_FORBIDDEN")


@pytest.mark.parametrize("publisher", [ORDER, PAYMENT, NOTIFICATION, BACKOFFICE, DATASOURCE])
async def test_everybody_may_probe_the_broker(brew: Brewery, publisher: str):
    assert (await published(brew, publisher, "health-probes")).status_code == 204
