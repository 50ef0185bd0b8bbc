"""What others generate from contracts/: clients of every service, without a warning, one used as docs/polyglot.md
says; and AsyncAPI's own parser reads the topics. `make test-more` gets what they need."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from elsewhere import ROOT, Elsewhere, told_by

pytestmark = [pytest.mark.integration, pytest.mark.more]
DOCUMENTS = sorted((ROOT / "contracts" / "http").glob("*.json"))
PROGRAMS = ROOT / ".venv" / "bin"
NODE_PROGRAMS = ROOT / "examples" / "till" / "node_modules" / ".bin"
ASYNCAPI = ROOT / "tools" / "bin" / "asyncapi"


def run(*words: str | Path, at: Path) -> str:
    path = f"{PROGRAMS}:{os.environ['PATH']}"  # where the Python generator looks for ruff
    done = subprocess.run(words, cwd=at, env=os.environ | {"PATH": path}, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_a_python_client_comes_out_without_a_warning_and_types_every_answer_that_has_a_body(document, tmp_path):
    run(
        *("openapi-python-client", "generate", "--path", document, "--meta", "none", "--fail-on-warning"),
        *("--output-path", tmp_path / "client"),
        at=tmp_path,
    )

    bodiless = {
        operation["operationId"]
        for verbs in json.loads(document.read_text())["paths"].values()
        for operation in verbs.values()
        if any("content" not in answer for answer in operation["responses"].values())
    }
    untyped = {
        file.stem
        for file in tmp_path.glob("client/api/*/*.py")
        if re.search(r"\) -> Response\[.*\bAny\b", file.read_text())
    }
    assert untyped <= bodiless


def test_the_python_client_that_the_docs_show_places_an_order_and_reads_it_back(elsewhere: Elsewhere):
    generate, use = told_by("docs/polyglot.md")
    (program,) = told_by("docs/polyglot.md", "python")
    (elsewhere.home / "var" / "place.py").write_text(elsewhere.here(program))

    elsewhere.typed(generate)
    told = elsewhere.typed(use)

    status, order_id, amount, currency = told.split()
    assert (status, amount, currency) == ("confirmed", "8.00", "USD")
    with elsewhere.client("ORDER") as staff:
        assert staff.get(f"/api/v1/orders/{order_id}").json()["status"] == "confirmed"


@pytest.mark.skipif(not NODE_PROGRAMS.exists(), reason="needs Node and its packages: tools/setup.sh examples")
def test_typescripts_types_of_every_service_come_out_without_a_warning_and_compile(tmp_path):
    for document in DOCUMENTS:
        said = run(NODE_PROGRAMS / "openapi-typescript", document, "-o", f"{document.stem}.ts", at=tmp_path)
        assert "warn" not in said.lower(), said

    run(NODE_PROGRAMS / "tsc", "--noEmit", "--strict", *(f"{document.stem}.ts" for document in DOCUMENTS), at=tmp_path)


@pytest.mark.skipif(not ASYNCAPI.exists(), reason="needs Node and its packages: tools/setup.sh examples")
def test_asyncapis_own_parser_finds_nothing_wrong_and_every_message():
    document = ROOT / "contracts" / "asyncapi.yaml"

    said = run("node", Path(__file__).parent / "asyncapi" / "parse.mjs", ASYNCAPI, document, at=ROOT)

    messages = yaml.safe_load(document.read_text())["components"]["messages"]
    assert json.loads(said) == {"wrong": [], "messages": len(messages)}
