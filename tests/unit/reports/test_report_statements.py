"""The report prints every statement and every exception with who, on what word, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from backupguard.contracts import RepositorySettings
from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.model import Origin, to_us
from backupguard.reports import MonthlyReport, monthly, render_html
from backupguard.settings.model import settings_type

from .records import Records, at

CLAIRE, MARC = "uid/1001 (claire)", "uid/1002 (marc)"


def attest(records: Records, topic: str, day: float, days: float, **changed: Any) -> int:
    data = {
        "topic": topic,
        "person": "claire",
        "text": "clé <au> coffre",
        "values": {},
        "expires_at": to_us(at(day) + timedelta(days=days)),
        "signature": None,
    }
    return records.add(
        "attestation.made", "repository/nas", data | changed, at(day),
        author=CLAIRE, origin=Origin.ATTESTED,
    )  # fmt: skip


def waive(records: Records, control: str, day: float, days: float, *, wait: bool) -> int:
    data = {
        "control": control,
        "reason": "migration du SAN",
        "owner": "DSI",
        "person": "claire",
        "until_at": to_us(at(day) + timedelta(days=days)),
        "needs_confirmation": wait,
    }
    return records.add(
        "waiver.asked", "application/dpi", data, at(day), author=CLAIRE, origin=Origin.ATTESTED
    )


def report(records: Records, month: str = "2026-11") -> MonthlyReport:
    chosen = settings_type({"restic": RepositorySettings}, {}, {}).model_validate(
        {
            "site": {"name": "CH de Belle-Rive"},
            "repositories": {"nas": {"type": "restic"}},
            "applications": {"dpi": {"name": "Dossier patient", "criticality": "C1"}},
        }
    )
    catalogue = load_catalogue()
    return monthly(records, chosen, catalogue, month, "fr", at(31.2))  # type: ignore[arg-type]


def text(made: MonthlyReport) -> str:
    return render_html(made, Words("fr", "Europe/Paris"))


def test_a_month_without_any_says_nothing() -> None:
    records = Records()
    records.add("pause.ended", "site", {"reason": "fini"}, at(3))
    made = report(records)
    assert (made.attestations, made.waivers) == ((), ())
    assert "Dérogations acceptées" not in text(made)


def test_statements_are_printed_with_who_and_whether_they_are_signed() -> None:
    records = Records()
    attest(records, "escrow", 3, 100)
    signature = {"person": "claire", "key": "SHA256:abc", "statement": "t", "armored": "s"}
    attest(records, "isolation", 4, 10, signature=signature, text="ports fermés")
    gone = attest(records, "failure-domain", 5, 100, text="baie 2")
    records.add(
        "attestation.withdrawn", "repository/nas", {"attestation": gone, "reason": "déménagement"},
        at(9), author=MARC,
    )  # fmt: skip
    attest(records, "attacker", 6, 100, text="premier", values={"name": "physical"})
    attest(records, "attacker", 7, 100, text="second", values={"name": "physical"})
    made = report(records)
    assert [(row.topic, row.state) for row in made.attestations] == [
        ("escrow", "in_force"),
        ("isolation", "expired"),
        ("failure-domain", "withdrawn"),
        ("attacker", "in_force"),
    ]
    page = text(made)
    for said in (
        "clé &lt;au&gt; coffre", "déclaration non authentifiée", "SHA256:abc", CLAIRE, "échue",
        "déménagement", MARC, "physical", "second",
    ):  # fmt: skip
        assert said in page
    assert "premier" not in page


def test_exceptions_are_printed_with_their_second_person_or_that_there_is_none() -> None:
    records = Records()
    waive(records, "RST-01", 3, 60, wait=True)
    confirmed = waive(records, "RST-02", 3, 60, wait=True)
    records.add(
        "waiver.confirmed", "application/dpi", {"waiver": confirmed, "person": "marc"}, at(4),
        author=MARC,
    )  # fmt: skip
    waive(records, "RST-03", 3, 5, wait=False)
    ended = waive(records, "PDM-01", 3, 60, wait=True)
    records.add(
        "waiver.ended", "application/dpi", {"waiver": ended, "reason": "SAN remplacé"}, at(8),
        author=MARC,
    )  # fmt: skip
    made = report(records)
    assert [(row.control, row.state) for row in made.waivers] == [
        ("RST-01", "waiting"), ("RST-02", "in_force"), ("RST-03", "expired"), ("PDM-01", "ended"),
    ]  # fmt: skip
    page = text(made)
    for said in ("migration du SAN", "DSI", "confirmée par personne", "confirmée par marc", MARC,
                 "SAN remplacé", "en attente d’une seconde personne"):  # fmt: skip
        assert said in page


def test_what_was_over_before_the_month_is_left_to_its_own_report() -> None:
    records = Records()
    waive(records, "RST-01", -40, 5, wait=False)
    assert report(records).waivers == ()


def test_changed_thresholds_are_printed_and_the_periods_follow_them() -> None:
    records = Records()
    data = {
        "control": "RST-01",
        "threshold": "period",
        "value": 60 * 86_400,
        "given": "60d",
        "reason": "serveur <de> test en migration",
        "person": "claire",
        "until_at": to_us(at(20) + timedelta(days=40)),
        "loosens": True,
        "needs_confirmation": True,
    }
    seq = records.add("override.asked", "site", data, at(5), author=CLAIRE, origin=Origin.ATTESTED)
    waiting = report(records)
    assert [row.state for row in waiting.overrides] == ["waiting"]
    confirmed = {"override": seq, "person": "marc"}
    records.add("override.confirmed", "site", confirmed, at(6), author=MARC, origin=Origin.ATTESTED)
    held = report(records)
    assert [(row.state, row.confirmed_by) for row in held.overrides] == [("in_force", "marc")]
    html = render_html(held, Words("fr"))
    assert "serveur &lt;de&gt; test en migration" in html
    assert "moins exigeant que le catalogue" in html


def test_the_annex_says_what_each_control_is_aligned_on() -> None:
    made = report(Records())
    assert len(made.alignment.controls) == 20
    html = render_html(made, Words("fr"))
    assert "CaRE D4 (plan 2023) / domaine 2 (appel à financement 2025)" in html
    assert "Aligné sur" in html
    assert "R22" in html
    assert "cité par un tiers, non vérifié" in html
    assert "Lignes non vérifiées" in html
