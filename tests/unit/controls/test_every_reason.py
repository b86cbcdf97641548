"""All 20 controls: no reason that is in no case, a waiver and an expired one for each, bad news.

Ten controls have tables of their own in `test_controls_tables`; IMM-01 has one here; the cases of the
others stand in modules of their own, where each reason must be written out.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupguard.assess.waivers import Waivers, can_cover
from backupguard.controls import BUILT
from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.model import (
    Criticality,
    Fact,
    Observation,
    Origin,
    Status,
    View,
    to_us,
)
from tests.unit.controls import (
    lock_tables,
    test_acc_01,
    test_cfg_01,
    test_chf_01,
    test_copies,
    test_coverage,
    test_imm_02,
    test_isolation,
    test_off_01,
)
from tests.unit.controls.control_facts import (
    DAY,
    HOUR,
    NOW,
    fact,
    judge,
)
from tests.unit.controls.test_controls_tables import TABLES

HERE = Path(__file__).parent

#: Where the cases of the other controls are.
MODULES = {
    "INV-01": ("test_coverage",),
    "INV-02": ("test_coverage",),
    "321-01": ("test_copies",),
    "OFF-01": ("test_off_01",),
    "IMM-02": ("test_imm_02",),
    "ISO-01": ("test_isolation",),
    "ACC-01": ("test_acc_01",),
    "CFG-01": ("test_cfg_01",),
    "CHF-01": ("test_chf_01",),
}

UNKNOWN = fact(
    "media.unknown",
    "site",
    NOW - HOUR,
    {"media": [{"device": "/dev/sdx", "identity": "serial", "value": "0", "tool": "restic"}]},
)
REJECTED = {
    "seq": 8,
    "at": to_us(NOW - HOUR),
    "file": "/etc/backupguard/controls/care-d4.toml",
    "line": 12,
    "key": "RST-01.thresholds.period",
}


def drift(**known: Any) -> View:
    made = test_cfg_01.view()
    return replace(made, known={**made.known, **known})


def unknown_medium() -> View:
    made = test_cfg_01.view()
    return replace(made, latest={**made.latest, "media.unknown": UNKNOWN})


def no_host() -> View:
    made = test_isolation.place(test_isolation.look())
    return replace(made, latest={k: v for k, v in made.latest.items() if k != "host.joined"})


def not_looked_at() -> View:
    return replace(test_acc_01.site(), latest={})


def young_medium() -> View:
    made = test_off_01.view(test_off_01.medium(copies=[], here_at=None, out=None))
    return replace(made, first_seen=NOW - DAY)


#: Cases that the modules above judge by other means than their reason, told here with it.
MORE: list[tuple[str, View, str, str]] = [
    ("CFG-01", test_cfg_01.view(), "compliant", "kept"),
    ("CFG-01", test_cfg_01.view(test_cfg_01.weakening()), "non_compliant", "weakened"),
    ("CFG-01", drift(rejected=REJECTED), "warning", "rejected"),
    ("CFG-01", unknown_medium(), "non_compliant", "unknown_medium"),
    (
        "INV-01",
        test_coverage.place(test_coverage.discovery(), test_coverage.reference()),
        "compliant",
        "covered",
    ),
    ("INV-01", test_coverage.place(test_coverage.discovery()), "not_measurable", "no_reference"),
    (
        "CFG-01",
        test_cfg_01.view(
            test_cfg_01.weakening(),
            attestations={"change/7": test_cfg_01.statement(authenticated=False)},
        ),
        "warning",
        "unsigned",
    ),
    ("CFG-01", test_cfg_01.view(seen_at=to_us(NOW - 2 * DAY)), "not_measurable", "old"),
    ("321-01", test_copies.view(test_copies.sound(**test_copies.AWAY)), "compliant", "kept"),
    ("ACC-01", not_looked_at(), "not_measurable", "unseen"),
    (
        "INV-02",
        test_coverage.place(
            services={
                "directory": [
                    test_coverage.provider("annuaire", test_copies.copy("far", domain="campus-sud"))
                ]
            }
        ),
        "not_measurable",
        "undeclared",
    ),
    (
        "ISO-01",
        test_isolation.place(
            test_isolation.look(at=NOW - 40 * HOUR),
            test_isolation.look(test_isolation.row("open", announced=True), seq=22),
        ),
        "not_measurable",
        "stale",
    ),
    ("OFF-01", young_medium(), "not_measurable", "not_yet"),
    ("INV-02", test_coverage.core(points=3), "compliant", "saved"),
    ("INV-02", test_coverage.place(), "not_measurable", "nothing_declared"),
    ("ISO-01", no_host(), "not_measurable", "host_unseen"),
    (
        "ISO-01",
        test_isolation.place(
            test_isolation.look(), joined=test_isolation.host(unread=["/etc/sssd/sssd.conf"])
        ),
        "warning",
        "join_unread",
    ),
]


def reasons(control: str) -> set[str]:
    prefix = f"reason.{control}."
    found = {key.removeprefix(prefix) for key in catalogue("en") if key.startswith(prefix)}
    return {one for one in found if "." not in one}  # the others are parts of a sentence


def written(module: str, control: str) -> set[str]:
    """Return every text that a module of tests spells, without the beginning all reasons share."""
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    return {
        node.value.removeprefix(f"reason.{control}.")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_control_has_its_cases() -> None:
    assert {*TABLES, *MODULES, "IMM-01"} == set(BUILT)


@pytest.mark.parametrize("control", sorted(BUILT))
def test_every_reason_is_in_a_case(control: str) -> None:
    found = {row[3] for row in MORE if row[0] == control}
    found |= {row[4] for row in TABLES.get(control, ())}
    found |= {row[4] for row in lock_tables.ROWS} if control == "IMM-01" else set()
    for module in MODULES.get(control, ()):
        found |= written(module, control)
    assert reasons(control) <= found


@pytest.mark.parametrize(
    ("view", "status", "cause", "severity", "reason"),
    [pytest.param(*row, id=f"{n}-{row[4]}") for n, row in enumerate(lock_tables.ROWS)],
)
def test_imm_01(view: View, status: str, cause: str | None, severity: str, reason: str) -> None:
    found = judge("IMM-01", view)
    assert (found.status, found.cause, found.severity, found.reason.id) == (
        status,
        cause,
        severity,
        f"reason.IMM-01.{reason}",
    )
    for language in LANGUAGES:
        assert "{" not in Words(language).say(found.reason)


@pytest.mark.parametrize(
    ("control", "view", "status", "reason"),
    [pytest.param(*row, id=f"{row[0]}-{row[3]}") for row in MORE],
)
def test_more_cases(control: str, view: View, status: str, reason: str) -> None:
    found = judge(control, view)
    assert (found.status, found.reason.id) == (status, f"reason.{control}.{reason}")
    for language in LANGUAGES:
        assert "{" not in Words(language).say(found.reason)


# ------------------------------------------------------------------------------------------ waivers


def somewhere_bad(control: str) -> View:
    """Return a view in which a control finds something that an exception may cover."""
    own = {
        "CFG-01": lambda: test_cfg_01.view(test_cfg_01.weakening()),
        "INV-01": lambda: test_coverage.place(
            test_coverage.discovery(),
            test_coverage.reference(),
            applications=test_coverage.BARE,
        ),
        "INV-02": lambda: test_coverage.core(**test_coverage.OLD, points=3),
        "321-01": lambda: test_copies.view([test_copies.copy("nas")]),
        "OFF-01": lambda: test_off_01.view(test_off_01.medium(kind="vtl")),
        "IMM-02": lambda: test_imm_02.view(test_imm_02.tried(HOUR, test_imm_02.REFUTED)),
        "ISO-01": lambda: test_isolation.place(test_isolation.look(test_isolation.row("open"))),
        "ACC-01": lambda: test_acc_01.site(
            look=test_acc_01.looked(test_acc_01.secret(age=400 * DAY))
        ),
        "CHF-01": lambda: test_chf_01.view(
            *test_chf_01.seen(test_chf_01.inspected(False)), test_chf_01.OPENED
        ),
    }
    rows = lock_tables.ROWS if control == "IMM-01" else TABLES.get(control)
    if rows is not None:
        return next(row[0] for row in rows if row[1] == "non_compliant")
    return own[control]()


def asked(control: str, subject: str, until: Any, *, second: bool) -> list[Fact]:
    data = {
        "control": control,
        "reason": "migration",
        "owner": "DSI",
        "person": "claire",
        "until_at": to_us(until),
        "needs_confirmation": True,
    }

    def said(kind: str, seq: int, author: str, body: dict[str, Any]) -> Fact:
        return Fact(
            seq=seq,
            recorded_at=NOW - 10 * DAY,
            run=None,
            author=author,
            hash=b"",
            observation=Observation(
                kind=kind,
                subject=subject,
                observed_at=NOW - 10 * DAY,
                origin=Origin.ATTESTED,
                data=body,
                key=f"{kind}/{seq}",
            ),
        )

    made = [said("waiver.asked", 41, "uid/1001 (claire)", data)]
    if second:
        confirmed = {"waiver": 41, "person": "marc"}
        made.append(said("waiver.confirmed", 42, "uid/1002 (marc)", confirmed))
    return made


@pytest.mark.parametrize("control", sorted(BUILT))
def test_waived_not_confirmed_and_expired(control: str) -> None:
    view = somewhere_bad(control)
    judgement = judge(control, view)
    assert can_cover(judgement), judgement.reason.id
    subject, vital = view.subject, Criticality.C1

    holding = Waivers(asked(control, subject, NOW + DAY, second=True))
    found, number = holding.apply(control, subject, vital, judgement, NOW)
    assert (found.status, number) == (Status.WAIVED, 41)
    assert found.reason.values["waived_reason"] == f"@{judgement.reason.id}"
    assert holding.apply(control, subject, vital, judgement, NOW + DAY) == (judgement, None)

    waiting = Waivers(asked(control, subject, NOW + DAY, second=False))
    assert waiting.apply(control, subject, vital, judgement, NOW) == (judgement, None)
    expired = Waivers(asked(control, subject, NOW, second=True))
    assert expired.apply(control, subject, vital, judgement, NOW) == (judgement, None)
