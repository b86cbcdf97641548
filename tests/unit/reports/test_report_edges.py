"""Months at the edge: none, silence, a clock change, five hundred applications, twelve pages."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.model import Fact
from backupguard.reports import MonthlyReport, monthly, render_html
from backupguard.reports.history import span_of
from backupguard.reports.model import AnnexRow
from backupguard.reports.paper.annexes import issued_minutes
from backupguard.reports.paper.press import press
from backupguard.reports.paper.standings import standings
from backupguard.reports.render import LIMITS
from backupguard.reports.tested import months_until
from backupguard.typesetting.sheet import Sheet

from .ledgers import estate, year
from .records import Records, at, full_month, settings

END = datetime(2026, 11, 30, 23, tzinfo=UTC)
#: A name and a reason as long as people write them.
LONG = "Dossier de soins informatisé des services de court séjour, site nord et site sud"


def report(records: Records, month: str = "2026-11", language: str = "fr") -> MonthlyReport:
    catalogue, now = load_catalogue(), END + timedelta(days=400)
    return monthly(records, settings(), catalogue, month, language, now)  # type: ignore[arg-type]


def annexed(made: MonthlyReport) -> MonthlyReport:
    """Return a report as it is signed: with the annexes that hold what it leaves out."""
    rows = [
        AnnexRow(file=f"pv-{test.seq}.pdf", title=f"PV {test.name}", sha256="ab" * 32, bytes=9000)
        for test in made.tests
    ]
    return replace(made, annexes=(*rows[:1], *rows))


@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_store_without_a_record_gives_a_whole_report(language: str) -> None:
    made = report(Records(), language=language)
    html = render_html(made, Words(language))
    assert [one.sentences for one in made.answers if not one.sentences] == []
    assert "report." not in re.sub(r"report\.issued", "", html)
    assert made.records_in_month == 0


def test_months_before_the_first_record_say_nothing_of_it() -> None:
    made = report(year(3, END), month="2024-05")
    assert made.first_record_at is not None
    assert made.first_record_at > made.as_of
    assert "Aucun enregistrement n’existe" in render_html(made, Words("fr"))
    assert {mark.outcome for row in made.applications for mark in row.trend} <= {"none"}


@pytest.mark.parametrize(
    ("month", "hours"), [("2026-03", 743), ("2026-10", 745), ("2026-11", 720), ("2028-02", 696)]
)
def test_a_month_is_as_long_as_its_clock(month: str, hours: int) -> None:
    span = span_of(month, "Europe/Paris")
    assert span.end - span.start == timedelta(hours=hours)


@pytest.mark.parametrize("change", ["2026-03-29T00:55", "2026-10-25T00:55"])
def test_an_hour_that_is_there_twice_or_never_is_no_gap_and_loses_no_test(change: str) -> None:
    night = datetime.fromisoformat(change).replace(tzinfo=UTC)
    records = Records()
    first = night.replace(day=1)
    records.loaded(first - timedelta(days=3), declared=estate(1))
    for day in range(31):
        digest = {"count": 3, "digest": "ab" * 32}
        records.add(
            "inventory.confirmed", "repository/nas", digest, first + timedelta(days=day, hours=1)
        )
        if first + timedelta(days=day, hours=1) > night > first + timedelta(days=day - 1, hours=1):
            for minutes in (10, 70):  # before and after the change: 01:55, then 02:05 or 03:05
                records.restored("a000", night + timedelta(hours=1, minutes=minutes))
    made = report(records, month=change[:7])
    assert len(made.tests) == 2
    assert made.gaps == ()
    assert [m.outcome for m in made.applications[0].trend].count("passed") == 1


def test_a_test_at_the_last_minute_belongs_to_the_sites_own_month() -> None:
    records = Records()
    records.loaded(END - timedelta(days=40), declared=estate(1))
    records.restored("a000", END - timedelta(minutes=1))
    records.restored("a000", END + timedelta(minutes=1), verdict="failed", code="corrupt")
    assert [test.verdict.value for test in report(records).tests] == ["passed"]
    assert [test.verdict.value for test in report(records, "2026-12").tests] == ["failed"]


def test_the_twelve_months_cross_the_turn_of_the_year() -> None:
    assert months_until("2026-02") == (
        "2025-03", "2025-04", "2025-05", "2025-06", "2025-07", "2025-08",
        "2025-09", "2025-10", "2025-11", "2025-12", "2026-01", "2026-02",
    )  # fmt: skip


def test_a_pruned_body_says_nothing_and_breaks_nothing() -> None:
    records = year(3, END)
    for place, fact in enumerate(records._facts):
        if fact.observation.kind in ("restore-test.result", "finding.changed") and place % 2:
            records._facts[place] = replace(fact, observation=replace(fact.observation, data=None))
    made = report(records)
    assert "report" in render_html(made, Words("en"))


def test_a_month_whose_bodies_were_pruned_is_told_as_such_and_printed_whole() -> None:
    records = full_month()
    when = at(30.8)
    withdrawn = {"attestation": 1, "reason": "faux"}
    records.add("attestation.withdrawn", "repository/nas", withdrawn, when)
    issued = {
        "month": "2026-10", "format": "pdf", "language": "fr", "sha256": "ab", "bytes": 1,
        "file": "pv.pdf", "annex": "minutes", "test": 1,
    }  # fmt: skip
    records.add("report.issued", "site", issued, when)
    assert report(records).pruned_in_month == 0
    for place, fact in enumerate(records._facts):
        records._facts[place] = replace(fact, observation=replace(fact.observation, data=None))
    made = report(records)
    assert made.pruned_in_month == made.records_in_month > 0
    said = f"Enregistrements de ce mois dont le corps a été supprimé\u00a0: {made.pruned_in_month}."
    assert said in render_html(made, Words("fr"))
    assert not any(one.judged for one in standings(records, made, load_catalogue()))  # type: ignore[arg-type]
    assert issued_minutes(records) == {}  # type: ignore[arg-type]


class Counted(Records):
    """Records that count how often each is given out."""

    def __init__(self, of: Records) -> None:
        super().__init__()
        self._facts = of._facts
        self.given: Counter[int] = Counter()

    def facts(self, **asked: Any) -> Iterator[Fact]:
        for fact in super().facts(**asked):
            self.given[fact.seq] += 1
            yield fact


def test_no_record_is_read_twice() -> None:
    records = Counted(year(10, END))
    report(records)
    # One may be looked at once more: the first of the month, which ends what was before it.
    assert Counter(records.given.values()).keys() <= {1, 2}
    assert sum(count == 2 for count in records.given.values()) <= 1


def test_memory_grows_no_faster_than_the_applications() -> None:
    def peak(count: int) -> int:
        records = year(count, END)
        gc.collect()
        tracemalloc.start()
        try:
            report(records)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(50)
    assert many < 5.5 * few


@pytest.fixture(scope="module")
def hospital() -> MonthlyReport:
    """Return the report of 500 applications with long names, and with everything to tell."""
    records = year(500, END, estate(500, named=LONG, rpo_h=1), months=3)
    for number in range(30):
        path = f"applications.a{number:03d}.rpo"
        when = END - timedelta(days=3, minutes=number)
        change = {"path": path, "change": "changed", "before": LONG, "after": LONG * 2}
        weaker = {**change, "weakened": bool(number % 2)}
        records.loaded(when, weaker, author="uid/1001 (alice)", version=f"0.{number}.0")
        pause = {"until_at": None, "reason": LONG}
        records.add("pause.started", "site", pause, when, author="uid/1001 (alice)")
        waiver = {
            "control": "RST-01", "reason": LONG * 4, "owner": LONG, "person": "alice",
            "until_at": int((END + timedelta(days=30)).timestamp()) * 1_000_000,
            "needs_confirmation": False,
        }  # fmt: skip
        records.add("waiver.asked", f"application/a{number:03d}", waiver, when, author="uid/1001")
        statement = {
            "topic": "attacker", "person": "alice", "text": LONG * 4,
            "values": {"name": f"n{number}"}, "expires_at": waiver["until_at"], "signature": None,
        }  # fmt: skip
        records.add("attestation.made", "repository/nas", statement, when, author="uid/1001")
    return annexed(report(records))


def test_of_five_hundred_the_report_says_how_many_are_in_the_annex(hospital: MonthlyReport) -> None:
    html = render_html(hospital, Words("fr")).replace("\u00a0", " ")
    left = 500 - LIMITS["applications"]
    assert f"Applications de plus, à l’annexe des applications : {left}." in html
    assert "Constats de plus, à l’annexe des contrôles : " in html
    alone = render_html(replace(hospital, annexes=()), Words("fr")).replace("\u00a0", " ")
    assert "à l’annexe" not in alone
    assert alone.count('class="trend"') == 500
    assert sum(sum(one.values()) for one in hospital.counts.values()) == 500


def test_the_document_to_sign_is_at_most_twelve_pages_and_answers_on_its_first_three(
    hospital: MonthlyReport, tmp_path: Path
) -> None:
    (tmp_path / "a.html").write_text(render_html(hospital, Words("fr")), encoding="utf-8")
    sheet = Sheet(
        html=str(tmp_path / "a.html"),
        pdf=str(tmp_path / "a.pdf"),
        created="2026-12-01T06:00:00+00:00",
        left="left",
        right="right",
        page="{page}/{pages}",
        description="d",
    )
    press([sheet], tmp_path)
    pages = [page.extract_text() for page in PdfReader(tmp_path / "a.pdf").pages]
    assert len(pages) <= 12
    begin = " ".join("\n".join(pages[:3]).replace("\u00a0", " ").split())
    for question in (
        "Qu’a-t-on restauré", "et pourquoi ?", "Que perd-on", "Quand le DPI", "Qui a accepté",
        "ne prouve pas", "Les trois actions qui comptent le plus", "Aucun objectif CaRE",
    ):  # fmt: skip
        assert question in begin
    assert begin.index("applications vitales") < begin.index("Six questions")


def test_no_objective_code_is_printed_while_the_map_is_not_verified() -> None:
    made = report(year(1, END))
    assert "CaRE D2" in made.alignment.unverified
    html = render_html(made, Words("fr"))
    assert "D2.01" not in html
    assert html.count("Aucun objectif CaRE n’est donc présenté comme atteint") == 2
    checked = replace(made, alignment=replace(made.alignment, unverified=()))
    assert "Aucun objectif CaRE" not in render_html(checked, Words("fr"))
