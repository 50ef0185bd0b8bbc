"""README and docs/ say what is there: settings, metrics, alerts, files and snippets."""

import ast
import json
import re
import subprocess

import yaml
from snippets import PAGES, ROOT, Snippet, snippets
from typer.main import get_group

import reference
from cli.main import app

_PATH = re.compile(
    r"`((?:services|libs|components|contracts|docs|examples|k8s|observability|sandbox|tests|tools)/[\w./-]*)`"
)
_CODE = [
    file
    for folder in ("libs/*/*", "services/*/*", "sandbox/sandbox", "tools")
    for file in sorted(ROOT.glob(f"{folder}/**/*.py"))
    if not {"tests", "bin"} & set(file.relative_to(ROOT).parts)
]
_VARIABLE = re.compile(r"""(?:environ\.get\(|environ\[|port_of\()\s*["']([A-Z][A-Z0-9_]+)["']""")
# By test_commands.py, tests/test_new_service.py and tests/examples.
_RUN = {"README.md", "docs/tutorial.md", "docs/polyglot.md"} | {
    str(page.relative_to(ROOT)) for page in PAGES if page.parts[-2] == "how-to" or page.parts[-3] == "examples"
}
_MADE = (  # by setup, or by who follows the page
    "tools/bin/",
    "services/payment/payment/providers/provider_c",
    "services/notification/notification/channels/chat/",
)
_NAME_IN_FILE = re.compile(r"`(\w+)` (?:in|of) `((?:services|libs|tests)/[\w./-]+\.\w+)`")


def test_every_setting_says_what_it_means():
    silent = [
        one.variable
        for service in (None, *reference.SERVICES)
        for one in reference.settings(service)
        if not one.meaning
    ]

    assert silent == []


def test_every_metric_says_what_it_counts():
    found = reference.metrics()

    assert {"orders_placed_total", "outbox_waiting", "edge.requests"} <= {one.name for one in found}
    assert [one.name for one in found if not one.meaning] == []


def test_each_alert_and_no_other_says_what_to_do():
    groups = yaml.safe_load((ROOT / "observability/prometheus-rules.yaml").read_text())["groups"]
    rules = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    told = re.findall(r"^\| `(\w+)` \| .+ \|$", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)

    assert sorted(told) == sorted(rules)


def test_every_recurring_work_says_what_it_does():
    code = "".join(file.read_text() for file in _CODE)
    told = (ROOT / "docs/operations.md").read_text()

    names = re.findall(r"\b(?:Job|Recurring)\(\s*name=\"(\w+)\", ?", code)
    assert {"Retention", "Sync"} < set(names)
    assert [name for name in names if f"`{name}`" not in told and name != "Tidying"] == []  # an example in jobs.py


def test_every_variable_that_is_read_beside_the_settings_is_told_of():
    read = {name for file in _CODE for name in _VARIABLE.findall(file.read_text())}
    told = "".join(page.read_text() for page in PAGES)

    assert {"BREWLINE_HOME", "TRACES_PORT"} < read
    assert [name for name in sorted(read) if name not in told and not name.startswith(("OTEL_", "NO_PROXY"))] == []


def test_every_file_that_a_page_names_is_there():
    gone = {
        (page.name, path)
        for page in PAGES
        if page.name not in {"CHANGELOG.md", "tutorial.md"}  # what is gone; what its reader makes
        for path in _PATH.findall(page.read_text())
        if not (ROOT / path).exists() and not path.startswith(_MADE)
    }

    assert gone == set()


def test_every_target_and_command_that_a_page_names_is_one():
    told = "\n".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(get_group(app).commands)

    made = set(re.findall(r"(?:`|^)make (?:-s )?(?:-C \S+ )?([a-z][a-z0-9-]*)", told, re.MULTILINE))
    typed = set(re.findall(r"(?:`|^|\.venv/bin/)brewline ([a-z][a-z0-9-]*)", told, re.MULTILINE))
    assert {"up", "check", "docs"} < made
    assert {"why", "doctor", "new"} < typed
    assert made - targets == typed - commands == set()


def test_every_name_that_a_how_to_sends_its_reader_for_is_in_that_file():
    told = [
        (page.name, name, path)
        for page in sorted(ROOT.glob("docs/how-to/*.md"))
        for name, path in _NAME_IN_FILE.findall(" ".join(page.read_text().split()))
    ]

    assert {"channel.md", "event.md", "provider.md", "step.md"} == {page for page, _, _ in told}
    assert [one for one in told if not re.search(rf"\b{one[1]}\b", (ROOT / one[2]).read_text())] == []


def test_every_snippet_says_what_it_is_in():
    assert [one.page for one in snippets() if not one.language] == []


def test_every_snippet_can_be_read():
    assert [(snippet.page, why) for snippet in snippets() if (why := unreadable(snippet))] == []


def test_what_no_test_runs_says_why():
    commands = [one for one in snippets() if one.language == "sh" and one.page not in _RUN]

    assert [one.page for one in commands if not one.skip] == []


def unreadable(snippet: Snippet) -> str:
    try:
        match snippet.language:
            case "python":
                ast.parse(snippet.text)
            case "json":
                json.loads(snippet.text)
            case "yaml":
                list(yaml.safe_load_all(snippet.text))
            case "sh":
                subprocess.run(["bash", "-n"], input=snippet.text, text=True, check=True, capture_output=True)
            case _:
                pass
    except (SyntaxError, ValueError, yaml.YAMLError, subprocess.CalledProcessError) as wrong:
        return str(wrong)
    return ""
