"""What people reported of backups they could not restore, made again from their reports.

Each case names the report it was written from; the address is in its story.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests import samba as domains
from tests.integration.repositories.restic_maker import Restic, damage
from tests.sabotage.corpus import (
    firebird,
    mariadb,
    postgresql,
    postgresql_physical,
    repository,
    samba,
    sqlite,
)
from tests.sabotage.corpus.case import Case, Family, cut, replaced
from tests.sabotage.corpus.sources import Sources, gzipped

_GITHUB = "https://github.com/"
_PG = Family(engine="postgresql", before=postgresql.yesterday, twin=postgresql.today)
_MY = Family(engine="mariadb", before=mariadb.yesterday, twin=mariadb.today)
_IN_RESTIC = Family(engine="restic", before=repository.restic(), twin=repository.restic())
#: A number that stands nowhere else in a backup: of a donor, and of the bag that is his.
_DONOR = 123_456_789
_GIVEN = (
    f"insert into donors values ({_DONOR}, 'Lefèvre', date '1960-01-01')",
    f"insert into bags values (1500, {_DONOR}, (select max(taken_at) from bags), 'x', 'x')",
)


def _donor_gone(path: Path) -> Path:
    """The bag's donor has another number; gbak writes numbers as XDR does, the donors first."""
    return replaced(path, (_DONOR.to_bytes(4, "big"), (_DONOR + 1).to_bytes(4, "big")), count=1)


def _promoted_by_mistake(place: Path) -> None:
    """The log of a copy that was promoted for a trial went into the same archive."""
    wal = place / "wal"
    last = max(wal.glob("00000001" + "?" * 16))
    shutil.copy(last, wal / ("00000002" + last.name[8:]))
    (wal / "00000002.history").write_text("1\t0/1500000\tno recovery target specified\n")


def _wiped(made: Restic) -> None:
    """All that prune took for unused: every pack, and the index that would name them."""
    for path in [*made.packs(), *(made.root / "index").iterdir()]:
        path.chmod(0o600)
        path.unlink()


def _smallest(made: Restic) -> Path:
    return min(made.packs(), key=lambda path: path.stat().st_size)


def _log_copied_later(sources: Sources, into: Path) -> Path:
    """The file first; then the application wrote on and its log began anew; then the log."""
    live = sources.sqlite(sources.place() / "labo.db", mode="wal")
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("pragma wal_autocheckpoint = 0")
        shutil.copy(live, into / "labo.db")
        connection.executemany(
            "insert into results (sample, comment) values (1, ?)",
            ((f"nuit {n} " + "x" * 200,) for n in range(3000)),
        )
        connection.commit()
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("update results set comment = comment || ' revu' where id % 7 = 0")
        connection.execute("delete from samples where id % 50 = 0")
        connection.commit()
        shutil.copy(live.with_name("labo.db-wal"), into / "labo.db-wal")
    return into


def _provisioned_anew(sources: Sources, into: Path) -> Path:
    place = sources.place()
    return domains.backed_up(domains.provisioned(place / "dc", people=0), into)


CASES: tuple[Case, ...] = (
    _PG.case(
        "a-whole-gzip-of-half-a-dump",
        "the server ended in mid-dump, gzip closed its stream, gzip -t says all is well:"
        f" {_GITHUB}super-productivity/super-productivity/issues/9836",
        postgresql.changed(lambda p: gzipped(cut(p, 0.6)), "plain"),
        twin=postgresql.changed(gzipped, "plain"),
        speaks="load:truncated",
        words="tronquée",
    ),
    postgresql_physical.case(
        "promoted-by-mistake",
        "the log of a promoted copy in the archive: no restore follows by default any more:"
        f" {_GITHUB}pgbackrest/pgbackrest/issues/2064",
        postgresql_physical.copied("archived", _promoted_by_mistake),
        twin=postgresql_physical.ARCHIVED,
        before=postgresql_physical.ARCHIVED,
        speaks="load:wrong_timeline",
        words="ligne de temps",
    ),
    _MY.case(
        "views-became-tables",
        f"after the restore the views were tables of MyISAM: {_GITHUB}chris2511/xca/issues/268",
        mariadb.dump("drop view current", "create table current engine=myisam as select * from"
                     " patients where seen_at > '2000-01-01'"),
        speaks="objects-lost:missing_object",
        words="manquent",
    ),
    Family(engine="sqlite", before=sqlite._WITH_LOG, twin=sqlite._WITH_LOG).case(
        "log-copied-later",
        "file and log copied one after the other, a write between, `verified: true`:"
        f" {_GITHUB}markmhendrickson/neotoma/issues/2075",
        _log_copied_later,
        speaks="open:corrupt engine-consistency:corrupt",
        words="endommag",
    ),
    firebird.case(
        "a-donor-who-is-not-there",
        "gbak says it restored, and a key could not be made active:"
        f" {_GITHUB}FirebirdSQL/firebird/issues/7465",
        firebird.changed(_donor_gone, *_GIVEN),
        twin=firebird.backup(*_GIVEN),
        speaks="load:load_refused",
        words="refusé",
    ),
    firebird.case(
        "a-procedure-that-no-longer-compiles",
        "one procedure was changed, another calls it: the restore stops half-way:"
        f" {_GITHUB}FirebirdSQL/firebird/issues/9003",
        firebird.backup(
            "create procedure inner_one as begin end",
            "create procedure outer_one as begin execute procedure inner_one; end",
            "alter procedure inner_one (n integer) as begin end",
        ),
        speaks="load:load_refused",
        words="refusé",
    ),
    samba.case(
        "provisioned-anew",
        "promoting the other controller made the domain anew, without its objects:"
        f" {_GITHUB}zentyal/zentyal/issues/1871",
        _provisioned_anew,
        speaks="rows-lost:rows_lost",
        words="moitié",
    ),
    _IN_RESTIC.case(
        "wiped-by-prune",
        "the list of snapshots failed and came back empty; prune then kept nothing:"
        f" {_GITHUB}restic/restic/issues/4612",
        repository.restic(_wiped),
        restored_by="sqlite",
        speaks="fetch:corrupt fetch:missing_object fetch:truncated select:corrupt"
        " select:missing_object",
    ),
    _IN_RESTIC.case(
        "a-tree-is-not-found",
        f"the store lost the pack with the trees: {_GITHUB}restic/restic/issues/1798",
        repository.restic(lambda made: damage(_smallest(made), "deleted")),
        restored_by="sqlite",
        speaks="fetch:corrupt fetch:missing_object fetch:truncated",
    ),
)  # fmt: skip
