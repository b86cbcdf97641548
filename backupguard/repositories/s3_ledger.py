"""What was seen of a bucket's objects and their locks, on disk: no list of objects is held in memory.

One file lies in the run's directory and goes with it; one outlives the run and remembers the locks in
compliance mode: nobody can shorten those, so a version that had one is locked at least as long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: How long a lock that was seen is believed in without asking again, in seconds.
BELIEVED_S = 28 * 86_400
_TOGETHER = 1000
_TABLES = """
CREATE TABLE objects (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, version TEXT NOT NULL, modified INTEGER NOT NULL,
  latest INTEGER NOT NULL, hidden INTEGER NOT NULL DEFAULT 0,
  mode INTEGER, until INTEGER, asked INTEGER NOT NULL DEFAULT 0);
CREATE INDEX unasked ON objects (asked, id);
CREATE TABLE needs (
  point TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (point, key)) WITHOUT ROWID;
CREATE INDEX needed ON needs (key);
"""
_REMEMBERED = """
CREATE TABLE IF NOT EXISTS kept.locks (
  key TEXT NOT NULL, version TEXT NOT NULL, until INTEGER NOT NULL, seen INTEGER NOT NULL,
  PRIMARY KEY (key, version)) WITHOUT ROWID;
"""
#: The modes of a lock from none to the strongest, as they are stored.
MODES = (None, "legal-hold", "governance", "compliance")
COMPLIANCE = MODES.index("compliance")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version, or one delete marker, of a listing. Times are seconds since 1970."""

    key: str
    version: str
    modified: int
    latest: bool
    marker: bool


@dataclass(frozen=True, slots=True)
class Locked:
    """The lock of one object: index into `MODES`, and until when (seconds since 1970).

    `missing`: there is no such version any more.
    """

    number: int
    mode: int = 0
    until: int | None = None
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """What the locks of all objects of one point come to. `until` is that of a compliance lock."""

    objects: int
    unlocked: int
    missing: int
    hidden: bool
    mode: int
    until: int | None


class Ledger:
    """The two files. Used by one thread."""

    def __init__(self, work: Path, remembered: Path, now: int) -> None:
        self._now = now
        self._work, self._remembered = work, remembered
        self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        self._work.unlink(missing_ok=True)
        try:
            return self._connected()
        except sqlite3.DatabaseError:  # what is remembered only saves requests
            self._remembered.unlink(missing_ok=True)
            self._work.unlink(missing_ok=True)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._work, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_TABLES)
            db.execute("ATTACH ? AS kept", (str(self._remembered),))
            db.execute("PRAGMA kept.synchronous = OFF")  # it only saves requests
            db.executescript(_REMEMBERED)
            db.execute("DELETE FROM kept.locks WHERE seen < ?", (self._now - BELIEVED_S,))
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close both files and remove the run's own."""
        self._db.close()
        with suppress(OSError):
            self._work.unlink(missing_ok=True)

    # ---- what there is

    def listed(self, entries: Iterable[Entry]) -> None:
        """Take in a page of a listing: of each key the newest version that is no delete marker.

        Locks that were seen lately are taken as lower bounds of what stands.
        """
        (last,) = self._db.execute("SELECT ifnull(max(id), -1) FROM objects").fetchone()
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO objects (key, version, modified, latest) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET version = excluded.version,"
            " modified = excluded.modified, latest = max(latest, excluded.latest)"
            " WHERE excluded.latest > latest OR (latest = 0 AND excluded.modified > modified)",
            ((one.key, one.version, one.modified, one.latest) for one in entries if not one.marker),
        )
        self._db.execute(
            "UPDATE objects SET mode = ?, until = kept.until, asked = 1 FROM kept.locks AS kept"
            " WHERE objects.id > ? AND kept.key = objects.key AND kept.version = objects.version"
            " AND kept.until > ?",
            (COMPLIANCE, last, self._now),
        )
        self._db.execute("COMMIT")

    def names(self, prefix: str) -> Iterator[tuple[str, bool, int]]:
        """Yield key, whether a delete marker lies over it, and when it was written."""
        rows = self._db.execute(
            "SELECT key, latest, modified FROM objects WHERE key >= ? AND key < ? ORDER BY key",
            (prefix, prefix + chr(0x10FFFF)),
        )
        for key, latest, modified in rows:
            yield key, not latest, modified

    def need(self, point: str, keys: Iterable[str]) -> None:
        """Remember that a point needs these objects."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR IGNORE INTO needs VALUES (?, ?)", ((point, key) for key in keys)
        )
        self._db.execute("COMMIT")

    def need_all(self, point: str, prefix: str) -> None:
        """Remember that a point may need any object below a prefix that stands."""
        self._db.execute(
            "INSERT OR IGNORE INTO needs SELECT ?, key FROM objects"
            " WHERE key >= ? AND key < ? AND latest",
            (point, prefix, prefix + chr(0x10FFFF)),
        )

    # ---- locks

    def listed_and_unasked(self, last: int = -1) -> Iterator[tuple[int, str, str]]:
        """Yield the objects after `last` that show and that nothing is known of, whoever needs them.

        Their numbers rise, and each is yielded once, whatever is taken in meanwhile.
        """
        return self._each(
            "SELECT id, key, version FROM objects WHERE asked = 0 AND latest AND id > ?"
            " ORDER BY id LIMIT ?",
            last,
        )

    def unasked(self, last: int = -1) -> Iterator[tuple[int, str, str]]:
        """Yield the objects after `last` that some point needs and that nothing is known of."""
        return self._each(
            "SELECT id, key, version FROM objects WHERE asked = 0 AND id > ?"
            " AND EXISTS (SELECT 1 FROM needs WHERE needs.key = objects.key) ORDER BY id LIMIT ?",
            last,
        )

    def ending_first(self, point: str) -> list[tuple[int, str, str]]:
        """Return the remembered locks of a point that end before any lock that was just read.

        None of them means that the point's earliest end is true as it stands.
        """
        return list(
            self._db.execute(
                "SELECT o.id, o.key, o.version FROM needs JOIN objects AS o USING (key)"
                " WHERE point = ? AND o.asked = 1 AND o.until < ifnull((SELECT min(f.until)"
                " FROM needs AS n JOIN objects AS f USING (key) WHERE n.point = ?"
                " AND f.asked = 2 AND f.mode = ?), 1 << 60) ORDER BY o.until, o.id LIMIT ?",
                (point, point, COMPLIANCE, _TOGETHER),
            )
        )

    def _each(self, question: str, last: int) -> Iterator[tuple[int, str, str]]:
        while rows := self._db.execute(question, (last, _TOGETHER)).fetchall():
            yield from rows
            last = rows[-1][0]

    def found(self, locks: Sequence[Locked]) -> None:
        """Take in what was answered, and remember what cannot be taken back."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "DELETE FROM objects WHERE id = ?", ((one.number,) for one in locks if one.missing)
        )
        self._db.executemany(
            "UPDATE objects SET mode = ?, until = ?, asked = 2 WHERE id = ?",
            ((one.mode, one.until, one.number) for one in locks if not one.missing),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO kept.locks SELECT key, version, until, ? FROM objects"
            " WHERE id = ? AND version <> 'null'",
            ((self._now, one.number) for one in locks if one.mode == COMPLIANCE),
        )
        self._db.execute("COMMIT")

    def forget_gone(self) -> None:
        """Forget locks of versions that are not there any more; after a whole listing only."""
        self._db.execute(
            "DELETE FROM kept.locks WHERE NOT EXISTS (SELECT 1 FROM objects AS o"
            " WHERE o.key = locks.key AND o.version = locks.version)"
        )

    def sum(self, point: str) -> Sum:
        """Return what the locks of a point's objects come to, as of now."""
        objects, missing, hidden, unlocked, mode, until = self._db.execute(
            "SELECT count(*), sum(o.id IS NULL), ifnull(max(o.latest = 0), 0),"
            " sum(o.id IS NOT NULL AND NOT (ifnull(o.mode, 0) = ? AND o.until > ?)),"
            " ifnull(min(CASE WHEN o.id IS NULL THEN NULL WHEN o.mode >= 2 AND o.until <= ? THEN 0"
            " ELSE ifnull(o.mode, 0) END), 0), min(o.until)"
            " FROM needs LEFT JOIN objects AS o USING (key) WHERE point = ?",
            (COMPLIANCE, self._now, self._now, point),
        ).fetchone()
        whole = objects > 0 and not missing and not unlocked
        return Sum(
            objects=objects,
            unlocked=unlocked or 0,
            missing=missing or 0,
            hidden=bool(hidden),
            mode=mode,
            until=until if whole else None,
        )
