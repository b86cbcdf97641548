from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from backupguard.controls import load_catalogue
from backupguard.errors import UsageError, all_codes
from backupguard.language import Words, catalogue
from backupguard.model import Criticality, Origin, Phase, Severity, Status, Verdict
from backupguard.reports import MonthlyReport, monthly, render_html, render_json
from backupguard.reports.history import month_of, span_of
from backupguard.reports.model import STANDINGS, Standing
from backupguard.reports.render import _Labels

from .records import Records, at, check, full_month, settings

CATALOGUE = load_catalogue()


def report_of(
    records: Records, now: float = 31.2, language: str = "fr", **applications: str
) -> MonthlyReport:
    chosen = settings(**(applications or {"dpi": "C1"}))
    return monthly(records, chosen, CATALOGUE, "2026-11", language, at(now))  # type: ignore[arg-type]


def html_of(report: MonthlyReport) -> str:
    return render_html(report, Words(report.language, "Europe/Paris"))


def standing(records: Records, **options: str) -> Standing:
    return report_of(records, **options).applications[0].standing


def test_a_site_check_that_passed_counts_as_restored_and_checked() -> None:
    records = Records()
    records.restored("dpi", at(20))
    assert standing(records) is Standing.CONTROLLED


def test_level_two_is_only_opened_and_level_one_only_bytes() -> None:
    records = Records()
    records.restored("dpi", at(20), level=2)
    assert standing(records) is Standing.OPENED
    records.restored("dpi", at(21), level=1)
    assert standing(records) is Standing.BYTES_ONLY


def test_what_others_declare_is_never_counted_as_observed() -> None:
    records = Records()
    records.restored("dpi", at(20), origin=Origin.IMPORTED, level=4)
    assert standing(records) is Standing.DECLARED


def test_one_failed_copy_makes_the_application_failed_although_another_was_restored_since() -> None:
    records = Records()
    records.restored("dpi", at(20), verdict="failed", code="corrupt", repository="coffre")
    records.restored("dpi", at(21), repository="nas")
    assert standing(records) is Standing.FAILED
    records.restored("dpi", at(22), repository="coffre")
    assert standing(records) is Standing.CONTROLLED


def test_what_could_not_be_verified_never_accuses_and_never_proves() -> None:
    records = Records()
    records.restored("dpi", at(20), verdict="could_not_verify", code="no_disk", level=0)
    report = report_of(records)
    assert report.applications[0].standing is Standing.DUE
    assert report.due[0].last_at is None
    records.restored("dpi", at(21))
    records.restored("dpi", at(22), verdict="could_not_verify", code="no_disk", level=0)
    again = report_of(records)
    assert again.applications[0].standing is Standing.CONTROLLED
    assert "n’a rien pu conclure" in html_of(again)


def test_a_test_older_than_its_period_is_due_again() -> None:
    records = Records()
    records.restored("dpi", at(31) - timedelta(days=36))
    report = report_of(records)
    assert report.applications[0].standing is Standing.DUE
    assert report.due[0].due_at == at(31) - timedelta(days=1)
    assert report_of(records, dpi="C2").applications[0].standing is Standing.CONTROLLED


def test_an_artifact_nothing_can_restore_has_no_engine() -> None:
    records = Records()
    records.restored(
        "dpi", at(20), verdict="could_not_verify", code="unrecognised_artifact", level=0
    )
    assert standing(records) is Standing.NO_ENGINE


def test_counts_add_up_to_the_applications() -> None:
    report = report_of(full_month(), dpi="C1", labo="C1", pharma="C1", paie="C2")
    assert sum(report.counts[Criticality.C1].values()) == 3
    assert report.counts[Criticality.C1][Standing.FAILED] == 1
    assert sum(report.counts[Criticality.C2].values()) == 1


def test_the_first_sentence_counts_and_agrees() -> None:
    report = report_of(full_month(), dpi="C1", labo="C1", pharma="C1")
    text = html_of(report)
    assert (
        "Sur 3 applications vitales\u00a0: 1 restaurée et contrôlée (niveau ≥ 3, observé), "
        "0 ouverte seulement, 0 importée ou attestée, 1 en échec, 1 due et non faite, "
        "0 sans moteur." in text
    )
    assert text.index("Sur 3 applications") < text.index('<h2 id="s2">')
    assert "%" not in re.sub(r"<style>.*?</style>|style=\"[^\"]*\"", "", text, flags=re.DOTALL)


def test_what_was_weakened_or_removed_stays_for_twelve_months() -> None:
    records = Records()
    change = {"path": "applications.labo", "change": "removed", "before": "C1", "weakened": True}
    records.loaded(at(1) - timedelta(days=300), change)
    shown = html_of(report_of(records))
    assert "applications.labo\u00a0: retiré le 5 janv. 2026, 01:00 par uid:1000" in shown
    assert "Applications absentes de la configuration" in shown
    old = Records()
    old.loaded(at(1) - timedelta(days=400), change)
    assert "applications.labo" not in html_of(report_of(old))


def test_an_application_deleted_from_the_file_does_not_vanish() -> None:
    records = Records()
    records.restored("labo", at(10), verdict="failed", code="corrupt")
    report = report_of(records)
    assert [row.application for row in report.removed] == ["labo"]
    assert report.removed[0].standing is Standing.FAILED


def test_a_month_without_any_record_says_so() -> None:
    report = report_of(Records())
    assert report.first_record_at is None
    assert "Aucun enregistrement n’existe" in html_of(report)
    assert report.counts[Criticality.C1][Standing.DUE] == 1


def test_a_silent_month_says_so_and_what_stands_is_from_before() -> None:
    records = Records()
    records.restored("dpi", at(-10))
    report = report_of(records)
    assert report.records_in_month == 0
    assert "Aucun enregistrement pendant tout le mois" in html_of(report)
    assert len(report.gaps) == 1


def test_silence_of_days_is_a_gap_and_a_daily_record_is_none() -> None:
    records = full_month()
    gaps = report_of(records).gaps
    assert [(gap.start, gap.end) for gap in gaps] == [(at(11.1), at(16.1))]


def test_nothing_of_the_next_month_reaches_the_report() -> None:
    records = Records()
    records.restored("dpi", at(20))
    records.restored("dpi", at(32), verdict="failed", code="corrupt")
    report = report_of(records, now=33)
    assert report.applications[0].standing is Standing.CONTROLLED
    assert not report.provisional
    assert len(report.tests) == 1


def test_a_month_that_lasts_is_provisional() -> None:
    records = Records()
    records.restored("dpi", at(2))
    report = report_of(records, now=3)
    assert report.provisional
    assert report.as_of == at(3)
    assert "Rapport provisoire" in html_of(report)


def test_findings_are_replayed_with_the_time_since_which_they_stand() -> None:
    records = Records()
    records.judged("RST-01", "application/dpi", "warning", at(3), severity="high")
    records.judged("RST-01", "application/dpi", "warning", at(9), severity="critical")
    records.judged("INT-01", "repository/nas", "non_compliant", at(10), severity="high")
    records.judged("JOB-01", "job/dpi.nightly", "compliant", at(10))
    report = report_of(records)
    assert [(f.control, f.since) for f in report.findings] == [
        ("INT-01", at(10)),
        ("RST-01", at(3)),
    ]
    assert report.finding_counts[Status.COMPLIANT] == 1
    assert report.findings[1].criticality is Criticality.C1
    assert report.findings[1].title == "Test de restauration périodique"


def test_data_loss_above_the_target_stands_out() -> None:
    records = Records()
    records.restored("dpi", at(20), loss=timedelta(hours=26))
    assert '<td class="num over">1 j 2 h' in html_of(report_of(records))
    silent = Records()
    silent.restored("dpi", at(20), loss=timedelta(hours=2))
    assert '<td class="num over">' not in html_of(report_of(silent))


def test_a_test_duration_is_never_called_an_objective() -> None:
    records = Records()
    records.restored("dpi", at(20))
    text = html_of(report_of(records))
    assert "Durée du test" in text
    assert "ce n’est pas la DMIA" in text


def test_names_from_outside_are_text_and_never_markup() -> None:
    records = Records()
    records.restored("dpi", at(20), checks=[check("<script>alert(1)</script>")])
    text = html_of(report_of(records))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = html_of(report_of(full_month(), dpi="C1", labo="C1"))
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import", text)


def test_both_languages_say_everything() -> None:
    french, english = catalogue("fr"), catalogue("en")
    mine = {name for name in french if name.startswith("report.")}
    assert mine == {name for name in english if name.startswith("report.")}
    for name in mine:
        holes = re.compile(r"\{(\w+)\}")
        assert set(holes.findall(french[name])) == set(holes.findall(english[name])), name
    for language in ("fr", "en"):
        report = report_of(full_month(), language=language, dpi="C1", labo="C1", pharma="C1")
        assert not re.search(r"report\.(?!issued)[a-z_]+\.?", html_of(report))


@pytest.mark.parametrize("family", [Standing, Status, Verdict, Criticality, Origin, Phase])
def test_every_value_has_a_label(family: type) -> None:
    for value in family:  # type: ignore[attr-defined]
        assert f"report.{family.__name__.lower()}.{value.value}" in catalogue("fr")


def test_every_code_has_a_short_label() -> None:
    labels = _Labels(Words("fr"))
    assert [code for code in (*all_codes(), "bug") if labels.label("code", code) == code] == []


def test_a_check_that_passed_with_a_warning_shows_it() -> None:
    records = Records()
    records.restored("dpi", at(20), checks=[check("rows", code="warning_rows_lost", level=2)])
    assert re.search(r'badge due"><i[^>]*>!</i> avertissement', html_of(report_of(records)))
    silent = Records()
    silent.restored("dpi", at(20), checks=[check("rows", code="ok", level=2)])
    assert "avertissement<" not in html_of(report_of(silent))


def test_json_says_the_same_and_is_plain() -> None:
    report = report_of(full_month(), dpi="C1", labo="C1", pharma="C1")
    data = json.loads(render_json(report))
    assert data["counts"]["C1"]["failed"] == 1
    assert data["as_of"].endswith("Z")
    assert len(data["tests"]) == len(report.tests)
    assert set(data["counts"]["C1"]) == {standing.value for standing in STANDINGS}


def test_commissioning_is_on_page_one() -> None:
    records = Records()
    records.restored("dpi", at(20))
    base = settings(dpi="C1")
    until = at(60).date()
    chosen = base.model_copy(
        update={"site": base.site.model_copy(update={"commissioning_until": until})}
    )
    report = monthly(records, chosen, CATALOGUE, "2026-11", "fr", at(31.2))  # type: ignore[arg-type]
    assert "Période de mise en service jusqu’au 30 décembre 2026" in html_of(report)


def test_months_are_the_sites_own() -> None:
    span = span_of("2026-03", "Europe/Paris")
    assert span.start.isoformat() == "2026-02-28T23:00:00+00:00"
    assert span.end.isoformat() == "2026-03-31T22:00:00+00:00"
    assert month_of(span.start, "Europe/Paris") == "2026-03"
    for wrong in ("2026", "2026-13", "mars"):
        with pytest.raises(UsageError):
            span_of(wrong, "Europe/Paris")


def test_severity_orders_findings_of_one_status() -> None:
    records = Records()
    records.judged("AAA-01", "site", "warning", at(3), severity=Severity.INFO.value)
    records.judged("ZZZ-01", "site", "warning", at(3), severity=Severity.CRITICAL.value)
    assert [f.control for f in report_of(records).findings] == ["ZZZ-01", "AAA-01"]
