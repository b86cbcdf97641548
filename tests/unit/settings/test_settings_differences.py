from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backupguard import settings
from backupguard.evidence.kinds import check_payload
from backupguard.settings.differences import differences, weakens

BASE = """\
[site]
name = "CH"
[repositories.nas]
type = "directory"
path = "/srv/exports"
[applications.annuaire]
name = "Annuaire"
criticality = "C2"
[applications.dpi]
name = "DPI"
criticality = "C2"
rpo = "24h"
rto = "4h"
depends-on = ["annuaire"]
recovery.steps = [{ name = "licence", duration = "90m" }]
[applications.dpi.backups.nightly]
repository = "nas"
schedule = "0 22 * * *"
grace = "2h"
select.pattern = "dpi-%Y%m%d.dump"
[applications.dpi.backups.hourly]
repository = "nas"
every = "1h"
[applications.dpi.restore-test]
engine = "postgresql"
schedule = "0 10 5 * *"
required-tables = ["stays"]
[[applications.dpi.restore-test.checks]]
name = "admissions"
sql = "select max(admitted_at) from stays"
newer-than = "26h"
[[applications.dpi.restore-test.checks]]
name = "patients"
sql = "select count(*) from patients"
at-least = 1000
"""
SECOND_CHECK = BASE[BASE.rindex("[[applications") :]


def dump(directory: Path, text: str) -> dict[str, Any]:
    path = directory / "backupguard.toml"
    path.write_text(text)
    return settings.load(path, environ={}).dump()


#: (what is replaced, by what, path, change, whether it weakens)
CHANGES = {
    "less retention": (
        'rpo = "24h"',
        'rpo = "24h"\nretention.daily = 3',
        "applications.dpi.retention.daily",
        "added",
        True,
    ),
    "longer rpo": ('rpo = "24h"', 'rpo = "48h"', "applications.dpi.rpo", "changed", True),
    "shorter rpo": ('rpo = "24h"', 'rpo = "12h"', "applications.dpi.rpo", "changed", False),
    "no rto": ('rto = "4h"\n', "", "applications.dpi.rto", "removed", True),
    "less critical": (
        'name = "DPI"\ncriticality = "C2"',
        'name = "DPI"\ncriticality = "C3"',
        "applications.dpi.criticality",
        "changed",
        True,
    ),
    "more critical": (
        'name = "DPI"\ncriticality = "C2"',
        'name = "DPI"\ncriticality = "C1"',
        "applications.dpi.criticality",
        "changed",
        False,
    ),
    "no dependency": ('["annuaire"]', "[]", "applications.dpi.depends-on", "changed", True),
    "shorter step": (
        '"90m"',
        '"30m"',
        "applications.dpi.recovery.steps.licence.duration",
        "changed",
        True,
    ),
    "job gone": (
        '[applications.dpi.backups.hourly]\nrepository = "nas"\nevery = "1h"\n',
        "",
        "applications.dpi.backups.hourly",
        "removed",
        True,
    ),
    "rarer backups": (
        "0 22 * * *",
        "0 22 * * 1-5",
        "applications.dpi.backups.nightly.schedule",
        "changed",
        True,
    ),
    "another hour": (
        "0 22 * * *",
        "0 23 * * *",
        "applications.dpi.backups.nightly.schedule",
        "changed",
        False,
    ),
    "longer interval": (
        'every = "1h"',
        'every = "2h"',
        "applications.dpi.backups.hourly.every",
        "changed",
        True,
    ),
    "longer grace": ('"2h"', '"3h"', "applications.dpi.backups.nightly.grace", "changed", True),
    "other selection": (
        "dpi-%Y",
        "old-%Y",
        "applications.dpi.backups.nightly.select.pattern",
        "changed",
        True,
    ),
    "check gone": (
        SECOND_CHECK,
        "",
        "applications.dpi.restore-test.checks.patients",
        "removed",
        True,
    ),
    "lower threshold": (
        "at-least = 1000",
        "at-least = 1",
        "applications.dpi.restore-test.checks.patients.at-least",
        "changed",
        True,
    ),
    "higher threshold": (
        "at-least = 1000",
        "at-least = 2000",
        "applications.dpi.restore-test.checks.patients.at-least",
        "changed",
        False,
    ),
    "older data": (
        '"26h"',
        '"52h"',
        "applications.dpi.restore-test.checks.admissions.newer-than",
        "changed",
        True,
    ),
    "another question": (
        "count(*) from patients",
        "100000",
        "applications.dpi.restore-test.checks.patients.sql",
        "changed",
        True,
    ),
    "rarer tests": (
        "0 10 5 * *",
        "0 10 5 */6 *",
        "applications.dpi.restore-test.schedule",
        "changed",
        True,
    ),
    "table not required": (
        'required-tables = ["stays"]',
        "required-tables = []",
        "applications.dpi.restore-test.required-tables",
        "changed",
        True,
    ),
    "renamed": ('name = "DPI"', 'name = "Dossier"', "applications.dpi.name", "changed", False),
    "commissioning": (
        'name = "CH"',
        'name = "CH"\ncommissioning-until = 2020-01-01',
        "site.commissioning-until",
        "added",
        True,
    ),
    "rarer integrity": (
        "[repositories.nas]",
        '[daemon.cadences.integrity]\nC1 = "60d"\n[repositories.nas]',
        "daemon.cadences.integrity.C1",
        "changed",
        True,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_named_and_weighed(tmp_path: Path, name: str) -> None:
    old, new, path, change, weakened = CHANGES[name]
    assert BASE.count(old) == 1, name

    [found] = differences(dump(tmp_path, BASE), dump(tmp_path, BASE.replace(old, new)))

    assert (found["path"], found["change"], found["weakened"]) == (path, change, weakened)


def test_a_whole_application_is_one_line(tmp_path: Path) -> None:
    without = BASE[: BASE.index("[applications.dpi]")]

    [found] = differences(dump(tmp_path, BASE), dump(tmp_path, without))
    assert (found["path"], found["change"], found["weakened"]) == (
        "applications.dpi",
        "removed",
        True,
    )
    assert len(found["before"]) <= 200

    [back] = differences(dump(tmp_path, without), dump(tmp_path, BASE))
    assert (back["change"], back["weakened"]) == ("added", False)


def test_nothing_changed_and_nothing_before(tmp_path: Path) -> None:
    same = dump(tmp_path, BASE)

    assert differences(same, dump(tmp_path, "# comment\n" + BASE)) == []
    assert differences(None, same) == []


def test_the_order_of_checks_is_no_difference(tmp_path: Path) -> None:
    head, first = BASE[: BASE.index("[[")], BASE[BASE.index("[[") : -len(SECOND_CHECK)]

    assert differences(dump(tmp_path, BASE), dump(tmp_path, head + SECOND_CHECK + first)) == []


def test_differences_fit_the_fact(tmp_path: Path) -> None:
    found = differences(dump(tmp_path, BASE), dump(tmp_path, BASE.replace('"24h"', '"48h"')))

    check_payload(
        "configuration.loaded",
        1,
        {
            "sha256": "",
            "catalogue_sha256": "",
            "program_version": "",
            "files": [],
            "differences": found,
        },
    )


PROTECTION: dict[str, tuple[tuple[str, ...], Any, Any, bool]] = {
    "claim taken back": (("repositories", "nas", "claimed-protection"), ["lock"], [], True),
    "claim added": (("repositories", "nas", "claimed-protection"), [], ["lock"], False),
    "on no medium any more": (("repositories", "usb", "medium"), "usb-1", None, True),
    "on a medium": (("repositories", "usb", "medium"), None, "usb-1", False),
    "kind of medium": (("repositories", "usb", "medium-kind"), "disk", "tape", True),
    "nothing to try with": (
        ("repositories", "nas", "credentials", "writer-for-probe"),
        {"credential": "writer"},
        None,
        True,
    ),
    "something to try with": (
        ("repositories", "nas", "credentials", "writer-for-probe"),
        None,
        {"credential": "writer"},
        False,
    ),
    "no escrow": (("repositories", "nas", "credentials", "escrow"), {"file": "/x"}, None, True),
    "medium gone": (("media", "usb-1"), {"kind": "removable"}, None, True),
    "medium added": (("media", "usb-1"), None, {"kind": "removable"}, False),
    "another disk": (("media", "usb-1", "filesystem-uuid"), "a", "b", True),
    "may stay longer": (("media", "usb-1", "may-stay"), "12h", "3d", True),
    "may stay shorter": (("media", "usb-1", "may-stay"), "12h", "6h", False),
    "rarer rotation": (("media", "usb-1", "every"), "7d", "31d", True),
    "somebody's word counts": (("people", "eve"), None, {"name": "Eve"}, True),
    "more roles": (("people", "eve", "roles"), ["operator"], ["operator", "rssi"], True),
    "another key": (("people", "rssi", "signing-key"), None, "ssh-ed25519 AAAA", True),
    "tried less often": (("daemon", "cadences", "immutability"), "7d", "90d", True),
    "tried more often": (("daemon", "cadences", "immutability"), "7d", "1d", False),
    "looked at less often": (("daemon", "cadences", "drift"), "1h", "7d", True),
    "probe made rarer": (("probes", "immutability", "every"), "7d", "90d", True),
    "plan kept nowhere": (("plan", "directory"), "/mnt/coffre", None, True),
    "plan kept less often": (("plan", "every"), "7d", "31d", True),
    "more hands are assumed": (("plan", "parallel"), None, 4, True),
    "fewer hands are assumed": (("plan", "parallel"), 4, 2, False),
    "loads are assumed quicker": (("plan", "durable-writes"), 165, 100, True),
    "loads are assumed slower": (("plan", "durable-writes"), None, 300, False),
}


@pytest.mark.parametrize("name", sorted(PROTECTION))
def test_what_protects_is_weighed(name: str) -> None:
    path, before, after, weaker = PROTECTION[name]
    assert weakens(path, before, after) is weaker


def test_what_is_recorded_cut_can_still_be_told_from_another(tmp_path: Path) -> None:
    job = '[applications.dpi.backups.hourly]\nrepository = "nas"\nevery = "1h"\n'
    long = job + f'select.pattern = "{"x" * 200}"\n'
    base = BASE.replace(job, long)
    [gone] = differences(dump(tmp_path, base), dump(tmp_path, base.replace(long, "")))
    [back] = differences(dump(tmp_path, base.replace(long, "")), dump(tmp_path, base))
    other = base.replace("xxx", "yyy", 1)
    [swapped] = differences(dump(tmp_path, base.replace(long, "")), dump(tmp_path, other))
    assert gone["before_sha256"] == back["after_sha256"] != swapped["after_sha256"]
