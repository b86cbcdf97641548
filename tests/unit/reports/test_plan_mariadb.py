"""What the plan prints for copies of mariadb-backup: the chain in its order, and no tuning."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from backupguard.model import RecoveryPoint
from backupguard.reports import production
from backupguard.repositories.directory_settings import DirectorySettings
from tests.unit.reports.test_plan import OF_THE_SANDBOX

AT = datetime(2026, 6, 15, 3, 0, tzinfo=UTC)


def commands(native_id: str, *needs: str) -> list[str]:
    point = RecoveryPoint(
        repository="maria", job="dpi.nightly", native_id=native_id, at=AT, covers_until=AT, needs=needs
    )  # fmt: skip
    copy = production.Copy(
        repository="maria", settings=DirectorySettings(type="directory", path=Path("/srv/maria")),
        point=point, paths=(), name=None, database="dpi", version="10.11",
    )  # fmt: skip
    fetched = production.fetch(copy)
    assert fetched is not None
    return [*fetched.commands, *(production.load("mariadb-physical", fetched, copy) or ())]


def test_a_chain_is_prepared_in_its_order() -> None:
    lines = commands("inc2@20260615T030000Z", "inc1@20260614T030000Z", "w24/full@20260613T030000Z")
    assert lines[:6] == [
        'cp --recursive --preserve=timestamps /srv/maria/w24/full "$RESTORE"/0',
        'cp --recursive --preserve=timestamps /srv/maria/inc1 "$RESTORE"/1',
        'cp --recursive --preserve=timestamps /srv/maria/inc2 "$RESTORE"/2',
        'mariadb-backup --prepare --target-dir="$RESTORE"/0',
        'mariadb-backup --prepare --target-dir="$RESTORE"/0 --incremental-dir="$RESTORE"/1',
        'mariadb-backup --prepare --target-dir="$RESTORE"/0 --incremental-dir="$RESTORE"/2',
    ]
    assert 'mariadb-backup --copy-back --target-dir="$RESTORE"/0' in lines
    assert lines[-1] == "mariadb-check --all-databases --check"
    assert not OF_THE_SANDBOX.search("\n".join(lines))


def test_a_full_copy_and_a_stream() -> None:
    full = commands("full-20260615")
    assert 'mariadb-backup --prepare --target-dir="$RESTORE"/full-20260615' in full
    stream = commands("full-20260615.mbstream.gz")
    assert any(line.startswith('zcat "$RESTORE"/full-20260615.mbstream.gz |') for line in stream)
    assert 'mariadb-backup --prepare --target-dir="$RESTORE"/full' in stream
