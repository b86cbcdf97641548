"""What the first pages answer: the six questions, the three actions, the year drawn, what protects."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from backupguard.assess.declared_estate import Estate, Job, Owner, Place
from backupguard.assess.forecast import Step
from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.model import Criticality, Message, to_us
from backupguard.reports import MonthlyReport, monthly, render_html
from backupguard.reports.actions import KINDS, Seen, first, ranked
from backupguard.reports.answers import QUESTIONS
from backupguard.reports.model import ApplicationRow, ChangeRow, Standing
from backupguard.reports.outlook import MonthMark, Tonight
from backupguard.reports.paper.extract import cited
from backupguard.reports.trend import drawing

from .ledgers import PERIODS
from .records import Records, at, settings


def estate(**changed: Any) -> Estate:
    """Return a hospital with a patient record, a laboratory and a pharmacy."""

    def owner(name: str, **values: Any) -> Owner:
        given: dict[str, Any] = {
            "criticality": Criticality.C1,
            "rpo_ms": 24 * 3_600_000,
            "rto_ms": 4 * 3_600_000,
            "steps": (Step(name="Serveur", duration_ms=3_600_000),),
            "jobs": {"nightly": Job(repository="nas", data="x")},
        }
        return Owner(name=name, **{**given, **values})

    made = Estate(
        applications={
            "labo": owner("Laboratoire"),
            "dpi": owner("Dossier patient informatisé"),
            "paie": owner("Paie", criticality=Criticality.C3),
        },
        repositories={"nas": Place(type="restic")},
        periods=PERIODS,
    )
    return replace(made, **changed)


def report(records: Records, language: str = "fr") -> MonthlyReport:
    return monthly(records, settings(), load_catalogue(), "2026-11", language, at(31.2))  # type: ignore[arg-type]


def said(made: MonthlyReport, question: str) -> str:
    """Return the answer as it is printed."""
    html = render_html(made, Words(made.language, "Europe/Paris"))
    part = html[html.index('<dl class="answers">') : html.index('<h2 id="s3">')]
    answers = re.findall(r"<dd>(.*?)</dd>", part, re.DOTALL)
    assert len(answers) == len(QUESTIONS)
    plain = re.sub(r"<[^>]+>", " ", answers[QUESTIONS.index(question)])
    return " ".join(plain.replace("\u00a0", " ").split())


# ------------------------------------------------------------------------------ the six questions


def test_what_was_restored_and_what_was_not_and_why() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    records.restored("dpi", at(10))
    records.restored("paie", at(11), level=2)
    records.closed("restore-test", "application/labo", at(12), "could_not_verify", "no_disk")
    made = report(records)
    assert said(made, "restored") == (
        "Tests de restauration enregistrés : 2, dont réussis : 2. "
        "Restaurées et contrôlées (niveau ≥ 3, observé) : 1 – Dossier patient informatisé. "
        "Restaurées à un niveau plus faible seulement : 1 – Paie."
    )
    assert said(made, "not_restored") == (
        "Dues et non faites : 1 – Laboratoire. "
        "Tests sans conclusion : 1, raison : espace disque insuffisant."
    )


def test_what_is_lost_tonight_is_said_exactly_or_as_at_least() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    records.listed("dpi.nightly", "nas", at(30), at(30) - timedelta(hours=2))
    made = report(records)
    dpi, labo = (
        next(row for row in made.applications if row.application == name).tonight
        for name in ("dpi", "labo")
    )
    night = made.as_of - at(30) + timedelta(hours=2)
    assert (dpi.loss_ms, dpi.at_least) == (night // timedelta(milliseconds=1), False)
    assert (labo.loss_ms, labo.at_least) == (
        (made.as_of - at(1)) // timedelta(milliseconds=1),
        True,
    )
    answer = said(made, "lost")
    assert answer.startswith("Au moins 29 j 23 h de données de Laboratoire")
    assert "Au-delà de la PDMA déclarée : 2 – Dossier patient informatisé, Laboratoire." in answer


def test_a_point_that_is_gone_or_broken_protects_nothing_tonight() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    records.listed("dpi.nightly", "nas", at(20), at(20))
    records.listed("dpi.nightly", "nas", at(29), at(29))
    records.listed("dpi.nightly", "nas", at(29.5), at(29.5), state="failed")
    records.listed("dpi.nightly", "nas", at(30), gone=(at(29),))
    tonight = next(r for r in report(records).applications if r.application == "dpi").tonight
    assert tonight.loss_ms == (report(records).as_of - at(20)) // timedelta(milliseconds=1)


def test_what_is_lost_tonight_is_not_known_where_the_listings_were_pruned() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    seq = records.listed("dpi.nightly", "nas", at(20), at(20))
    fact = records._facts[seq - 1]
    records._facts[seq - 1] = replace(fact, observation=replace(fact.observation, data=None))
    made = report(records)
    tonight = {row.application: row.tonight for row in made.applications}
    assert (tonight["dpi"].pruned, tonight["dpi"].loss_ms) == (True, None)
    answer = said(made, "lost")
    assert "Perte inconnue" in answer
    assert "ne dépasse sa PDMA" not in answer
    assert "Sans sauvegarde déclarée" not in answer
    assert "ce soir\u00a0: inconnue" in render_html(made, Words("fr"))
    records.listed("dpi.nightly", "nas", at(29), at(29))
    dpi = next(row.tonight for row in report(records).applications if row.application == "dpi")
    assert (dpi.pruned, dpi.loss_ms) == (
        False,
        (made.as_of - at(29)) // timedelta(milliseconds=1),
    )


def test_when_the_patient_record_is_back_comes_first_with_what_it_rests_on() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    tested = records.restored("dpi", at(10))
    made = report(records)
    row = next(one for one in made.recovery.returns if one.application == "dpi")
    load = -(-(900 + 61_000) * 165 // 100)
    assert row.record == tested
    assert row.end_ms - 3_600_000 == 2_300 + load + 120
    assert said(made, "back").startswith(
        "Dossier patient informatisé : 1 h 1 min après le début de la reprise, dans la DMIA "
        "déclarée (4 h). Laboratoire : pas avant"
    )
    nothing = Records()
    nothing.loaded(
        at(1),
        declared=estate(
            applications={"dpi": Owner(name="Dossier patient", criticality=Criticality.C1)}
        ),
    )
    assert "nul ne peut le dire" in said(report(nothing), "back")


def test_who_accepted_what_and_that_nobody_did() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    assert said(report(records), "accepted").startswith("Personne n’a rien accepté")
    waiver = {
        "control": "RST-01",
        "reason": "migration",
        "owner": "DSI",
        "person": "claire",
        "until_at": to_us(at(60)),
        "needs_confirmation": True,
    }
    seq = records.add("waiver.asked", "application/dpi", waiver, at(3), author="uid/1001 (claire)")
    assert "en attente d’une seconde personne : 1" in said(report(records), "accepted")
    confirmed = {"waiver": seq, "person": "marc"}
    records.add("waiver.confirmed", "application/dpi", confirmed, at(4), author="uid/1002 (marc)")
    assert said(report(records), "accepted") == (
        "Dérogations en vigueur : 1 (marc) ; en attente d’une seconde personne : 0."
    )


def test_what_is_not_proved_counts_who_was_never_played() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    answer = said(report(records), "not_proved")
    assert "(« non testé ») : 4 ; dépôts jamais attaqués à l’essai : 1." in answer
    assert "aucune tête de chaîne n’est ancrée" in answer
    attested = {
        "topic": "attacker",
        "person": "claire",
        "text": "salle fermée",
        "values": {"name": "physical"},
        "expires_at": to_us(at(90)),
        "signature": None,
    }
    records.add("attestation.made", "repository/nas", attested, at(4), author="uid/1001 (claire)")
    records.add("evidence.anchored", "site", {"place": "syslog", "seq": 1, "hash": "ab" * 32,
                "receipt": None}, at(5))  # fmt: skip
    again = said(report(records), "not_proved")
    assert "(« non testé ») : 3" in again
    assert "ancrée" not in again
    old = Records()
    data = {"place": "syslog", "seq": 1, "hash": "ab" * 32, "receipt": None}
    old.add("evidence.anchored", "site", data, at(-10))
    payroll = replace(estate().applications["paie"], jobs={})
    old.loaded(at(1), declared=estate(applications={"paie": payroll}, repositories={}))
    later = report(old)
    assert "depuis le 21 oct. 2026, 02:00, aucune tête de chaîne n’a été ancrée" in said(
        later, "not_proved"
    )
    assert later.actions[0].kind == "not_anchored"


# ------------------------------------------------------------------------------------ the actions


def row(name: str, standing: Standing, level: str = "C1", **values: Any) -> ApplicationRow:
    given: dict[str, Any] = {
        "last": None, "copies": (), "rpo_ms": 1000, "rto_ms": None, "declared_by": None,
        "declared_on": None, "bia_reference": None,
    }  # fmt: skip
    return ApplicationRow(
        application=name,
        name=name,
        criticality=Criticality(level),
        standing=standing,
        **{**given, **values},
    )


def kinds(*rows: ApplicationRow, **seen: Any) -> list[str]:
    given: dict[str, Any] = {"protections": (), "weakenings": (), "anchored": True}
    return [one.kind for one in ranked(Seen(applications=rows, **{**given, **seen}))]


def test_nothing_to_do_is_no_action() -> None:
    assert kinds(row("a", Standing.CONTROLLED)) == []


def test_a_vital_application_comes_before_everything_of_the_others() -> None:
    found = kinds(row("a", Standing.OPENED), row("b", Standing.FAILED, "C2"))
    assert found == ["opened_only", "restore_fails"]


def test_within_a_criticality_a_certain_loss_comes_before_what_is_not_known() -> None:
    late = Tonight(loss_ms=2000)
    found = kinds(
        row("a", Standing.DECLARED),
        row("b", Standing.NO_ENGINE),
        row("c", Standing.DUE),
        row("d", Standing.CONTROLLED, tonight=late),
        row("e", Standing.FAILED),
        anchored=False,
    )
    assert found == [
        "restore_fails", "loss_too_large", "not_restored", "no_engine", "only_told", "not_anchored",
    ]  # fmt: skip


def test_one_cause_is_one_action_and_three_are_printed() -> None:
    rows = [row(f"a{n}", Standing.FAILED) for n in range(9)]
    rows += [row("b", Standing.DUE), row("c", Standing.OPENED), row("d", Standing.NO_ENGINE)]
    seen = Seen(applications=rows, protections=(), weakenings=(), anchored=False)
    actions = first(seen)
    assert [(one.kind, one.count) for one in actions] == [
        ("restore_fails", 9), ("not_restored", 1), ("no_engine", 1),
    ]  # fmt: skip
    assert actions[0].what == Message(id="report.action.restore_fails.many", values={"count": 9})
    assert actions[1].what.id.endswith(".one")


def test_an_explained_weakening_asks_for_nothing() -> None:
    change = ChangeRow(
        seq=1, at=at(1), author=None, path="p", change="removed", before=None, after=None,
        weakened=True,
    )  # fmt: skip
    assert kinds(weakenings=(change,)) == ["weakened_unexplained"]
    assert kinds(weakenings=(replace(change, reason="repris par le GHT"),)) == []


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_kind_of_action_has_its_words(language: str) -> None:
    words = Words(language)
    for kind in KINDS:
        for form in ("one", "many", "why"):
            identifier = f"report.action.{kind}.{form}"
            assert words.text(identifier, count=2) != f"{identifier} count=2"


# ------------------------------------------------------------------------- the year, and the proofs


def shapes(*marks: MonthMark) -> list[str]:
    root = ET.fromstring(str(drawing(marks, "douze mois")))
    assert root.attrib["aria-label"] == "douze mois"
    return [one.tag.rpartition("}")[2] + (one.get("fill") or "") for one in root][1:]


def test_the_year_is_drawn_in_shapes_that_need_no_colour() -> None:
    passed = MonthMark(month="2026-01", outcome="passed", level=3, duration_ms=60_000)
    assert shapes(
        passed,
        replace(passed, level=2),
        replace(passed, observed=False),
        replace(passed, outcome="failed"),
        MonthMark(month="2026-05", outcome="none"),
    ) == ["rect#222", "rectnone", "rectnone", "path", "circle#222"]


def test_a_longer_test_is_a_higher_bar_and_what_is_said_is_escaped() -> None:
    marks = [
        MonthMark(month="2026-01", outcome="passed", level=3, duration_ms=duration)
        for duration in (1_000, 30_000, 60_000)
    ]
    heights = re.findall(r'<rect[^>]* height="([\d.]+)"', str(drawing(marks, "x")))
    assert [float(one) for one in heights] == sorted(float(one) for one in heights)
    assert '"<b>"' not in str(drawing([], '"<b>"'))


def test_immutability_and_media_are_printed_with_dates_and_what_was_not_tested() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    tried = {
        "attacker": "backup_writer", "verdict": "passed", "code": None, "worked": [],
        "refused": ["delete", "overwrite"], "untried": [], "credentials": "writer",
        "reaches_data": True, "before": None, "canaries": [], "attempts": [],
    }  # fmt: skip
    seq = records.add("immutability.tried", "repository/nas", tried, at(5))
    seen = {
        "medium": "rdx-1", "attached": False, "attached_since_at": None, "device": None,
        "mounted": False, "identity": None, "mismatch": None, "slot": None, "code": None,
    }  # fmt: skip
    records.add("medium.seen", "medium/rdx-1", seen, at(6))
    copy = {
        "medium": "rdx-1", "repository": "nas", "newest_at": to_us(at(4)), "applications": {},
        "verdict": "passed", "code": None, "bytes_read": 10, "may_leave": True,
        "restore_test": None,
    }  # fmt: skip
    records.add("medium.copy", "repository/nas", copy, at(5.5))
    moved = {
        "medium": "rdx-1", "direction": "out", "holder": "claire", "place": "coffre 3",
        "seal": None, "at": to_us(at(5.9)), "content": {},
    }  # fmt: skip
    records.add("medium.moved", "medium/rdx-1", moved, at(5.9), author="uid/1001 (claire)")
    html = render_html(report(records), Words("fr", "Europe/Paris")).replace("\u00a0", " ")
    section = html[html.index('id="s8"') : html.index('id="s9"')]
    for part in (
        "le 5 nov. 2026, 01:00 : tentatives refusées 2, abouties 0", f"enregistrement n° {seq}",
        "accès physique : <b>non testé</b>", "jusqu’au 4 nov. 2026, 01:00",
        "absent, constaté le 6 nov. 2026, 01:00",
        "sorti le 5 nov. 2026, 22:36, remis à claire, coffre 3", "uid/1001 (claire)",
    ):  # fmt: skip
        assert part in section
    refuted = {**tried, "verdict": "failed", "worked": ["delete"], "before": "passed"}
    records.add("immutability.tried", "repository/nas", refuted, at(12))
    assert next(one.kind for one in report(records).actions) == "protection_refuted"


def test_no_medium_and_no_trial_are_said_plainly() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    html = render_html(report(records), Words("fr"))
    assert "rien ne prouve qu’une copie hors ligne existe" in html
    assert html.count("<b>non testé</b>") == 4


def test_a_report_that_came_back_and_a_key_that_handed_over_are_told() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    key = {"key_id": "k1", "fingerprint": "SHA256:old"}
    records.add("evidence.key-created", "site", key, at(1))
    signed = {
        "month": "2026-10", "language": "fr", "report": 1, "report_sha256": "ab", "bytes": 9,
        "provisional": False, "sha256": "cd", "file": "signe.pdf", "method": "signature",
        "person": "claire", "signer": "Claire R.", "certificate": "ef", "signed_at": None,
        "issuer_checked": True, "text": None,
    }  # fmt: skip
    records.add("report.acknowledged", "site", signed, at(6), author="uid/1001 (claire)")
    assert (
        said(report(records), "accepted")
        == "Rapports revenus signés ce mois-ci, signature vérifiée : 1 (Claire R.)."
    )
    assert report(records).evidence.key_fingerprint == "SHA256:old"
    handed = {
        "key_id": "k2", "fingerprint": "SHA256:new", "public_key": "00", "previous_key_id": "k1",
        "previous_fingerprint": "SHA256:old", "signed_by_previous": "00", "signed_by_new": "00",
        "reason": "annuel",
    }  # fmt: skip
    records.add("evidence.key-rotated", "site", handed, at(7))
    html = render_html(report(records), Words("fr")).replace("\u00a0", " ")
    assert "SHA256:old → SHA256:new, motif : annuel." in html
    assert "est revenu signé par Claire R., signature vérifiée (signe.pdf)." in html
    assert report(records).evidence.key_fingerprint == "SHA256:new"


@pytest.mark.parametrize(
    ("changed", "event", "answer"),
    [
        (
            {"issuer_checked": False},
            "signature juste, émetteur non vérifié (signe.pdf)",
            "Rapports revenus signés ce mois-ci, signature juste, émetteur non vérifié : 1 (Moi).",
        ),
        (
            {"method": "scan", "issuer_checked": False, "signer": None, "certificate": None},
            "non authentifié (scan) (signe.pdf)",
            "Rapports revenus ce mois-ci en scan, non authentifiés : 1 (claire).",
        ),
    ],
    ids=["self-made", "scan"],
)
def test_what_came_back_is_worth_no_more_than_was_checked(
    changed: dict[str, Any], event: str, answer: str
) -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    signed = {
        "month": "2026-10", "language": "fr", "report": 1, "report_sha256": "ab", "bytes": 9,
        "provisional": False, "sha256": "cd", "file": "signe.pdf", "method": "signature",
        "person": "claire", "signer": "Moi", "certificate": "ef", "signed_at": None,
        "issuer_checked": True, "text": None,
    }  # fmt: skip
    records.add("report.acknowledged", "site", {**signed, **changed}, at(6))
    made = report(records)
    assert said(made, "accepted") == answer
    html = render_html(made, Words("fr")).replace("\u00a0", " ")
    assert event in html
    assert "signature vérifiée" not in html


def test_the_records_that_protections_and_returns_rest_on_are_cited() -> None:
    records = Records()
    records.loaded(at(1), declared=estate())
    tried = {
        "attacker": "backup_writer", "verdict": "passed", "code": None, "worked": [],
        "refused": ["delete"], "untried": [], "credentials": "writer",
        "reaches_data": True, "before": None, "canaries": [], "attempts": [],
    }  # fmt: skip
    seq = records.add("immutability.tried", "repository/nas", tried, at(5))
    assert seq in cited(report(records))


def test_who_turned_since_the_time_before_is_named() -> None:
    records = Records()
    records.loaded(at(-60), declared=estate())
    records.restored("labo", at(-50), verdict="failed", code="corrupt")
    records.restored("dpi", at(-49))
    records.restored("paie", at(-48))
    records.restored("dpi", at(5), verdict="failed", code="corrupt")
    records.restored("labo", at(6))
    records.restored("paie", at(7))
    made = report(records)
    assert made.newly_failing == ("Dossier patient informatisé",)
    assert made.recovered == ("Laboratoire",)
    html = render_html(made, Words("fr")).replace("\u00a0", " ")
    assert "En échec ce mois-ci et pas au test d’avant : 1 – Dossier patient informatisé." in html
    assert "Réussies ce mois-ci après un échec : 1 – Laboratoire." in html
