"""Events of services that are not ours, told by the routing table: contacts, saga, providers, receipts."""

from typing import Any

import httpx
import pytest
from brewery import NOTIFICATION, Brewery, bearer, client_of

from chassis.ids import new_id
from chassis.testing import eventually

PUBLISH = "/v1.0/publish/pubsub/loan-origination"


async def apply_for_loan(brew: Brewery, *, phone: str, branch: str) -> dict[str, Any]:
    """As another team's service would: a CloudEvent to the topic."""
    run = new_id()
    data = {
        "eventId": run,
        "eventTimestamp": "2026-11-21T12:00:00Z",
        "applicationId": f"A-{run}",
        "customerId": f"c-{run}",
        "requestedAmount": "1500.00",
        "productType": "Payroll",
        "branchId": branch,
        "customerName": "Grace",
        "customerPhone": phone,
        "customerEmail": f"{run}@customers.example",
    }
    event = {
        "specversion": "1.0",
        "id": run,
        "source": "loan-origination",
        "type": "LoanApplicationCreated",
        "tenantid": "default",
        "data": data,
    }
    headers = {"content-type": "application/cloudevents+json", "dapr-api-token": brew.stack.dapr_token}
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        url = brew.stack.sidecar_url(NOTIFICATION) + PUBLISH
        (await client.post(url, json=event, headers=headers)).raise_for_status()
    return data


@pytest.mark.timeout(120)
async def test_a_loan_application_is_told_to_its_customer_and_then_to_the_staff_of_the_branch(brew: Brewery) -> None:
    branch, clerk = f"B-{new_id()[-8:]}", f"s-{new_id()[-8:]}"
    async with client_of(brew.stack, NOTIFICATION, bearer(brew.stack, "admin")) as client:
        known = {"name": "Clerk", "email": f"{clerk}@staff.example", "groups": [f"branch:{branch}"], "version": 0}
        (await client.put(f"/api/v1/recipients/{clerk}", json=known)).raise_for_status()
        data = await apply_for_loan(brew, phone="+254700000001", branch=branch)
        path = f"/api/v1/sagas/{data['eventId']}"

        async def completed() -> bool:
            answer = await client.get(path)
            return answer.status_code == 200 and answer.json()["currentStep"] == "Completed"

        await eventually(completed, within=60, every=0.5)
        saga = (await client.get(path)).json()
        assert [(one["step"], one["sent"]) for one in saga["steps"]] == [
            ("CustomerNotification", True),
            ("StaffNotification", True),
        ]

        async def delivered() -> bool:
            page = (await client.get("/api/v1/notifications", params={"recipientId": data["customerId"]})).json()
            return [one["status"] for one in page["items"]] == ["delivered"]

        await eventually(delivered, within=30)
    texts = [one for one in (await brew.sandbox.get("/sandbox/sms")).json() if data["applicationId"] in one["text"]]
    assert [(one["to"], one["provider"]) for one in texts] == [("+254700000001", "africas-talking")]
    mails = [one for one in (await brew.sandbox.get("/sandbox/inbox")).json() if f"{clerk}@staff.example" in one["to"]]
    assert len(mails) == 1
