"""The pages for people."""

import pytest

from sandbox.app import TARGETS

from .conftest import MerchantAtB, Outside

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EVIL = '"><script>alert(1)</script>'


def page(outside: Outside, path: str) -> str:
    answer = outside.http.get(path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def test_the_front_page_leads_everywhere_and_shows_the_faults(outside: Outside):
    outside.set_fault("smtp", "lost-reply", count=4)
    outside.charge()
    MerchantAtB(outside).charge()

    front = page(outside, "/")

    for name in ("inbox", "sms", "push", "ledger", "webhooks", "receipts"):
        path = f"/sandbox/{name}"
        assert f'href="{path}"' in front
    assert "<td>smtp</td><td>lost-reply</td><td></td><td></td><td>1.0</td><td>4</td>" in front
    assert ">ledger</a> (1 at provider a, 1 at provider b" in front
    assert "".join(f"<option>{target}</option>" for target in sorted(TARGETS)) in front
    assert ">webhooks</a> (on, to nowhere)" in front
    assert ">receipts</a> (of nothing)" in front
    outside.direct(legacy="http://127.0.0.1:9/hooks", smtp="http://127.0.0.1:9/hooks")
    assert ">receipts</a> (of legacy, smtp)" in page(outside, "/")


def test_the_front_page_says_what_numbers_and_addresses_stand_for_and_takes_a_text(outside: Outside):
    front = page(outside, "/")

    for told in ("number ending in 9902", "number ending in 9907", "bounce…@", "greylist…@"):
        assert f"<td>{told}</td>" in front
    assert '<form id="write">' in front
    assert 'call("POST", "/sandbox/sms/inbound"' in front


def test_the_inbox_shows_a_mail_in_a_frame_without_rights(outside: Outside):
    outside.send_mail(subject=f"Hi {EVIL}", text=f"Text {EVIL}\n", html=f"<h1>Ready</h1>{EVIL}")

    shown = page(outside, "/sandbox/inbox")

    assert "<script>" not in shown
    assert "Hi &quot;&gt;&lt;script&gt;" in shown
    assert "Text &quot;&gt;&lt;script&gt;" in shown
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox" srcdoc="&lt;base' in shown
    assert "&lt;h1&gt;Ready&lt;/h1&gt;" in shown


@pytest.mark.parametrize("path", ["/sandbox/inbox", "/sandbox/push", "/sandbox/ledger", "/sandbox/sms"])
def test_no_list_runs_a_script(outside: Outside, path: str):
    outside.charge(orderId=EVIL)
    outside.push(orderId=EVIL)
    outside.text(message=EVIL)
    answer = outside.http.get(path, headers=BROWSER)

    assert "<script" not in answer.text
    assert "script-src 'none'" in answer.headers["content-security-policy"]


def test_the_lists_show_what_was_recorded(outside: Outside):
    outside.charge(orderId="o-42")
    outside.push(orderId="o-43")
    outside.text(message="Come and get it.")

    assert "<td>o-42</td>" in page(outside, "/sandbox/ledger")
    assert "<td>o-43</td>" in page(outside, "/sandbox/push")
    assert "<td>Come and get it.</td>" in page(outside, "/sandbox/sms")


def test_a_program_gets_json(outside: Outside):
    for path in ("/sandbox/inbox", "/sandbox/push", "/sandbox/ledger", "/sandbox/sms"):
        for headers in ({}, {"accept": "application/json"}):
            assert outside.http.get(path, headers=headers).json() == []


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_the_probes_answer(outside: Outside, path: str):
    assert outside.http.get(path).json() == {"status": "ok"}
