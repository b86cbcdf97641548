"""What is generated is current, and what is shipped for a SIEM reads what is sent to it."""

from __future__ import annotations

import ast
import configparser
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard.notify import EVENTS, samples
from backupguard.notify.diagnostics import DIAGNOSTICS, LIBRARIES
from backupguard.notify.documents import ROOT, files, sample, sample_syslog
from backupguard.notify.syslog import LIMIT

PACKAGES = ("backupguard", "probes", "restore_tests")
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})


@pytest.mark.parametrize("name", sorted(files()))
def test_a_generated_file_is_current(name: str) -> None:
    """Otherwise: python -m backupguard.notify.documents."""
    assert (ROOT / name).read_text(encoding="utf-8") == files()[name]


# ------------------------------------------------------------------------------------- the log


def spelled(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from (*spelled(node.body), *spelled(node.orelse))
    elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        yield f"{node.values[0].value}*"


def logged() -> dict[str, str]:
    """Return every code that the log is told, by where the code is written."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "structlog" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                teller = ast.unparse(node.func.value)
                if node.func.attr in LEVELS and re.search(r"(^|\.)_?(log|events|logger)\b", teller):
                    for code in spelled(node.args[0]):
                        found[code] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def test_every_code_of_the_log_is_in_the_catalogue_and_each_is_used() -> None:
    found = logged()
    assert len(found) > 40, "the search itself works"
    unknown = {code: place for code, place in found.items() if code not in DIAGNOSTICS}
    assert not unknown, "add it to backupguard/notify/diagnostics.py"
    assert set(DIAGNOSTICS) == set(found)
    assert not any(code.startswith(LIBRARIES) for code in DIAGNOSTICS)


# --------------------------------------------------------------------------------- the samples


def documents() -> list[dict[str, Any]]:
    return [json.loads(row) for row in sample().splitlines()]


def test_the_samples_hold_every_event() -> None:
    assert {one["event.code"] for one in documents()} == set(EVENTS)


def test_a_field_has_one_type_in_all_events() -> None:
    """An index refuses a field that is a number here and a text there."""
    types: dict[str, set[str]] = {}
    for one in documents():
        for name, value in one.items():
            types.setdefault(name, set()).add(type(value).__name__)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_no_field_is_another_one_s_beginning() -> None:
    """`a` and `a.b` cannot both have a value once dots are objects."""
    names = {name for one in documents() for name in one}
    assert not [(a, b) for a in names for b in names if b.startswith(f"{a}.")]


RFC5424 = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255})"
    r" (?P<app>[!-~]{1,48}) - (?P<msgid>[!-~]{1,32}) - (?P<msg>\{.*\})"
)


def test_a_message_is_one_of_rfc_5424() -> None:
    for row, one in zip(sample_syslog().splitlines(), documents(), strict=True):
        match = RFC5424.fullmatch(row)
        assert match is not None, row
        assert 128 <= int(match["pri"]) <= 135
        assert match["msgid"] == one["event.code"]
        assert json.loads(match["msg"]) == one
        assert len(row) <= LIMIT


def test_codes_fit_into_a_message_id() -> None:
    assert max(map(len, EVENTS)) <= 32


# --------------------------------------------------------------------------- Elastic and Splunk

#: Grok's own patterns, as far as they are used, in Python's notation.
GROK = {"NONNEGINT": r"\d+", "TIMESTAMP_ISO8601": r"\d{4}-\d\d-\d\dT[\d:.]+Z", "NOTSPACE": r"\S+"}


def test_the_ingest_pipeline_takes_every_sample_apart() -> None:
    pipeline = json.loads(files()["config/elastic/backupguard-events.pipeline.json"])
    (pattern,) = next(p["grok"]["patterns"] for p in pipeline["processors"] if "grok" in p)
    regular = re.sub(r"%\{(\w+)\}", lambda found: GROK[found[1]], pattern)
    regular = regular.replace("(?<", "(?P<")
    journal = [f"<4>{row}" for row in sample().splitlines()]
    for row in [*sample().splitlines(), *journal, *sample_syslog().splitlines()]:
        match = re.search(regular, row)
        assert match is not None, row
        assert json.loads(match["backupguard_json"])["event.id"]


def test_the_index_has_a_type_for_each_own_field() -> None:
    component = json.loads(files()["config/elastic/backupguard-events.component.json"])
    own = component["template"]["mappings"]["properties"]["backupguard"]["properties"]
    for one in documents():
        for name, value in one.items():
            if name.startswith("backupguard."):
                kind = own[name.removeprefix("backupguard.")]["type"]
                assert (kind == "long") == isinstance(value, int), name
                assert (kind == "date") == name.endswith("_at"), name


def splunk(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "config" / "splunk" / name, encoding="utf-8")
    return parser


def test_splunk_cuts_each_message_down_to_its_json() -> None:
    transforms, props = splunk("transforms.conf"), splunk("props.conf")
    used = props["backupguard:syslog"]["TRANSFORMS-backupguard"].split(", ")
    assert set(used) < set(transforms.sections())
    cut = transforms["backupguard_json_only"]
    kept = re.compile(transforms["backupguard_sourcetype"]["REGEX"])
    for row, one in zip(sample_syslog().splitlines(), documents(), strict=True):
        match = re.search(cut["REGEX"], row)
        assert match is not None, row
        assert json.loads(match[1]) == one
        assert kept.search(match[1])
        assert re.search(props["backupguard:syslog"]["TIME_PREFIX"], row)
        assert re.search(props["backupguard:event"]["TIME_PREFIX"], match[1])


def test_splunk_s_lookup_knows_every_code() -> None:
    name = splunk("transforms.conf")["backupguard_events"]["filename"]
    with (ROOT / "config" / "splunk" / "lookups" / name).open(encoding="utf-8") as file:
        assert [row["code"] for row in csv.DictReader(file)] == list(EVENTS)


def test_the_samples_tell_of_no_patient() -> None:
    names = {name for one in documents() for name in one}
    assert not {name for name in names if re.search("patient|password|secret|token", name)}
    assert Path(samples.__file__).is_file()
