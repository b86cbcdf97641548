"""What BackupGuard is made of: a licence nobody allowed, or an acceptance that is over, is red."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _loaded() -> Any:
    loader = SourceFileLoader("script_audit", str(ROOT / "script" / "audit"))
    spec = spec_from_loader("script_audit", loader)
    assert spec is not None
    module = module_from_spec(spec)
    import sys

    sys.modules["script_audit"] = module  # dataclasses look for it there
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


audit = _loaded()
POLICY = tomllib.loads((ROOT / "script" / "audit.toml").read_text(encoding="utf-8"))
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
TODAY = date(2026, 3, 1)
KNOWN = audit.Answer(
    (audit.Vulnerability("urllib3", "2.5.0", frozenset({"CVE-2026-1", "GHSA-x"}), ("2.5.1",)),), 9
)
NONE = audit.Answer((), 9)


def _policy(**licences: Any) -> dict[str, Any]:
    found = {"allowed": {"MIT": ""}, "allowed-for-development": {}, "words": {}, "reviewed": {}}
    return {"licences": {**found, **licences}}


def test_everything_that_is_installed_may_be_used() -> None:
    assert audit.licences(POLICY, list(audit.installed()), audit.shipped(LOCK)) == []


def test_what_is_shipped_is_what_runs_with_everything_optional_and_no_tool_of_ours() -> None:
    names = audit.shipped(LOCK)
    assert {"pydantic", "pydantic-core", "botocore", "oracledb", "psycopg-binary"} <= names
    assert names.isdisjoint({"pytest", "mypy", "ruff", "hypothesis", "playwright"})


@pytest.mark.parametrize(
    ("licence", "wrong"),
    [
        ("MIT", False),
        ("", True),
        ("Proprietary", True),
        ("GPL-3.0-or-later", True),
        ("MIT AND GPL-3.0-or-later", True),
        ("MIT OR GPL-3.0-or-later", False),
        ("(MIT OR GPL-2.0-only) AND MIT", False),
        ("MIT OR GPL-2.0-only AND Proprietary", False),
        ("(MIT OR GPL-2.0-only) AND Proprietary", True),
        ("MIT WITH Some-exception", True),
        ("MIT)", True),
        ("MIT AND", True),
        ("some words that mean nothing", True),
    ],
    ids=str,
)
def test_a_licence_that_nobody_allowed_is_told(licence: str, wrong: bool) -> None:
    package = audit.Package("left-pad", licence)
    assert bool(audit.licences(_policy(), [package], frozenset({"left-pad"}))) is wrong


def test_a_tool_may_have_a_licence_that_is_not_shipped() -> None:
    policy = _policy(**{"allowed-for-development": {"GPL-3.0-only": "a tool"}})
    package = audit.Package("tool", "GPL-3.0-only")
    assert audit.licences(policy, [package], frozenset()) == []
    assert audit.licences(policy, [package], frozenset({"tool"}))


def test_what_was_reviewed_is_reviewed_again_when_it_says_something_else_or_is_gone() -> None:
    policy = _policy(reviewed={"old": {"metadata": "Dual", "licence": "MIT"}})
    assert audit.licences(policy, [audit.Package("old", "Dual")], frozenset()) == []
    assert audit.licences(policy, [audit.Package("old", "MIT")], frozenset())
    assert audit.licences(policy, [], frozenset())


def test_a_known_vulnerability_is_told_with_what_mends_it() -> None:
    (told,) = audit.vulnerable({}, KNOWN, TODAY)
    assert "urllib3 2.5.0" in told
    assert "2.5.1" in told
    assert audit.vulnerable({}, NONE, TODAY) == []


@pytest.mark.parametrize(
    ("until", "count"), [(date(2026, 3, 1), 0), (date(2026, 2, 28), 1)], ids=str
)
def test_an_accepted_one_is_accepted_until_its_last_day(until: date, count: int) -> None:
    policy = {"vulnerabilities": {"accepted": {"GHSA-x": {"until": until, "reason": "no XML"}}}}
    assert len(audit.vulnerable(policy, KNOWN, TODAY)) == count
    assert len(audit.vulnerable(policy, NONE, TODAY)) == 1, "what is gone is no longer accepted"
    assert audit.vulnerable(policy, audit.Answer((), 8, ("urllib3",)), TODAY) == []


def test_every_accepted_one_has_a_reason_and_an_end() -> None:
    for accepted in POLICY["vulnerabilities"]["accepted"].values():
        assert accepted["reason"]
        assert isinstance(accepted["until"], date)
    assert all(POLICY["licences"]["allowed"].values())
    assert all(one["reason"] for one in POLICY["licences"]["reviewed"].values())


def test_what_pip_audit_says_is_read() -> None:
    vulnerability = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.5.1"]}
    dependencies = [
        {"name": "urllib3", "version": "2.5.0", "vulns": [vulnerability]},
        {"name": "local", "skip_reason": "not on PyPI"},
    ]
    answer = audit.read_answer(json.dumps({"dependencies": dependencies}))
    (found,) = answer.known
    assert found.names == {"PYSEC-1", "CVE-2026-1"}
    assert found.mended_in == ("2.5.1",)
    assert (answer.asked, answer.skipped) == (1, ("local",))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (audit.Answer(), audit.NOT_ASKED),
        (audit.Answer((), 0, ("jinja2",)), audit.NOT_ASKED),
        (audit.Answer((), 8, ("jinja2",)), audit.NOT_ASKED),
        (audit.Answer(KNOWN.known, 8, ("jinja2",)), audit.WRONG),
        (KNOWN, audit.WRONG),
        (NONE, audit.DONE),
    ],
    ids=["nobody", "a mirror", "not of one", "one and not of another", "one", "none"],
)
def test_what_could_not_be_asked_is_not_silence(
    answer: Any, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "ask", lambda: answer)
    assert audit.main(["vulnerabilities"]) == status
    assert ("COULD NOT ASK" in capsys.readouterr().out) is (status == audit.NOT_ASKED)


def test_a_word_that_is_no_part_is_wrong_use() -> None:
    assert audit.main(["nonsense"]) == audit.USAGE
