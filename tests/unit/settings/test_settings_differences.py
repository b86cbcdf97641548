from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backupguard import settings
from backupguard.evidence.kinds import check_payload
from backupguard.settings.differences import differences

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
