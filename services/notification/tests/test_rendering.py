from pathlib import Path

import pytest

from notification.domain import ChannelName
from notification.rendering import NotRenderable, Templates
from notification.routing import ROUTES, routes_for
from notification.subscriptions import SHAPES

EMAILS = [route for route in ROUTES if route.channel is ChannelName.EMAIL]
EXTRA = {"reason": "declined", "trackingNumber": "1Z999"}


def context(event, kind="order.confirmed.v1", **data):
    return SHAPES[kind].model_validate(event(kind, **EXTRA, **data)["data"]).model_dump(mode="json")


@pytest.mark.parametrize("route", EMAILS, ids=lambda route: route.template)
def test_every_routed_event_renders(route, event, templates):
    rendered = templates.render(route.template, context(event, route.type, status=route.status or "confirmed"))
    assert rendered.subject
    assert "Ada" in rendered.text
    assert "o-1" in rendered.text
    assert "Ada" in rendered.html
    assert "o-1" in rendered.html
    assert "{" not in rendered.text


def test_every_template_is_routed_to(templates):
    assert templates.names == {route.template for route in EMAILS}


def test_every_routed_type_has_a_shape():
    assert set(SHAPES) == {route.type for route in ROUTES}


def test_a_confirmation_lists_what_was_ordered(event, templates):
    items = [{"name": "Latte", "variation": "vanilla", "quantity": 2}, {"name": "Scone", "quantity": 1}]
    rendered = templates.render("order_confirmed", context(event, items=items))
    assert "  2 x Latte (vanilla)\n  1 x Scone\n  Total 9.00 USD\n" in rendered.text
    assert "2 &times; Latte (vanilla)" in rendered.html
    assert "1 &times; Scone<" in rendered.html


def test_a_hostile_name_is_escaped_in_html_only(event, templates):
    customer = {"id": "c-1", "name": "<script>alert('x')</script>", "email": "ada@example.com"}
    rendered = templates.render("order_confirmed", context(event, customer=customer))
    assert "<script>" not in rendered.html
    assert "&lt;script&gt;" in rendered.html
    assert "<script>" in rendered.text


def test_a_name_is_never_taken_for_a_template(event, templates):
    customer = {"id": "c-1", "name": "{{ 7 * 7 }}", "email": "ada@example.com"}
    assert "{{ 7 * 7 }}" in templates.render("order_confirmed", context(event, customer=customer)).text


def test_a_subject_is_one_line(event, templates):
    customer = {"id": "c-1", "name": "Ada\r\nBcc: everyone@example.com\x00", "email": "ada@example.com"}
    subject = templates.render("order_confirmed", context(event, customer=customer)).subject
    assert subject == "Thank you, Ada Bcc: everyone@example.com : your order is confirmed"


def test_a_missing_variable_is_refused_and_not_left_blank(templates):
    with pytest.raises(NotRenderable, match="template order_confirmed: UndefinedError"):
        templates.render("order_confirmed", {"order_id": "o-1"})


def test_an_unknown_template_is_refused(templates):
    with pytest.raises(NotRenderable, match="no template nothing"):
        templates.render("nothing", {})


def test_a_template_can_reach_nothing_but_its_context(tmp_path: Path):
    (tmp_path / "evil").mkdir()
    for part in ("subject.txt", "body.txt", "body.html"):
        (tmp_path / "evil" / part).write_text("{{ name.__class__.__mro__ }}")
    with pytest.raises(NotRenderable, match="SecurityError"):
        Templates(tmp_path).render("evil", {"name": "Ada"})


def test_a_status_chooses_its_routes():
    told = [(route.channel.value, route.told_as) for route in routes_for("order.status-changed.v1", "ready")]
    assert told == [("email", ""), ("push", "prepared")]
    assert routes_for("order.created.v1", "pending_payment") == []
