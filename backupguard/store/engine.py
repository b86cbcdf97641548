"""Connections: SQLite in a file that survives kill -9, or PostgreSQL by URL; one way to fail.

SQLite runs in the driver's autocommit mode and every writing transaction is begun by us with
BEGIN IMMEDIATE: the driver's own implicit transactions start as reads, and a read that becomes a
write fails at once when another process wrote in between.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Engine,
    Join,
    Table,
    Text,
    and_,
    cast,
    create_engine,
    event,
    exc,
    func,
    literal,
    literal_column,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from backupguard.errors import Busy, StoreError
from backupguard.store.prepared import Prepared

BUSY_TIMEOUT_MS = 30_000
FILE_NAME = "store.sqlite3"

#: File systems on which SQLite's locks or its shared memory cannot be trusted.
_NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "smb3", "smbfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.rclone"}
    | {"fuse.s3fs", "fuse.davfs2", "fuse.cifs"}
)


def file_system(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that holds `path`, from the text of `mountinfo`."""
    if mounts is None:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    where = path.resolve()
    best, found = -1, "unknown"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if not right:
            continue
        place = Path(left.split()[4].replace("\\040", " "))
        # Of two mounts on one place the later line is the one on top.
        if where.is_relative_to(place) and len(place.parts) >= best:
            best, found = len(place.parts), right.split()[0]
    return found


def refuse_network_file_system(path: Path, mounts: str | None = None) -> None:
    """Raise StoreError (network_filesystem) when `path` is not on a disk of this host."""
    kind = file_system(path, mounts)
    if kind in _NETWORK:
        raise StoreError("network_filesystem", path=str(path), filesystem=kind)


def sqlite_engine(file: Path) -> Engine:
    """Return an engine on an SQLite file, made with mode 0600 when it does not exist."""
    # Never opened here once it exists: closing any descriptor of a file gives up the locks that SQLite
    # holds on it in this process (fcntl(2)), and whoever closes next would remove a log in use.
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if not os.access(file, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
    engine = create_engine(
        f"sqlite:///{file}",
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000},
        hide_parameters=True,  # an error in the log names no value of a record
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("only_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def postgresql_engine(url: str) -> Engine:
    """Return an engine on a PostgreSQL database, through psycopg."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        url = f"postgresql+psycopg://{rest}"
    return create_engine(url, pool_pre_ping=True, hide_parameters=True)


_SQLITE_CODES: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "corrupt_store",
    sqlite3.SQLITE_NOTADB: "corrupt_store",
    sqlite3.SQLITE_CANTOPEN: "unreadable",
    sqlite3.SQLITE_READONLY: "unreadable",
    sqlite3.SQLITE_PERM: "unreadable",
    sqlite3.SQLITE_IOERR: "unreadable",
}


def classified(error: BaseException, place: str) -> StoreError | Busy | None:
    """Return the error of ours that a driver's error stands for, or None for a bug."""
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        number = getattr(original, "sqlite_errorcode", None)
        if number is None:
            return None
        # The lower byte is the class; SQLITE_IOERR_WRITE on a full disk comes as SQLITE_FULL.
        primary = number & 0xFF
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Busy("store_busy", path=place)
        code = _SQLITE_CODES.get(primary)
        return StoreError(code, path=place) if code else None
    state = getattr(original, "sqlstate", None) or ""
    if state[:3] == "531":  # 53100 disk_full
        return StoreError("full", path=place)
    if state[:2] == "XX":  # data_corrupted, index_corrupted
        return StoreError("corrupt_store", path=place)
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return StoreError("unreadable", path=place)
    return None


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what a driver raises into errors of ours; the driver's own stays in `__cause__`."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        ours = classified(error, place)
        if ours is None:
            raise
        raise ours from error


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
    update: Sequence[str],
) -> None:
    """Insert rows; where `keys` exist already set the columns `update` (none: leave the old row)."""
    if rows:
        columns = tuple(rows[0])
        _upsert(table, columns, tuple(keys), tuple(update)).run(connection, *rows)


@cache
def _upsert(
    table: Table, columns: tuple[str, ...], keys: tuple[str, ...], update: tuple[str, ...]
) -> Prepared:
    def make(dialect: str) -> Any:
        made: Any
        if dialect == "sqlite":
            made = sqlite_insert(table)
        else:  # a sixth of what importing the library costs, for those who have it
            from sqlalchemy.dialects.postgresql import insert as postgresql_insert

            made = postgresql_insert(table)
        if update:
            made = made.on_conflict_do_update(
                index_elements=list(keys), set_={name: made.excluded[name] for name in update}
            )
        else:
            made = made.on_conflict_do_nothing(index_elements=list(keys))
        return made

    return Prepared(make, columns)


def matching(
    connection: Connection, table: Table, repository: str, names: Iterable[tuple[str, str]]
) -> Join:
    """Return `table` joined from many (job, native_id) of a repository, one index search for each.

    All names go in one parameter, so that the statement is the same however many there are. A row of
    a table comes out for each name, all NULL where there is none. An `IN` of pairs would be read by
    SQLite as all rows of the repository.
    """
    document = literal(json.dumps(list(names)), Text)
    if connection.dialect.name == "sqlite":
        each = func.json_each(document).table_valued("value", name="named")
        job: ColumnElement[Any] = func.json_extract(each.c.value, "$[0]")
        native_id: ColumnElement[Any] = func.json_extract(each.c.value, "$[1]")
    else:
        each = func.json_array_elements(cast(document, JSON)).table_valued("value", name="named")
        job = each.c.value.op("->>")(literal_column("0"))
        native_id = each.c.value.op("->>")(literal_column("1"))
    same = and_(
        table.c.repository == repository, table.c.job == job, table.c.native_id == native_id
    )
    return each.outerjoin(table, same)
