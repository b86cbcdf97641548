"""From a state directory or a URL to a store that may be used."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, insert, inspect, select, text
from ulid import ULID

from backupguard.errors import Busy, StoreError
from backupguard.evidence.kinds import StoreReplaced
from backupguard.evidence.records import genesis
from backupguard.model import JOURNAL, SITE, Observation, to_us
from backupguard.store import safekeeping, sealing, summaries
from backupguard.store.core import Core
from backupguard.store.engine import (
    FILE_NAME,
    postgresql_engine,
    refuse_network_file_system,
    sqlite_engine,
    translated,
)
from backupguard.store.keys import SigningKey, key_of, signing_key
from backupguard.store.schema import (
    SCHEMA,
    alembic_version,
    chain_head,
    for_postgresql,
    metadata,
)
from backupguard.store.sql import SqlStore
from backupguard.store.summaries import zone_of

if TYPE_CHECKING:
    from backupguard.store.safekeeping import Files

Clock = Callable[[], datetime]
_Site = tuple[str, tzinfo]  # its name, its time zone

#: Any number: PostgreSQL's advisory lock under which the schema is made or migrated.
_SCHEMA_LOCK = 0x6261636B75706775


def utc_now() -> datetime:
    """Return the time of the wall clock."""
    return datetime.now(UTC)


def open_store(
    state_directory: Path,
    url: str | None = None,
    *,
    now: Clock = utc_now,
    site: str = "",
    timezone: str = "UTC",
    replace_corrupt: bool = True,
    channels: Sequence[str] = (JOURNAL,),
    progress: safekeeping.Progress = safekeeping.silent,
) -> SqlStore:
    """Open the store, making it when there is none.

    Without `url` it is `state_directory/store.sqlite3`. The signing key lies in
    `state_directory/keys/` either way. `site` is written into every record; days are counted
    in the calendar of its `timezone`. `channels` are told of new facts (`store.outbox`). A damaged
    SQLite file is set aside and a new store begun, unless `replace_corrupt` is false. `progress` is
    called again and again while a large file is examined, copied or migrated. Raises StoreError
    (network_filesystem, unreadable, newer_schema, corrupt_store, full) and Busy: store_busy, and
    second_daemon where an older file is to be migrated that somebody works with.
    """
    try:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError("unreadable", path=str(state_directory)) from error
    safekeeping.refuse_half_imported(safekeeping.Files(directory=state_directory))
    zone = zone_of(timezone)
    if url is None or url.startswith("sqlite"):
        store = _open_sqlite(
            state_directory, now, (site, zone), replace_corrupt, channels, progress
        )
    else:
        core = Core(
            engine=postgresql_engine(url), place="postgresql", now=now, site=site, zone=zone
        )
        core.channels = tuple(channels)
        try:
            _prepare(core)
            store = _finish(core, state_directory, None, None)
        except BaseException:
            core.engine.dispose()
            raise
    return store


def _open_sqlite(
    directory: Path,
    now: Clock,
    site: _Site,
    replace_corrupt: bool,
    channels: Sequence[str],
    progress: safekeeping.Progress,
) -> SqlStore:
    refuse_network_file_system(directory)
    files = safekeeping.Files(directory=directory)
    try:
        users = safekeeping.lock_file(directory / f"{FILE_NAME}.users")
    except OSError as error:
        raise StoreError("unreadable", path=str(directory)) from error
    try:
        # Alone with the file, its soundness can be judged; with others at work it is in use and fine.
        alone = safekeeping.try_exclusive(users)
        if not alone:
            fcntl.flock(users, fcntl.LOCK_SH)
        core, replaced = _sound_core(
            files, now, site, progress, alone=alone, may_replace=alone and replace_corrupt
        )
        core.channels = tuple(channels)
        if alone:
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            return _finish(core, directory, replaced, users, files)
        except BaseException:
            core.engine.dispose()
            raise
    except BaseException:
        os.close(users)
        raise


def _sound_core(
    files: Files,
    now: Clock,
    site: _Site,
    progress: safekeeping.Progress,
    *,
    alone: bool,
    may_replace: bool,
) -> tuple[Core, StoreReplaced | None]:
    def core() -> Core:
        made = Core(
            engine=_engine(files),
            place=str(files.database),
            now=now,
            site=site[0],
            zone=site[1],
            suspect=files.suspect,
        )
        try:
            _prepare(made, files, progress, alone=alone)
        except BaseException:
            made.engine.dispose()
            raise
        return made

    try:
        if may_replace and files.database.exists() and safekeeping.stopped_uncleanly(files):
            with translated(str(files.database)):
                if not safekeeping.is_sound(files.database, progress):
                    raise StoreError("corrupt_store", path=str(files.database))
            files.suspect.unlink(missing_ok=True)
        return core(), None
    except StoreError as error:
        if error.code != "corrupt_store" or not may_replace:
            raise
    replaced = safekeeping.set_aside(files, now())
    return core(), replaced


def _engine(files: Files) -> Engine:
    try:
        return sqlite_engine(files.database)
    except OSError as error:
        raise StoreError("unreadable", path=str(files.database)) from error


def _prepare(
    core: Core,
    files: Files | None = None,
    progress: safekeeping.Progress = safekeeping.silent,
    *,
    alone: bool = True,
) -> None:
    """Bring the schema to this program's, in whichever way that takes.

    A file is copied before it is migrated, and never while others work with it: an older daemon would
    go on writing what its own schema wants. All of a migration holds, or none of it.
    """
    with core.read() as connection:
        found = _version(connection)
    if found is not None and found > SCHEMA:
        raise StoreError("newer_schema", path=core.place, found=found, known=SCHEMA)
    if found == SCHEMA:
        return
    if found is not None and not alone:
        raise Busy("second_daemon", path=core.place)
    with core.write() as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _SCHEMA_LOCK})
        found = _version(connection)  # somebody may have been faster
        if found is None:
            _create(connection, core.now())
        elif found < SCHEMA:
            from backupguard.store.migrations import upgrade

            if files is not None:  # nobody else writes meanwhile
                safekeeping.copy_before(files, SCHEMA, progress)
                safekeeping.tell_progress(_driver(connection), progress)
            upgrade(connection)
            summaries.refill(connection, core.now(), core.zone)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(alembic_version.name):
        return None
    return connection.execute(select(alembic_version.c.version_num)).scalar()


def _create(connection: Connection, now: datetime) -> None:
    if connection.dialect.name == "postgresql":
        for_postgresql()
    metadata.create_all(connection)
    store_id = str(ULID.from_datetime(now))
    connection.execute(insert(alembic_version).values(version_num=SCHEMA))
    connection.execute(
        insert(chain_head).values(
            id=1, store_id=store_id, created_at=to_us(now), seq=0, hash=genesis(store_id)
        )
    )


def _finish(
    core: Core,
    directory: Path,
    replaced: StoreReplaced | None,
    users: int | None,
    files: Files | None = None,
) -> SqlStore:
    """Say in the chain what must stand at its beginning: what was replaced, which key seals it.

    A chain that names its key gets no other: whether that key lies there is asked by what seals.
    """
    with core.read() as connection:
        store_id = connection.execute(select(chain_head.c.store_id)).scalar_one()
    new = []
    if replaced is not None:
        new.append(
            Observation(
                kind="store.replaced",
                subject=SITE,
                observed_at=core.now(),
                key=f"store/{store_id}/replaced",
                data=dict(replaced),
            )
        )
    key = _named(core, directory)
    if key is None:
        key = signing_key(directory / "keys")
        new.append(
            Observation(
                kind="evidence.key-created",
                subject=SITE,
                observed_at=core.now(),
                key=f"evidence/key/{key.key_id}",
                data={
                    "key_id": key.key_id,
                    "fingerprint": key.fingerprint,
                    "public_key": key.public.hex(),
                },
            )
        )
    if new:
        core.append(new)
        key = _named(core, directory) or key  # another process may have been faster
    return SqlStore(
        core=core, store_id=store_id, key=key, directory=directory, files=files, users=users
    )


def _named(core: Core, directory: Path) -> SigningKey | None:
    """Return the key that the chain names, None where it names none."""
    with core.read() as connection:
        data = sealing.named(connection)
    if data is None:
        return None
    public = sealing.public_half(data)
    keys = directory / "keys"
    return key_of(keys, public) if public is not None else signing_key(keys)
