"""Which packs and indexes a snapshot of a restic repository needs, from its metadata alone.

restic has no verb that says so. An index tells which pack holds which blob, and a tree which blobs its
files and directories are; both are read through restic (`cat index`, `cat blob` of a tree) and neither
ever changes, since its name is the hash of what is in it: what was read once is remembered, as hashes
without any name of a file. So a later look costs a call per new index and per new directory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backupguard.errors import BackupGuardError, Cancelled, Interrupted
from backupguard.repositories.restic_calls import Call, ResticProgram

#: Calls of restic per opening, about half a second each; what is left is read another time.
MOST_CALLS = 300
#: A tree or an index beyond this is not taken into memory.
MOST_BYTES = 64 << 20
#: So many blobs are kept track of; beyond it all packs count as needed by each point.
MOST_BLOBS = 5_000_000
_TABLES = """
CREATE TABLE IF NOT EXISTS indexes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS packs (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS blobs (
  id BLOB PRIMARY KEY, pack INTEGER NOT NULL, ind INTEGER NOT NULL, tree INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trees (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (
  tree BLOB NOT NULL, blob BLOB NOT NULL, is_tree INTEGER NOT NULL, PRIMARY KEY (tree, blob)
) WITHOUT ROWID;
"""
#: All trees below those in `roots`, themselves included, and all blobs of them.
_VIEWS = """
CREATE TEMP TABLE roots (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP VIEW walk AS WITH RECURSIVE found (id) AS (
  SELECT id FROM roots UNION SELECT blob FROM contents JOIN found ON tree = found.id WHERE is_tree)
  SELECT id FROM found;
CREATE TEMP VIEW used AS
  SELECT id FROM walk UNION SELECT blob FROM contents WHERE tree IN (SELECT id FROM walk);
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """The keys of what a snapshot needs, below the repository's prefix; `missing` blobs nobody has.

    `known` is False where that could not be found out.
    """

    keys: Iterable[str]
    missing: int
    known: bool


class ResticNeeds:
    """What snapshots need, remembered between runs in a file of `program.context.remember`."""

    def __init__(self, program: ResticProgram) -> None:
        self._program = program
        self._path = program.context.remember(f"restic-needs-{program.identifier}") / "needs.sqlite"
        try:
            self._db = self._opened()
        except sqlite3.DatabaseError:  # it only saves calls
            self._path.unlink(missing_ok=True)
            self._db = self._opened()
        self._calls = 0

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = MEMORY")
            db.executescript(_TABLES + _VIEWS)
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- indexes

    def read_indexes(self, names: Iterable[str]) -> bool:
        """Read the indexes that are new, all of them when one has gone; tell whether all are known."""
        standing = set(names)
        known = {name for (name,) in self._db.execute("SELECT name FROM indexes")}
        if known - standing:
            # After a prune blobs lie elsewhere, and one that stood in two indexes was noted once.
            with self._changes():
                for table in ("blobs", "packs", "indexes"):
                    self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - the names above
            known = set()
        new = sorted(standing - known)
        return all(self._read_index(name) for name in new)

    def _read_index(self, name: str) -> bool:
        found = self._cat("index", name)
        if not isinstance(found, dict) or self._too_many():
            return False
        with self._changes():
            self._db.execute("INSERT OR IGNORE INTO indexes (name) VALUES (?)", (name,))
            (index,) = self._db.execute("SELECT id FROM indexes WHERE name = ?", (name,)).fetchone()
            packs = found.get("packs") or ()
            self._db.executemany(
                "INSERT OR IGNORE INTO packs (name) VALUES (?)",
                ((bytes.fromhex(pack["id"]),) for pack in packs),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO blobs SELECT ?, id, ?, ? FROM packs WHERE name = ?",
                (
                    (bytes.fromhex(blob["id"]), index, blob["type"] == "tree", packed)
                    for pack in packs
                    for packed in [bytes.fromhex(pack["id"])]
                    for blob in pack.get("blobs") or ()
                ),
            )
        return True

    def _too_many(self) -> bool:
        (count,) = self._db.execute("SELECT count(*) FROM blobs").fetchone()
        return int(count) > MOST_BLOBS

    # ---- trees

    def needs(self, tree: str) -> Needs:
        """Return what the snapshot with this tree needs, itself, configuration and keys apart."""
        root = bytes.fromhex(tree)
        self._from((root,))
        if not self._walked(root):
            return Needs((), 0, known=False)
        (missing,) = self._db.execute(
            "SELECT count(*) FROM used WHERE id NOT IN (SELECT id FROM blobs)"
        ).fetchone()
        return Needs(self._keys(), missing, known=True)

    def _from(self, roots: Iterable[bytes]) -> None:
        self._db.execute("DELETE FROM roots")
        self._db.executemany("INSERT OR IGNORE INTO roots VALUES (?)", ((one,) for one in roots))

    def _keys(self) -> Iterator[str]:
        """Yield the keys of packs and indexes; before `needs` is called again."""
        for (name,) in self._db.execute(
            "SELECT name FROM packs WHERE id IN (SELECT pack FROM used JOIN blobs USING (id))"
        ):
            yield f"data/{name.hex()[:2]}/{name.hex()}"
        for (name,) in self._db.execute(
            "SELECT name FROM indexes WHERE id IN (SELECT ind FROM used JOIN blobs USING (id))"
        ):
            yield f"index/{name}"

    def _walked(self, root: bytes) -> bool:
        """Read the trees that are new; tell whether all are known now."""
        while True:
            new = self._db.execute(
                "SELECT id FROM walk WHERE id NOT IN (SELECT id FROM trees)"
                " AND id IN (SELECT id FROM blobs WHERE tree) LIMIT 100"
            ).fetchall()
            if not new:
                return self._is_known(root)
            if not all(self._read_tree(one) for (one,) in new):
                return False

    def _is_known(self, root: bytes) -> bool:
        """Tell whether a tree was read, or no index has it: then it is missing, and that is known."""
        return bool(
            self._db.execute(
                "SELECT ? IN (SELECT id FROM trees) OR ? NOT IN (SELECT id FROM blobs)",
                (root, root),
            ).fetchone()[0]
        )

    def _read_tree(self, tree: bytes) -> bool:
        found = self._cat("blob", tree.hex())
        if not isinstance(found, dict):
            return False
        with self._changes():
            for node in found.get("nodes") or ():
                below = node.get("subtree")
                rows = [(tree, bytes.fromhex(below), True)] if below else []
                rows += [(tree, bytes.fromhex(one), False) for one in node.get("content") or ()]
                self._db.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?, ?)", rows)
            self._db.execute("INSERT OR IGNORE INTO trees VALUES (?)", (tree,))
        return True

    def keep(self, trees: Iterable[str]) -> None:
        """Forget the trees that none of these snapshots has: they were of older points."""
        self._from(bytes.fromhex(tree) for tree in trees)
        with self._changes():
            self._db.execute("DELETE FROM trees WHERE id NOT IN (SELECT id FROM walk)")
            self._db.execute(
                "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM trees WHERE id = tree)"
            )

    # ---- restic

    def _cat(self, kind: str, name: str) -> Any:
        """Return what restic prints of an object; None where it does not, or after too many calls."""
        program = self._program
        if self._calls >= MOST_CALLS:
            return None
        self._calls += 1
        sink = program.context.work / f"needs-{program.identifier}.json"
        sink.unlink(missing_ok=True)
        try:
            done = program.run(
                Call(
                    verb="cat",
                    arguments=(kind, name),
                    sink=sink,
                    timeout_s=int(program.settings.refresh_timeout.total_seconds()),
                )
            )
            if done.returncode != 0 or sink.stat().st_size > MOST_BYTES:
                return None
            return json.loads(sink.read_bytes())
        except (Cancelled, Interrupted):
            raise
        except (BackupGuardError, OSError, ValueError):
            return None
        finally:
            with suppress(OSError):
                sink.unlink(missing_ok=True)

    def _changes(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """All of a block or nothing of it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
