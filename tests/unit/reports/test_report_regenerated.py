"""The report of a past month, made again later, gives the same numbers; today's names what changed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backupguard.controls import Catalogue, load_catalogue
from backupguard.language import Words
from backupguard.model import Criticality
from backupguard.reports import monthly, render_html, render_json
from backupguard.settings.model import Settings

from .ledgers import PERIODS, estate, year
from .records import Records, settings

MARCH = datetime(2026, 3, 31, 22, tzinfo=UTC)  # summer time began on the 29th
#: Of the report, what is about this issue and not about the month.
ISSUE = {"issued_at", "evidence", "provisional"}
COUNT = 12


def numbers(records: Records, chosen: Settings, catalogue: Catalogue, now: datetime) -> Any:
    report = monthly(records, chosen, catalogue, "2026-03", "fr", now)  # type: ignore[arg-type]
    return {k: v for k, v in json.loads(render_json(report)).items() if k not in ISSUE}


def later(records: Records) -> None:
    """Record a catalogue change, an upgrade and a removed application, in November."""
    november = datetime(2026, 11, 12, 9, tzinfo=UTC)
    before = estate(COUNT)
    stricter = {one: {**values, "period": 86_400} for one, values in PERIODS.items()}
    left = {name: one for name, one in before.applications.items() if name != "a003"}
    removed = {
        "path": "applications.a003",
        "change": "removed",
        "before": "{…}",
        "weakened": True,
    }
    records.loaded(
        november, removed, author="uid/1001 (bob)", version="0.2.0", catalogue="ef" * 32,
        declared=replace(before, applications=left, periods=stricter),
    )  # fmt: skip
    for day in range(5):
        when = november + timedelta(days=day)
        records.restored("a000", when, verdict="failed", code="corrupt")
        records.judged("RST-02", "application/a000", "non_compliant", when)
        records.listed("a000.nightly", "nas", when, when)


@pytest.fixture(scope="module")
def catalogues() -> tuple[Catalogue, Catalogue]:
    """Return the catalogue as shipped, and one of a later version that asks for other periods."""
    shipped = load_catalogue()
    entries = dict(shipped.entries)
    old = entries["RST-01"]
    period = old.thresholds["period"]
    shorter = period.model_copy(
        update={"C1": period.C1.model_copy(update={"value": "1d"})} if period.C1 else {}
    )
    entries["RST-01"] = old.model_copy(update={"thresholds": {**old.thresholds, "period": shorter}})
    return shipped, replace(shipped, entries=entries, sha256="ef" * 32)


def test_last_march_gives_the_same_numbers_after_everything_changed(
    catalogues: tuple[Catalogue, Catalogue],
) -> None:
    shipped, changed = catalogues
    assert changed.period("RST-01", Criticality.C1) == 86_400
    records = year(COUNT, MARCH - timedelta(hours=1))
    then = numbers(records, settings(), shipped, MARCH + timedelta(hours=6))
    later(records)
    again = numbers(records, settings(autre="C1"), changed, datetime(2026, 12, 1, tzinfo=UTC))
    assert again == then
    assert {row["application"] for row in then["applications"]} == set(estate(COUNT).applications)


def test_this_month_names_the_catalogue_the_upgrade_and_the_removed_application() -> None:
    records = year(COUNT, MARCH - timedelta(hours=1))
    later(records)
    now = datetime(2026, 12, 1, 5, tzinfo=UTC)
    report = monthly(records, settings(), load_catalogue(), "2026-11", "fr", now)  # type: ignore[arg-type]
    html = render_html(report, Words("fr", "Europe/Paris")).replace("\u00a0", " ")
    assert [(one.what, one.author) for one in report.versions] == [
        ("program", "uid/1001 (bob)"), ("catalogue", "uid/1001 (bob)"),
    ]  # fmt: skip
    assert "le programme est passé de 0.1.0 à 0.2.0" in html
    assert "le catalogue de contrôles a changé : cdcdcdcdcdcdcdcd… → efefefefefefefef…" in html
    assert (
        "applications.a003 : retiré le 12 nov. 2026, 10:00 par uid/1001 (bob), "
        "motif : aucun motif enregistré" in html
    )
    assert [row.name for row in report.removed] == ["Application 003"]
    assert "Application 003" in html[html.index("Applications absentes") :]
    assert all(row.application != "a003" for row in report.applications)


def test_a_reason_stated_for_the_load_is_printed_with_it() -> None:
    records = year(2, MARCH - timedelta(hours=1))
    later(records)
    load = next(f.seq for f in records.facts(kinds=("configuration.loaded",)) if f.seq > 1)
    statement = {
        "topic": "change",
        "person": "claire",
        "text": "labo repris par le GHT",
        "values": {"name": str(load)},
        "expires_at": int(datetime(2027, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000,
        "signature": None,
    }
    when = datetime(2026, 11, 20, tzinfo=UTC)
    records.add("attestation.made", "site", statement, when, author="uid/1002 (claire)")
    now = datetime(2026, 12, 1, 5, tzinfo=UTC)
    report = monthly(records, settings(), load_catalogue(), "2026-11", "fr", now)  # type: ignore[arg-type]
    html = render_html(report, Words("fr", "Europe/Paris")).replace("\u00a0", " ")
    assert "par uid/1001 (bob), motif : labo repris par le GHT" in html
    assert "(motif déclaré par claire)" in html
    assert "aucun motif enregistré" not in html


def test_twelve_months_later_it_is_over() -> None:
    records = year(2, MARCH - timedelta(hours=1))
    later(records)
    for month, shown in (("2027-10", True), ("2027-12", False)):
        now = datetime(2028, 2, 1, tzinfo=UTC)
        report = monthly(records, settings(), load_catalogue(), month, "fr", now)  # type: ignore[arg-type]
        assert bool(report.removed) is shown
        assert bool(report.weakenings) is shown


def test_without_any_recorded_declaration_todays_is_taken_and_said() -> None:
    records = Records()
    records.loaded(MARCH - timedelta(days=20))
    report = monthly(
        records, settings(dpi="C1"), load_catalogue(), "2026-03", "fr", MARCH + timedelta(days=1)
    )  # type: ignore[arg-type]
    html = render_html(report, Words("fr"))
    assert report.declared_now
    assert [row.application for row in report.applications] == ["dpi"]
    assert "Ce qui était déclaré à cette date n’a pas été enregistré" in html
