"""Who gets in."""

from backoffice.access import RULES
from backoffice.app import create_app
from chassis.edge.rules import Book, routes_of


def test_every_route_has_a_rule_and_every_rule_a_route(settings, sidecar):
    assert routes_of(create_app(settings, sidecar=sidecar)) == set(Book(RULES).rules)


async def test_it_starts_and_is_ready(client):
    assert (await client.get("/health/ready")).status_code == 200
