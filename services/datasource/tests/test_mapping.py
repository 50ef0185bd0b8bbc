"""INN8's fields become ours, or say why not."""

import json
from pathlib import Path

import pytest

from datasource import mapping
from datasource.domain import Entity
from datasource.mapping import MAPPINGS, Invalid, transform
from datasource.tables import OF_ENTITY

CONTRACT = json.loads((Path(__file__).resolve().parents[3] / "contracts" / "inn8.json").read_text())
CLIENT = {
    "id": "C-1",
    "fullName": "Ada Lovelace",
    "emailAddress": "ada@example.com",
    "phoneNumber": "202.555.0123",
    "address": {"street": "1 Main St", "city": "Austin", "state": "TX", "zipCode": "73301"},
    "status": "ACTIVE",
    "updatedAt": "2026-01-02T03:04:05Z",
}
PORTFOLIO = {"id": "P-1", "clientId": "C-1", "name": "Growth", "updatedAt": "2026-01-02T03:04:05Z"}
SECURITY = {"id": "S-1", "symbol": "SY", "name": "Security", "updatedAt": "2026-01-02T03:04:05Z"}
TRANSACTION = {
    "id": "T-1",
    "portfolioId": "P-1",
    "type": "Buy",
    "amount": "12.50",
    "tradeDate": "2026-01-02",
    "updatedAt": "2026-01-02T03:04:05+02:00",
}


@pytest.mark.parametrize("entity", Entity)
def test_each_table_has_the_fields_of_inn8s_contract_and_the_columns_of_ours(entity):
    fields = set(CONTRACT["components"]["schemas"][entity.type]["properties"])
    assert {mapped.field for mapped in MAPPINGS[entity]} | {"id", "updatedAt"} == fields

    own = {column.name for column in OF_ENTITY[entity].columns}
    kept = {"id", "tenant", "source", "external_id", "fingerprint", "version", "created_at", "updated_at"}
    kept |= {"last_sync_at", "seen_in", "deleted_at"}
    assert {mapped.column for mapped in MAPPINGS[entity]} == own - kept


def test_a_client_as_document_003_has_it():
    record = transform(Entity.CLIENTS, CLIENT)

    assert record.external_id == "C-1"
    assert record.updated_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert record.values == {
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "phone": "(202) 555-0123",
        "phone_e164": "+12025550123",
        "address": "1 Main St, Austin, TX 73301",
        "status": "Active",
    }


def test_the_others_with_what_may_be_left_out():
    assert transform(Entity.PORTFOLIOS, PORTFOLIO).values == {
        "client_external_id": "C-1",
        "name": "Growth",
        "account_number": "",
        "account_type": "Unknown",
        "status": "Unknown",
    }
    assert transform(Entity.SECURITIES, SECURITY).values["type"] == "Unknown"
    values = transform(Entity.TRANSACTIONS, TRANSACTION).values
    assert (values["type"], values["amount"], values["quantity"]) == ("Buy", "12.50", None)
    assert values["trade_date"].isoformat() == "2026-01-02"


def test_phones():
    written = {
        None: ("", ""),
        "": ("", ""),
        "2025550123": ("(202) 555-0123", "+12025550123"),
        "(202) 555-0123": ("(202) 555-0123", "+12025550123"),
        "+1 202 555 0123": ("+1 202 555 0123", "+12025550123"),  # eleven digits: as it came
        "+254 711 000 111": ("+254 711 000 111", "+254711000111"),
        "+44 20 7946 0958": ("+44 20 7946 0958", "+442079460958"),
        "1234567890": ("(123) 456-7890", ""),  # ten digits, and nobody's number
        "call me": ("call me", ""),
        "555-0123": ("555-0123", ""),
    }
    assert {text: (mapping.phone(text), mapping.e164(text)) for text in written} == written


def test_addresses():
    whole = {"street": "1 Main St", "city": "Austin", "state": "TX", "zipCode": "73301"}
    assert mapping.address(whole) == "1 Main St, Austin, TX 73301"
    assert mapping.address(whole | {"city": None}) == "1 Main St, TX 73301"
    assert mapping.address({"state": "TX"}) == "TX"
    assert mapping.address({}) == mapping.address(None) == ""


BAD = [
    (Entity.CLIENTS, "no object", [], "the item is no object"),
    (Entity.CLIENTS, "no id", CLIENT | {"id": None}, "id is no id"),
    (Entity.CLIENTS, "an id that no header can carry", CLIENT | {"id": "C 1"}, "id is no id"),
    (Entity.CLIENTS, "an id too long", CLIENT | {"id": "C" * 65}, "id is no id"),
    (Entity.CLIENTS, "no name", CLIENT | {"fullName": " "}, "fullName is missing"),
    (Entity.CLIENTS, "a name of numbers", CLIENT | {"fullName": 7}, "fullName is no text"),
    (Entity.CLIENTS, "a name too long", CLIENT | {"fullName": "x" * 256}, "fullName is longer than 255 characters"),
    (Entity.CLIENTS, "a text for an address", CLIENT | {"address": "1 Main St"}, "address is no address"),
    (Entity.CLIENTS, "no time", CLIENT | {"updatedAt": "yesterday"}, "updatedAt is no time"),
    (Entity.CLIENTS, "a number for a time", CLIENT | {"updatedAt": 5}, "updatedAt is no time"),
    (Entity.PORTFOLIOS, "no client", PORTFOLIO | {"clientId": ""}, "clientId is no id"),
    (Entity.TRANSACTIONS, "a float", TRANSACTION | {"amount": 12.5}, "amount is no decimal text"),
    (Entity.TRANSACTIONS, "no number", TRANSACTION | {"price": "NaN"}, "price is no decimal text"),
    (Entity.TRANSACTIONS, "no date", TRANSACTION | {"tradeDate": "2026-02-30"}, "tradeDate is no date"),
]


def test_what_can_not_be_taken_says_why_and_nothing_of_what_it_was():
    for entity, what, item, reason in BAD:
        with pytest.raises(Invalid) as refused:
            transform(entity, item)
        assert str(refused.value) == reason, what


def test_a_fingerprint_moves_with_every_value_and_with_nothing_else():
    before = transform(Entity.CLIENTS, CLIENT).fingerprint

    same = transform(Entity.CLIENTS, CLIENT | {"updatedAt": "2026-05-05T00:00:00Z", "phoneNumber": "202-555-0123"})
    assert same.fingerprint == before
    for field, value in (("fullName", "Ada"), ("status", "inactive"), ("phoneNumber", "2025550124"), ("address", None)):
        assert transform(Entity.CLIENTS, CLIENT | {field: value}).fingerprint != before, field


def test_what_would_forge_a_line_is_left_out():
    assert transform(Entity.CLIENTS, CLIENT | {"fullName": "Ada\r\nBcc: x\x00"}).values["name"] == "Ada  Bcc: x"
