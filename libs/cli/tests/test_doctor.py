"""What is wrong with this machine and with the declarations is named, each with its mend."""

from pathlib import Path

import pytest

from cli import doctor

COMPONENTS = doctor.COMPONENTS


def findings(folder: Path) -> dict[str, str]:
    return to_mend(*doctor.components(folder), *doctor.resiliency(folder))


def to_mend(*found: doctor.Finding) -> dict[str, str]:
    return {f"{finding.what} {finding.found}": finding.mend for finding in found if finding.mend}


def test_nothing_is_wrong_with_what_is_shipped():
    assert findings(COMPONENTS) == {}


def test_a_wrong_scope_and_every_kind_of_wrong_attachment_are_found(tmp_path: Path):
    for file in COMPONENTS.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    store, policies = tmp_path / "statestore.yaml", tmp_path / "resiliency.yaml"
    store.write_text(store.read_text().replace("  - order-service", "  - oder-service"))
    text = policies.read_text().replace("timeout: list", "timeout: lits")
    policies.write_text(text.replace("      payment-b-lookup:", "      payment-c-lookup:"))

    assert findings(tmp_path).keys() == {
        "statestore scoped to oder-service",
        "timeout list is attached to nothing",
        "inn8 names no timeout: lits",
        "payment-c-lookup does not exist",
    }


def test_a_program_that_is_missing_or_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    old = tmp_path / "daprd"
    old.write_text("#!/bin/sh\necho 1.9.3\n")
    old.chmod(0o755)

    found = to_mend(*doctor.programs(tmp_path))

    assert found.pop(f"daprd 1.9.3 {old}").startswith("`make setup` builds ")
    missing = ("placement", "scheduler", "redis-server")
    assert found == {f"{name} not here": f"{name} is missing: run `make setup`" for name in missing}


def test_an_environment_that_is_not_as_locked_is_named(tmp_path: Path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("dapr==0.1 \\\n    --hash=sha256:0\nnobodys==1 \\\nelsewhere==1 ; sys_platform == 'win32' \\\n")

    assert to_mend(*doctor.packages(lock)) == {
        "Python's packages 2 not as in requirements.lock: dapr, nobodys": "`make setup` installs them"
    }


def test_secrets_that_are_torn_or_that_others_may_read_are_named(tmp_path: Path):
    assert to_mend(*doctor.secrets(tmp_path)) == {}
    (tmp_path / "secrets.json").write_text("{")
    (tmp_path / "tokens.env").chmod(0o644)

    torn, read = to_mend(*doctor.secrets(tmp_path)).items()

    assert torn[0] == "secrets.json can't be read"
    assert "mend it, or delete it together with var/data" in torn[1]
    assert read == ("tokens.env complete, mode 644", f"`chmod 600 {tmp_path}/tokens.env`")
