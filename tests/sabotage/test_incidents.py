"""Every real incident that was collected has its case, or the test in which it is played.

Those of one machine's backups are cases of the corpus; what needs rights, buildings or a clock is
played elsewhere: `FILE::TEST` below tests/.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sabotage.corpus import everything
from tests.sabotage.foreign.retold import RETOLD

TESTS = Path(__file__).parents[1]
_JOBS = "unit/assess/test_job_known.py"
_INVENTORY = "integration/cli/test_inventory_copies.py"
FOREIGN = {case.name: case for case in everything.FOREIGN}

INCIDENTS = {
    "empty-gzip-from-failed-pipe": ("postgresql/empty-gzip-from-failed-pipe",),
    "error-message-in-place-of-dump": (
        "postgresql/error-message-in-place-of-dump",
        "mariadb/error-message-in-place-of-dump",
        "openldap/error-message-in-place-of-dump",
    ),
    "backup-user-without-right-on-new-schema": (
        "postgresql/backup-user-without-right-on-new-schema",
    ),
    "rls-filters-rows": ("postgresql/rls-filters-rows", "postgresql/rls-nobody-knows"),
    "large-objects-left-out": (
        "postgresql/large-objects-left-out",
        "postgresql/large-objects-nobody-knows",
    ),
    "routines-and-events-missing": (
        "mariadb/routines-and-events-missing",
        "mariadb/routines-and-events-missing-last-test",
    ),
    "sqlite-copied-without-wal": ("sqlite/copied-without-wal",),
    "deduplicated-corruption": ("restic/deduplicated-corruption",),
    "incomplete-snapshot-looks-complete": ("restic/incomplete-snapshot-looks-complete",),
    "path-renamed-nothing-selected": ("restic/path-renamed-nothing-selected",),
    "moved-to-a-mount-point": ("restic/moved-to-a-mount-point", "restic/replaced-by-a-link"),
    "repository-cannot-be-opened-elsewhere": ("borg/repository-cannot-be-opened-elsewhere",),
    "ok-roles-missing-in-sandbox": ("postgresql/ok-roles-missing",),
    "ok-not-valid-constraint": (
        "postgresql/ok-not-valid-constraint",
        "postgresql/orphans-in-production",
    ),
    "ok-newer-dump-banner": ("mariadb/ok-newer-dump-banner", "postgresql/ok-restrict"),
    "ok-row-larger-than-sandbox-packet": ("mariadb/ok-row-larger-than-sandbox-packet",),
    "ok-archived-application": (
        "postgresql/ok-archived-application",
        "postgresql/archived-undeclared",
    ),
    "ok-stale-lock": ("restic/ok-stale-lock", "restic/ok-pack-that-no-index-knows"),
    "ok-purge-and-rename-announced": (
        "postgresql/ok-purge-and-rename-announced",
        "postgresql/purge-and-rename-unannounced",
    ),
    "future-dated-point-is-always-latest": ("restic/ok-future-dated-point",),
    "unlogged-table-empty-after-physical-restore": (
        "postgresql-physical/unlogged-table-empty",
        "postgresql-physical/unlogged-table-empty-accepted",
    ),
    "collation-changed-under-the-index": (
        "postgresql-physical/collation-changed-under-the-index",
        "postgresql/duplicate-keys",
    ),
    "wal-dropped-by-queue-limit": (
        "postgresql-physical/a-segment-missing",
        "integration/repositories/test_pgbackrest.py::test_a_time_past_the_log_and_one_behind_a_gap",
    ),
    # -- those that no engine can play alone: a clock, rights, buildings, a month
    "hung-dump-behind-a-lock": (
        f"{_JOBS}::test_one_backup_that_hung_for_days_keeps_no_missed_run_silent",
    ),
    "copies-in-one-building": (
        "unit/controls/test_copies.py::test_each_way_of_failing_has_its_words",
        f"{_INVENTORY}::test_two_directories_of_one_file_system_are_one_copy",
    ),
    "one-credential-deletes-all": (
        "integration/repositories/test_s3_attack.py::test_sabotage_what_is_not_locked_is_destroyed",
        "integration/repositories/test_s3_locks.py::test_versioning_suspended",
    ),
    "history-shorter-than-the-intrusion": (
        "unit/controls/test_controls_tables.py::test_judgement",
    ),
    "ok-clock-change": (
        f"{_JOBS}::test_a_job_that_runs_every_night_is_silent_over_clock_changes",
        f"{_JOBS}::test_a_night_without_its_hour_raises_no_alarm_and_says_why",
        "sabotage/test_a_quarter.py::test_nobody_is_called_over_the_night_that_lacks_an_hour",
    ),
}


def test_none_was_left_out() -> None:
    assert len(INCIDENTS) == 28
    assert sum(name.startswith("ok-") for name in INCIDENTS) == 8


@pytest.mark.parametrize("name", sorted(INCIDENTS))
def test_an_incident_is_played(name: str) -> None:
    for place in INCIDENTS[name]:
        file, _, test = place.partition("::")
        if test:
            source = (TESTS / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), place
        else:
            assert place in FOREIGN, place


def test_what_is_retold_is_a_case_and_names_its_source() -> None:
    names = {case.name for case in everything.ALL}
    assert set(RETOLD) <= names
    assert not [name for name, said in RETOLD.items() if said.startswith("trade")]
    assert not [name for name, said in RETOLD.items() if ": " not in said]
