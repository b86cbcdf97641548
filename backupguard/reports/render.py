"""Puts a monthly report into HTML (French or English) or JSON; adds nothing to what it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from backupguard.language import Words, catalogue
from backupguard.language.signs import LOOKS
from backupguard.model import VERDICTS, CheckResult, Criticality, Message, Status, Verdict
from backupguard.reports.model import STANDINGS, MonthlyReport, Standing
from backupguard.reports.outlook import MonthMark
from backupguard.reports.trend import drawing

#: What a standing or verdict looks like: a colour class and a sign that prints in black and white.
_LOOKS: Mapping[StrEnum, tuple[str, str]] = {
    Standing.CONTROLLED: ("good", "✓"),
    Standing.OPENED: ("part", "◐"),
    Standing.BYTES_ONLY: ("part", "◔"),
    Standing.DECLARED: ("part", "✎"),
    Standing.FAILED: ("bad", "✕"),
    Standing.DUE: ("due", "○"),
    Standing.NO_ENGINE: ("none", "–"),
    **LOOKS,
}
#: A check that found something wrong that nobody accepted the opposite of: a warning, no failure.
WARNING = "warning_"
GLOSSARY = (
    "pdma",
    "tonight",
    "dmia",
    "forecast",
    "level",
    "test_duration",
    "copy",
    "origin",
    "baseline",
    "waiver",
    "immutable",
    "attacker",
    "offline",
    "seal",
)
NOT_PROVED = ("time", "content", "sample", "forecast", "hosts", "key", "future")
#: So many rows of each table are in the signed document; the others are in what goes with it.
LIMITS: Mapping[str, int] = {
    "gaps": 3,
    "removed": 6,
    "weakenings": 6,
    "versions": 4,
    "changes": 4,
    "events": 5,
    "applications": 20,
    "copies_of": 1,
    "due": 8,
    "copies_due": 6,
    "undecided": 5,
    "returns": 12,
    "protections": 5,
    "offline": 4,
    "findings": 9,
    "waivers": 5,
    "overrides": 3,
    "attestations": 5,
    "tests": 7,
    "details": 1,
    "repositories": 6,
    "copies": 4,
    "annexes": 5,
}
_ANCHORED = "report.event.evidence.anchored"
#: A value of the configuration may be a whole table: what is printed of one.
LONGEST_VALUE = 70
#: What people wrote, and names, may be long: what is printed of one in the document to sign.
LONGEST_NAME, LONGEST_TEXT = 42, 110


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("backupguard.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Labels:
    """The sentences a template asks for, in one language."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._known = catalogue(words.language)

    def text(self, identifier: str, /, **values: int | str) -> str:
        """Return a sentence of this area."""
        return self.words.text(f"report.{identifier}", **values)

    def label(self, family: str, name: str | None) -> str:
        """Return the short label of a code or name; one that has none is shown as it is."""
        if name is None:
            return "—"
        plain = name.removeprefix(WARNING)
        elsewhere = {"code": ("code", "check"), "check": ("check-name",)}.get(family, ())
        found = (f"{prefix}.{plain}" for prefix in (f"report.{family}", *elsewhere))
        identifier = next((one for one in found if one in self._known), None)
        return self.words.text(identifier) if identifier else plain

    def outcome(self, check: CheckResult) -> Mapping[str, str]:
        """Return how a check ended; one that passed with a warning shows it."""
        if check.verdict is Verdict.PASSED and check.code.startswith(WARNING):
            return {**self.mark(Status.WARNING), "why": self.label("code", check.code)}
        why = "" if check.verdict is Verdict.PASSED else self.label("code", check.code)
        return {**self.mark(check.verdict), "why": why}

    def headline(self, counts: Mapping[Standing, int]) -> str:
        """Return the first sentence of the report: how the vital applications stand."""
        total = sum(counts.values())
        if total == 0:
            return self.text("headline.none")
        parts = ", ".join(
            self.text(f"part.{standing}.{self._form(count)}", count=count)
            for standing, count in counts.items()
            if count or standing is not Standing.BYTES_ONLY
        )
        return self.text(f"headline.{self._form(total)}", total=total, parts=parts)

    def _form(self, count: int) -> str:
        # French says "0 restaurée", English "0 restored": only one is a singular in both.
        return "one" if count == 1 or (count == 0 and self.words.language == "fr") else "many"

    def mark(self, value: StrEnum) -> Mapping[str, str]:
        """Return colour class, sign and label of a standing, verdict or status."""
        look, sign = _LOOKS[value]
        return {
            "look": look,
            "sign": sign,
            "label": self.label(type(value).__name__.lower(), value),
        }

    def answer(self, message: Message) -> str:
        """Return a sentence of an answer; codes in it are said as they are elsewhere."""
        values = {
            name: self.label("code", str(value)) if name == "code" else value
            for name, value in message.values.items()
        }
        return self.words.say(Message(id=message.id, values=values))

    def trend(self, marks: Sequence[MonthMark]) -> str:
        """Return the drawing of a year of tests, with the same in words."""
        counts = Counter(mark.outcome for mark in marks)
        values = {name: counts[name] for name in ("passed", "failed", "none")}
        return drawing(marks, self.text("trend.label", **values))

    def counted(self, numbers: Mapping[str, int]) -> str:
        """Return the numbers of a check in a row: "lignes : 1 200"."""
        parts = (
            f"{self.label('number', name)} : {self.words.number(count)}"
            for name, count in sorted(numbers.items())
        )
        return " · ".join(parts)

    def dated(self, times: Mapping[str, datetime]) -> str:
        """Return the times of a check in a row."""
        parts = (
            f"{self.label('time', name)} : {self.words.time(at)}"
            for name, at in sorted(times.items())
        )
        return " · ".join(parts)


def render_html(report: MonthlyReport, words: Words) -> str:
    """Return the report as one HTML file: no script, nothing loaded from anywhere, prints well.

    With annexes it is the document to sign: what stands in them is not repeated in it, and of long
    tables it shows as many rows as fit on twelve pages and says where the others are. Without any it
    stands alone and holds everything.
    """
    labels = _Labels(words)
    vital = report.counts[Criticality.C1]
    limited = bool(report.annexes)

    def shown(rows: Sequence[Any], name: str) -> Sequence[Any]:
        return rows[: LIMITS[name]] if limited else rows

    def hidden(rows: Sequence[Any], name: str) -> int:
        return max(0, len(rows) - LIMITS[name]) if limited else 0

    return (
        _environment()
        .get_template("monthly.html.j2")
        .render(
            r=report,
            t=labels.text,
            say=words.say,
            shown=shown,
            hidden=hidden,
            answer=labels.answer,
            trend=labels.trend,
            tests=sorted(report.tests, key=lambda test: VERDICTS.index(test.verdict)),
            events=[e for e in report.events if not e.message.id.startswith("report.event.pause.")],
            pauses=[e for e in report.events if e.message.id.startswith("report.event.pause.")],
            short=lambda text: _cut(text, LONGEST_VALUE),
            name=lambda text: _cut(text, LONGEST_NAME) if limited else text,
            brief=lambda text: _cut(text, LONGEST_TEXT) if limited else text,
            time=words.time,
            day=words.day,
            duration=words.duration,
            size=words.size,
            number=words.number,
            label=labels.label,
            threshold=lambda name: words.text(f"threshold.{name}"),
            quoted=words.quoted,
            mark=labels.mark,
            outcome=labels.outcome,
            counted=labels.counted,
            dated=labels.dated,
            month=words.month(report.month),
            vital=vital,
            headline=labels.headline(vital),
            vital_total=sum(vital.values()),
            standings=STANDINGS,
            criticalities=tuple(Criticality),
            statuses=tuple(Status),
            tally={
                verdict: sum(test.verdict is verdict for test in report.tests)
                for verdict in Verdict
            },
            glossary=GLOSSARY,
            not_proved=NOT_PROVED,
        )
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def render_json(report: MonthlyReport) -> str:
    """Return the report's data as JSON: sorted keys, UTC times in ISO 8601, durations in ms."""
    return json.dumps(_plain(report), sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value
