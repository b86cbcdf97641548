"""From every schema that was ever released: what stood in the store stands in it afterwards."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from backupguard.cli.main import main
from backupguard.errors import Busy, StoreError
from backupguard.evidence.verify import Standing, verify
from backupguard.model import SITE, Observation
from backupguard.state import import_state
from backupguard.store import open_store, safekeeping
from backupguard.store.schema import SCHEMA
from backupguard.store.sql import SqlStore

from .conftest import SetClock
from .schemas.make import HERE, JOBS, NOW, put_key

FILE = "store.sqlite3"
SPECIMENS = sorted(HERE.glob("*.sql"))
OLDER = [path for path in SPECIMENS if path.stem < SCHEMA]
Rows = dict[str, list[dict[str, Any]]]
#: Counted anew after a migration, in the site's calendar.
RECOUNTED = {"recovery_points": {"day"}, "job_summaries": {"standing", "point_days", "days"}}
specimens = pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda path: path.stem)
older = pytest.mark.parametrize("specimen", OLDER, ids=lambda path: path.stem)


def put(specimen: Path, state: Path) -> Rows:
    """Make the store of a specimen; return what stands in it."""
    put_key(state)
    with closing(sqlite3.connect(state / FILE)) as database:
        database.executescript(specimen.read_text(encoding="utf-8"))
        database.execute("PRAGMA journal_mode = WAL")
    (state / FILE).chmod(0o600)
    return rows(state / FILE)


def rows(file: Path) -> Rows:
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        return {
            name: sorted(
                (dict(row) for row in database.execute(f'SELECT * FROM "{name}"')), key=repr
            )
            for (name,) in database.execute(query).fetchall()
        }


def version(file: Path) -> str:
    return rows(file)["alembic_version"][0]["version_num"]


def assert_kept(before: Rows, after: Rows) -> None:
    """Whatever stood in a column still stands there; only what is derived may be counted anew."""
    for table, old in before.items():
        if table == "alembic_version":
            continue
        columns = set(old[0]) - RECOUNTED.get(table, set()) if old else set()
        assert len(after[table]) == len(old), table
        kept = [{name: row[name] for name in sorted(columns)} for row in after[table]]
        was = [{name: row[name] for name in sorted(columns)} for row in old]
        assert sorted(kept, key=repr) == sorted(was, key=repr), table


def assert_whole(store: SqlStore, before: Rows) -> None:
    head = before["chain_head"][0]
    assert store.store_id == head["store_id"]
    assert store.head() == (head["seq"], head["hash"])
    assert [fact.hash for fact in store.facts()] == [
        row["hash"] for row in sorted(before["facts"], key=lambda row: row["seq"])
    ]
    found = verify(
        store.records(), store.seals(), store=store.store_id, keys=[store.key.public],
        head=store.head(),
    )  # fmt: skip
    assert found.standing is not Standing.BROKEN, found.problem
    assert found.records == head["seq"]


def test_every_schema_has_its_specimen() -> None:
    """A new one is made with `python -m tests.integration.store.schemas.make`: CONTRIBUTING.md."""
    known = [f"{number:04}" for number in range(1, int(SCHEMA) + 1)]
    assert [path.stem for path in SPECIMENS] == known


@specimens
def test_a_store_of_every_schema_is_opened_and_keeps_what_it_holds(
    specimen: Path, tmp_path: Path, clock: SetClock
) -> None:
    before = put(specimen, tmp_path)
    assert before["facts"]
    assert before["recovery_points"]
    assert before["runs"]
    with closing(open_store(tmp_path, now=clock, timezone="Europe/Paris")) as store:
        assert_whole(store, before)
        assert {summary.job: summary.points for summary in store.summaries()} == {
            JOBS[0]: 11,
            JOBS[1]: 12,
        }
        # Half past eleven at night in UTC: in the site's calendar, by which a migration counts days
        # anew, that is the day after.
        newest = store.points(JOBS[1])[0].at.date().toordinal() - date(1970, 1, 1).toordinal()
        [lab] = store.summaries([JOBS[1]])
        assert lab.point_days[-1] == newest + (specimen in OLDER)
    after = rows(tmp_path / FILE)
    assert_kept(before, after)
    assert version(tmp_path / FILE) == SCHEMA
    with closing(open_store(tmp_path, now=clock)) as store:  # and goes on where it ended
        assert store.rebuild_derived() is None
        store.seal()
        assert store.head()[0] == before["chain_head"][0]["seq"]


def described(file: Path) -> dict[str, object]:
    """Return tables, their columns and their indexes, in no order that a migration could change."""
    with closing(sqlite3.connect(file)) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        tables = [name for (name,) in database.execute(query)]
        return {
            table: (
                sorted(
                    row[1:4] + row[5:] for row in database.execute(f"PRAGMA table_info({table})")
                ),
                sorted(row[1:] for row in database.execute(f"PRAGMA index_list({table})")),
            )
            for table in tables
        }


@specimens
def test_what_was_migrated_is_as_what_is_new(specimen: Path, tmp_path: Path) -> None:
    put(specimen, tmp_path / "old")
    for name in ("old", "new"):
        open_store(tmp_path / name).close()
    assert described(tmp_path / "old" / FILE) == described(tmp_path / "new" / FILE)


@older
def test_the_store_is_copied_before_it_is_migrated(specimen: Path, tmp_path: Path) -> None:
    before = put(specimen, tmp_path)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/before-0000.sqlite3").touch()
    open_store(tmp_path).close()
    [copy] = (tmp_path / "copies").iterdir()
    assert copy.name == f"before-{SCHEMA}.sqlite3"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert rows(copy) == before
    open_store(tmp_path).close()
    assert rows(copy) == before, "what is not migrated is not copied"


def test_what_a_killed_copy_left_is_removed_and_the_work_is_told(tmp_path: Path) -> None:
    put(OLDER[-1], tmp_path)
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("before-0002.77.unfinished", "store-2026-01-01.78.unfinished"):
        (copies / name).write_bytes(b"half")
    told: list[None] = []
    store = open_store(tmp_path, progress=lambda: told.append(None))
    with closing(store):
        assert told
        assert [path.suffix for path in copies.glob("before-*")] == [".sqlite3"]
        store.daily_copy()
        assert not list(copies.glob("*.unfinished"))
    told.clear()
    open_store(tmp_path, progress=lambda: told.append(None)).close()
    assert not told, "nothing was to be done"


@pytest.mark.parametrize("specimen", [OLDER[-1], SPECIMENS[-1]], ids=["older", "ours"])
def test_nothing_is_migrated_beneath_who_works_with_it(specimen: Path, tmp_path: Path) -> None:
    """An older daemon that lives on writes by its own schema, into tables that would be others."""
    before = put(specimen, tmp_path)
    living = safekeeping.lock_file(tmp_path / f"{FILE}.users")
    fcntl.flock(living, fcntl.LOCK_SH)
    try:
        if specimen in OLDER:
            with pytest.raises(Busy) as caught:
                open_store(tmp_path)
            assert caught.value.code == "second_daemon"
            assert rows(tmp_path / FILE) == before
        else:
            open_store(tmp_path).close()
    finally:
        os.close(living)
    open_store(tmp_path).close()
    assert version(tmp_path / FILE) == SCHEMA


def dies_after(statements: int, state: Path) -> int:
    """Open a store in a process that is killed after so many statements; return how it ended."""
    child = os.fork()
    if child == 0:
        left = [statements]

        @event.listens_for(Engine, "after_cursor_execute")
        def count(*_: object) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            open_store(state).close()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@older
def test_killed_at_any_statement_a_migration_was_all_or_nothing(
    specimen: Path, tmp_path: Path
) -> None:
    """Each kill falls later than the one before, in one store, until nothing is left to be killed."""
    before = put(specimen, tmp_path)
    old, killed = version(tmp_path / FILE), 0
    statements = 1
    while (code := dies_after(statements, tmp_path)) == -signal.SIGKILL:
        killed += 1
        if version(tmp_path / FILE) == old:
            assert rows(tmp_path / FILE) == before
        else:
            assert_kept(before, rows(tmp_path / FILE))
            break
        statements += 2
    assert code in {0, -signal.SIGKILL}
    assert killed > 10, "the migration was hit too seldom for this to say anything"
    with closing(open_store(tmp_path)) as store:
        assert_whole(store, before)
    assert_kept(before, rows(tmp_path / FILE))


@pytest.fixture
def no_room() -> Iterator[None]:
    """A disk on which no database may grow by a page."""

    @event.listens_for(Engine, "connect")
    def limit(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    yield
    event.remove(Engine, "connect", limit)


@older
def test_on_a_full_disk_the_old_version_stays(
    specimen: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = put(specimen, tmp_path)
    request.getfixturevalue("no_room")
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path)
    assert caught.value.code == "full"
    assert rows(tmp_path / FILE) == before


@older
def test_without_room_for_the_copy_nothing_is_migrated(
    specimen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = put(specimen, tmp_path)
    (tmp_path / "copies").touch()  # no directory can be made there
    with pytest.raises(StoreError):
        open_store(tmp_path)
    assert rows(tmp_path / FILE) == before
    (tmp_path / "copies").unlink()
    open_store(tmp_path).close()
    assert version(tmp_path / FILE) == SCHEMA


@older
def test_the_same_on_postgresql(
    specimen: Path, tmp_path: Path, clock: SetClock, database_url: Callable[[], str]
) -> None:
    """The rows of the specimen in a PostgreSQL of its schema: a dump of SQLite does not load there."""
    from sqlalchemy import MetaData, insert

    from backupguard.store.engine import postgresql_engine
    from backupguard.store.migrations import upgrade

    before = put(specimen, tmp_path)
    url = database_url()
    engine = postgresql_engine(url)
    with engine.begin() as connection:
        upgrade(connection, specimen.stem)
        old = MetaData()
        old.reflect(connection)
        for table in old.sorted_tables:
            if before[table.name] and table.name != "alembic_version":
                connection.execute(insert(table), before[table.name])
    engine.dispose()
    with closing(open_store(tmp_path, url, now=clock, timezone="Europe/Paris")) as store:
        assert_whole(store, before)
        assert {summary.points for summary in store.summaries()} == {11, 12}
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (SCHEMA,)


# -------------------------------------------------------------------------- from one version to another


def configured(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    file = place / "backupguard.toml"
    file.write_text(
        '[site]\nname = "CH"\nlanguage = "en"\n[store]\ndirectory = "state"\n'
        '[daemon]\nruntime-directory = "run"\n'
    )
    return file


@specimens
def test_a_state_exported_by_any_version_is_imported(specimen: Path, tmp_path: Path) -> None:
    import io

    from backupguard.state import archive

    source = tmp_path / "source"
    before = put(specimen, source)
    with closing(sqlite3.connect(source / FILE)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    paths = [FILE, "keys/signing.pem"]
    head = before["chain_head"][0]
    manifest = archive.Manifest(
        format=archive.FORMAT, program_version="0", exported_at=NOW.isoformat(), host="srv",
        schema=specimen.stem, store=head["store_id"], head_seq=head["seq"],
        head_hash=head["hash"].hex(), files=archive.listed(source, paths),
    )  # fmt: skip
    exported = io.BytesIO()
    archive.write(exported, manifest, [source / path for path in paths])
    exported.seek(0)
    target = tmp_path / "target"
    import_state(target, None, exported, NOW)
    with closing(open_store(target)) as store:
        assert_whole(store, before)
    assert_kept(before, rows(target / FILE))


def test_a_store_of_the_future_is_refused_in_words_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = configured(tmp_path)
    put(SPECIMENS[-1], tmp_path / "state")
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = rows(tmp_path / "state" / FILE)
    commands = (
        ["status"], ["evidence", "verify"], ["state", "export", str(tmp_path / "file")],
    )  # fmt: skip
    for command in commands:
        code = main(["--config", str(configuration), *command])
        assert code == (3 if command == ["status"] else 2), command
        said = capsys.readouterr().err
        assert "newer version of BackupGuard" in said, command
        assert "copies/before-" in said, "what to do"
    assert rows(tmp_path / "state" / FILE) == before


@older
def test_the_copy_leads_back_to_the_older_version(specimen: Path, tmp_path: Path) -> None:
    """What the refusal advises: the copy in the place of the store is the store of before."""
    before = put(specimen, tmp_path)
    open_store(tmp_path).close()
    (tmp_path / f"copies/before-{SCHEMA}.sqlite3").replace(tmp_path / FILE)
    assert rows(tmp_path / FILE) == before
    with closing(open_store(tmp_path)) as store:  # and forward again
        assert_whole(store, before)


def test_a_daemon_is_missed_where_the_store_is_a_server(
    tmp_path: Path, database_url: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    configuration, url = configured(tmp_path), database_url()
    text = configuration.read_text()
    configuration.write_text(text.replace("[store]\n", f'[store]\nurl = "{url}"\n'))
    arguments = ["--config", str(configuration), "status"]
    main(arguments)
    assert "No daemon is alive here" not in capsys.readouterr().out, "none ever was"
    data = {"program_version": "1", "host": "srv", "recovered": [], "clean": True}
    with closing(open_store(tmp_path / "state", url)) as store:
        store.append(
            [
                Observation(
                    kind="daemon.started", subject=SITE, observed_at=NOW, data=data, key="started"
                )
            ]
        )
    assert main(arguments) == 3
    assert capsys.readouterr().out.startswith("No daemon is alive here")
