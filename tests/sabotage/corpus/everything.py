"""All cases of the corpus, ours and those that real incidents made; and which of them the tests run."""

from __future__ import annotations

from dataclasses import replace

from tests.sabotage.corpus import (
    files,
    firebird,
    mariadb,
    mariadb_physical,
    openldap,
    postgresql,
    postgresql_physical,
    repository,
    samba,
    sqlite,
)
from tests.sabotage.corpus.case import Case
from tests.sabotage.foreign import incidents, physical, ransomed, reports
from tests.sabotage.foreign.retold import RETOLD

_MADE: tuple[Case, ...] = tuple(
    case
    for module in (
        postgresql,
        postgresql_physical,
        mariadb,
        mariadb_physical,
        sqlite,
        firebird,
        openldap,
        samba,
        files,
        repository,
    )
    for case in module.CASES
)
OURS: tuple[Case, ...] = tuple(case for case in _MADE if case.name not in RETOLD)
FOREIGN: tuple[Case, ...] = (
    *incidents.CASES,
    *ransomed.CASES,
    *reports.CASES,
    *physical.CASES,
    *(replace(case, story=RETOLD[case.name]) for case in _MADE if case.name in RETOLD),
)
ALL = (*OURS, *FOREIGN)

#: Of those that need a server or a repository's program, what `script/test` runs: each way of speaking
#: once. The others run with script/sabotage.
_CHOSEN = frozenset(
    """
    postgresql/custom-cut-near-the-end postgresql/plain-lost-its-trailer postgresql/flipped-in-contents
    postgresql/empty-file postgresql/gzip-flipped postgresql/wrong-encoding postgresql/unknown-extension
    postgresql/definitions-only postgresql/no-keys-nor-indexes postgresql/a-table-missing
    postgresql/half-of-the-rows postgresql/slow-shrinkage postgresql/stale-behind-appointments
    postgresql/stale-clinical-fresh-audit postgresql/a-column-encrypted postgresql/another-database
    postgresql/sequence-behind postgresql/rows-break-their-key postgresql/a-column-lost
    postgresql/rights-left-out postgresql/rls-filters-rows postgresql/large-objects-left-out
    postgresql/empty-gzip-from-failed-pipe postgresql/backup-user-without-right-on-new-schema
    postgresql/all-lost-a-database
    postgresql-physical/a-segment-missing postgresql-physical/a-bit-without-manifest
    postgresql-physical/unlogged-table-empty
    postgresql/ok-four-byte-letters postgresql/ok-roles-missing postgresql/ok-restrict
    mariadb/cut-between-tables mariadb/gzip-flipped mariadb/definitions-only mariadb/empty-database
    mariadb/events-left-out mariadb/rows-break-their-key mariadb/letters-encoded-twice
    mariadb/letters-became-question-marks mariadb/definer-missing mariadb/rows-collapsed
    mariadb/ok-row-larger-than-sandbox-packet
    mariadb-physical/base-missing mariadb-physical/a-bit-of-a-table
    firebird/cut firebird/overwritten firebird/rows-collapsed firebird/a-column-encrypted
    firebird/flipped-in-a-definition firebird/a-procedure-that-no-longer-compiles
    firebird/reaches-out firebird/file-cut firebird/file-damaged firebird/ok-under-the-lock-of-nbackup
    restic/index-flipped restic/snapshot-missing restic/wrong-key restic/moved-to-a-mount-point
    restic/ok-future-dated-point restic/ok-stale-lock
    borg/segment-missing samba-ad/key-missing
    """.split()  # noqa: SIM905
)
_PROGRAMS = (
    "postgresql/",
    "postgresql-physical/",
    "mariadb/",
    "mariadb-physical/",
    "firebird/",
    "restic/",
    "borg/",
)


def tested() -> tuple[Case, ...]:
    """Return the cases that the test command runs."""
    return tuple(
        case
        for case in ALL
        if case.name in _CHOSEN or not (case.heavy or case.name.startswith(_PROGRAMS))
    )
