"""The catalogue: all controls of the reference, values with their origin, errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.controls import BUILT, controls_of, load_catalogue
from backupguard.controls.catalogue import Catalogue
from backupguard.errors import ConfigurationError
from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.model import Criticality, Scope, Severity, Status, View

NAMES = [
    *("INV-01", "INV-02", "JOB-01", "PDM-01", "RET-01", "321-01", "OFF-01", "IMM-01", "IMM-02"),
    *("ISO-01", "ACC-01", "CHF-01", "INT-01", "ANO-01", "RST-01", "RST-02", "RST-03", "RST-04"),
    *("CFG-01", "PRV-01"),
]
ENTRY = """domain = "D4"
name = {{ fr = "x", en = "x" }}

[[control]]
id = "RST-01"
scope = "application"
title = {{ fr = "x", en = "x" }}
built = true
severity = {{ C1 = "critical", C2 = "high", C3 = "high" }}
sources = ["x"]
[control.thresholds.period]
unit = "duration"
{0}
"""


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return load_catalogue()


def test_all_twenty_controls_are_there(shipped: Catalogue) -> None:
    assert list(shipped.entries) == NAMES
    assert {name for name, entry in shipped.entries.items() if entry.built} == set(BUILT)
    assert len(shipped.sha256) == 64


def test_a_built_control_has_the_scope_of_its_entry(shipped: Catalogue) -> None:
    for name, control in BUILT.items():
        assert control.scope is shipped.entries[name].scope


def test_titles_in_both_languages_and_every_value_with_its_origin(shipped: Catalogue) -> None:
    for entry in shipped.entries.values():
        assert entry.title.fr
        assert entry.title.en
        assert shipped.title(entry.id, "fr") == entry.title.fr
        for threshold in entry.thresholds.values():
            for criticality in Criticality:
                value = threshold.of(criticality)
                assert value is None or value.origin in ("SRC", "PROD")
    assert shipped.title("XXX-99", "fr") == "XXX-99"


def test_the_thresholds_that_decide(shipped: Catalogue) -> None:
    days = {c: (shipped.period("RST-01", c) or 0) / 86_400 for c in Criticality}
    assert list(days.values()) == [31, 92, 365]
    assert shipped.policy("RST-01", Criticality.C1).severity is Severity.CRITICAL
    assert shipped.policy("PDM-01", Criticality.C3).thresholds["default-rpo"] == 7 * 86_400
    assert shipped.policy("RST-03", Criticality.C2).thresholds["default-rto"] == 720 * 60
    assert shipped.period("IMM-01", Criticality.C3, "locked-for") is None


def test_what_is_not_built_says_so_once(shipped: Catalogue) -> None:
    absent = [control for control in controls_of(shipped) if control.id not in BUILT]
    assert len(absent) == 20 - len(BUILT)
    view = View(scope=Scope.SITE, subject="site", settings={})
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    for control in absent:
        judgement = control.judge(view, shipped.policy(control.id, Criticality.C1), now)
        assert judgement.status is Status.NOT_APPLICABLE
        assert Words("fr").say(judgement.reason) == "Absent de cette version."


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ('C1 = { value = "soon", origin = "PROD" }', 11),
        ('C1 = { value = "31d", origin = "SRC" }', 13),
        ('C1 = { value = "31d", origin = "OURS" }', 13),
        ('all = { value = 31, origin = "PROD" }', 11),
        ('C4 = { value = "31d", origin = "PROD" }', 13),
        ("", 11),
        ('C1 = { value = "31d" origin = "PROD" }', 13),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, value: str, line: int) -> None:
    path = tmp_path / "controls.toml"
    path.write_text(ENTRY.format(value), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_catalogue(path)
    assert [(p.file, p.line) for p in caught.value.problems] == [(str(path), line)]


def test_a_sound_entry_is_read_and_a_second_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "controls.toml"
    text = ENTRY.format('all = { value = "31d", origin = "PROD" }')
    path.write_text(text, encoding="utf-8")
    assert load_catalogue(path).period("RST-01", Criticality.C3) == 31 * 86_400
    path.write_text(text + text[text.index("[[control]]") :], encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_catalogue(path)
    assert caught.value.problems[0].line == 15


def test_a_catalogue_cannot_switch_on_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "controls.toml"
    text = ENTRY.format('all = { value = "31d", origin = "PROD" }')
    path.write_text(text.replace("RST-01", "ZZZ-01"), encoding="utf-8")
    (only,) = controls_of(load_catalogue(path))
    assert only.id == "ZZZ-01"
    assert only.scope is Scope.SITE


def test_every_code_has_words_in_both_languages() -> None:
    from backupguard.errors import all_codes

    for language in LANGUAGES:
        known = catalogue(language)
        assert not [code for code in (*all_codes(), "bug", "none") if f"code.{code}" not in known]


def test_every_threshold_has_words_in_both_languages(shipped: Catalogue) -> None:
    names = {name for entry in shipped.entries.values() for name in entry.thresholds} | {"PROD"}
    for language in LANGUAGES:
        assert not [name for name in names if f"threshold.{name}" not in catalogue(language)]


def test_the_languages_have_the_same_reasons_with_the_same_values() -> None:
    from string import Formatter

    def shapes(language: str) -> dict[str, set[str | None]]:
        return {
            key: {field for _, field, _, _ in Formatter().parse(text) if field}
            for key, text in catalogue(language).items()
            if key.split(".")[0] in {"reason", "code", "status", "next", "controls"}
        }

    assert shapes("fr") == shapes("en")
