"""Catalogues that a real Bacula 9.6 wrote, in SQLite and in PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard.contracts import Capability, JobRuns, JobSelector, SecretReference
from backupguard.errors import (
    AccessRefused,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.evidence.kinds import check_payload
from backupguard.model import Listing, Observation, PointKind, PointState
from backupguard.repositories import bareos_access, bareos_sql
from backupguard.repositories.bareos import BAREOS
from backupguard.repositories.bareos_settings import BareosSettings
from backupguard.testing import TestContext
from backupguard.testing.contexts import TestRepositories
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from probes.looking import look
from tests.integration.repositories import bacula_maker
from tests.postgres import Cluster, start_cluster

DPI = JobSelector(job="dpi.nightly", application="dpi", name="dpi-nightly", host="srv-dpi-fd")
FAILING = JobSelector(job="dpi.failing", application="dpi", name="failing")
EMPTY = JobSelector(job="dpi.empty", application="dpi", name="empty")
LAB = JobSelector(job="lab.nightly", application="lab", name="lab-nightly")
ALL = (DPI, FAILING, EMPTY, LAB)

READER = "backupguard"
GRANTS = f"""
CREATE ROLE {READER} LOGIN PASSWORD 'read: only\\';
GRANT SELECT ON job, client, fileset, pool, jobmedia, media, version TO {READER};
"""


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite catalogue after a full, an incremental, a failed and an empty job, and a copy."""
    work = tmp_path_factory.mktemp("bacula") / "w"
    work.mkdir()
    file = work / "bacula.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(bacula_maker.schema("sqlite3"))
    connection.close()
    bacula = bacula_maker.start(work, 'dbname = "bacula"; dbuser = "x"; dbpassword = ""', "sqlite3")
    try:
        (bacula.source / "a").write_text("a" * 10_000)
        bacula.run_all("dpi-nightly", "failing", "empty")
        (bacula.source / "b").write_text("b" * 10_000)
        bacula.run_all("dpi-nightly", "lab-nightly")
        bacula.run_all("copy-offsite")
        (bacula.source / "c").write_text("c" * 10_000)
        bacula.run_all("dpi-nightly", level="Differential")
    finally:
        bacula.stop()
    kept = tmp_path_factory.mktemp("catalogue") / "bacula.db"
    shutil.copy(file, kept)
    return kept


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = start_cluster(tmp_path_factory.mktemp("pg") / "data")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def in_postgresql(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Cluster:
    """The same jobs run again against a director whose catalogue is in PostgreSQL."""
    cluster.run("createdb", "-T", "template0", "-E", "SQL_ASCII", "--locale=C", "bacula")
    sql(cluster, bacula_maker.schema("postgresql") + GRANTS)
    work = tmp_path_factory.mktemp("bacula-pg") / "w"
    catalogue = (
        f'dbname = "bacula"; dbuser = "hospital"; dbpassword = ""; DB Address = "{cluster.socket}"'
    )
    bacula = bacula_maker.start(work, catalogue, "postgresql")
    try:
        (bacula.source / "a").write_text("a" * 10_000)
        bacula.run_all("dpi-nightly", "failing")
        bacula.run_all("dpi-nightly")
    finally:
        bacula.stop()
    return cluster


def sql(cluster: Cluster, statements: str, database: str = "bacula") -> str:
    done = cluster.run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements)
    return done.stdout.decode()


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A directory with a catalogue that a test may change."""
    directory = tmp_path / "catalogue"
    directory.mkdir()
    shutil.copy(written, directory / "bacula.db")
    return directory


def in_file(root: Path, **more: object) -> BareosSettings:
    return BareosSettings(
        **{"type": "bareos", "path": root / "bacula.db", "timezone": "UTC", **more}
    )


def change(root: Path, *statements: str) -> None:
    with sqlite3.connect(root / "bacula.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def listed(settings: BareosSettings, here: TestContext, jobs=ALL):
    with BAREOS.open("tapes", settings, here) as repository:
        return list(repository.points(jobs))


def of(points, job: JobSelector):
    return [point for point in points if point.job == job.job]


class TestInAFile(RepositoryContract):
    @pytest.fixture
    def case(self, root: Path, here: TestContext) -> RepositoryCase:
        return RepositoryCase(
            kind=BAREOS, root=root, settings_at=in_file, jobs=(DPI, FAILING), context=here, files=0
        )


def test_what_bacula_wrote_is_what_is_told(root: Path, here: TestContext) -> None:
    points = listed(in_file(root), here)

    originals = [point for point in of(points, DPI) if "type" not in point.extra]
    assert [(p.kind, p.needs) for p in originals] == [
        (PointKind.FULL, ()),
        (PointKind.INCREMENTAL, ("1",)),
        (PointKind.DIFFERENTIAL, ("1",)),
    ]
    full = originals[0]
    assert full.state is PointState.COMPLETE
    assert (full.files, full.bytes, full.source_host) == (2, 10_000, "srv-dpi-fd")
    assert full.extra["pool"] == "Daily"
    assert full.extra["volume_names"].startswith("Daily-")
    assert full.extra["media"] == "File"
    assert full.extra["expires"] > full.at.timestamp() + 29 * 86400
    assert abs(datetime.now(UTC) - full.at) < timedelta(hours=1)
    assert full.at <= full.ended_at


def test_a_copy_is_a_copy_of_its_original(root: Path, here: TestContext) -> None:
    points = of(listed(in_file(root), here), DPI)

    copies = [point for point in points if point.extra.get("type") == "C"]
    originals = {point.content_id: point for point in points if "type" not in point.extra}
    assert len(copies) == 2
    for copy in copies:
        assert copy.at == originals[copy.content_id].at
        assert copy.extra["pool"] == "Offsite"
        assert "expires" not in copy.extra
    by_pool = JobSelector(
        job="dpi.offsite", application="dpi", name="dpi-nightly", tags=("Offsite",)
    )
    assert {p.native_id for p in listed(in_file(root), here, [by_pool])} == {
        copy.native_id for copy in copies
    }


def test_a_failed_run_and_one_without_files_are_told_apart(root: Path, here: TestContext) -> None:
    points = listed(in_file(root), here)

    assert [point.state for point in of(points, FAILING)] == [PointState.FAILED]
    (empty,) = of(points, EMPTY)  # Bacula itself ends it with "T" and one error
    assert (empty.state, empty.files, empty.bytes) == (PointState.WARNING, 0, 0)
    (sound,) = of(points, LAB)
    assert sound.state is PointState.COMPLETE
    assert sound.files > 0


def test_runs_say_what_became_of_each(root: Path, here: TestContext) -> None:
    with BAREOS.open("tapes", in_file(root), here) as repository:
        assert Capability.RUNS in repository.capabilities
        list(repository.points(ALL))
        list(repository.points([LAB]))  # asked for again, alone: the runs of the others still count
        runs = list(repository.runs(datetime.now(UTC) - timedelta(days=1)))
        later = list(repository.runs(datetime.now(UTC) + timedelta(hours=1)))
    assert {(run.job, run.state) for run in runs} == {
        ("dpi.nightly", "complete"),
        ("dpi.failing", "failed"),
        ("dpi.empty", "warning"),
        ("lab.nightly", "complete"),
    }
    assert len(runs) == 6  # without the copies, which are no backup of the client
    assert later == []


@pytest.mark.parametrize("status", ["Purged", "Recycle"])
def test_a_recycled_volume_takes_its_points_and_what_stands_on_them(
    root: Path, here: TestContext, status: str
) -> None:
    change(
        root,
        "DELETE FROM Job WHERE Type = 'C'",
        f"UPDATE Media SET VolStatus = '{status}' WHERE MediaId = "
        "(SELECT MediaId FROM JobMedia WHERE JobId = 1)",
    )

    points = of(listed(in_file(root), here), DPI)

    assert [(p.kind, p.state, p.extra["chain"]) for p in points] == [
        (PointKind.INCREMENTAL, PointState.FAILED, "broken"),
        (PointKind.DIFFERENTIAL, PointState.FAILED, "broken"),
    ]


def test_a_deleted_volume_takes_its_points(root: Path, here: TestContext) -> None:
    change(root, "DELETE FROM JobMedia WHERE JobId = 4")

    assert "4" not in {point.native_id for point in listed(in_file(root), here)}


def test_a_missing_full_backup_breaks_what_stands_on_it(root: Path, here: TestContext) -> None:
    change(root, "DELETE FROM Job WHERE JobId = 1 OR Type = 'C'")

    points = of(listed(in_file(root), here), DPI)

    assert {point.state for point in points} == {PointState.FAILED}


@pytest.mark.parametrize("status", ["Error", "Disabled"])
def test_a_volume_with_errors_is_named(root: Path, here: TestContext, status: str) -> None:
    change(root, f"UPDATE Media SET VolStatus = '{status}' WHERE MediaId = 1")

    broken = {p.native_id for p in listed(in_file(root), here) if "volumes_broken" in p.extra}

    assert broken == {"1"}


def test_a_running_job_is_no_point_to_rely_on(root: Path, here: TestContext) -> None:
    change(
        root,
        "UPDATE Job SET JobStatus = 'R', EndTime = NULL, JobTDate = 0, JobBytes = 0 WHERE JobId = 2",
    )

    point = next(p for p in listed(in_file(root), here) if p.native_id == "2")

    assert point.state is PointState.RUNNING
    assert point.ended_at is None


def test_changes_are_the_new_ones_and_the_counts_are_the_servers(
    root: Path, here: TestContext
) -> None:
    with BAREOS.open("tapes", in_file(root), here) as repository:
        first = repository.changes(ALL, None)
        everything = list(first.points)
        assert first.complete
        assert everything == list(repository.points(ALL))
        assert first.standing == {job.job: len(of(everything, job)) for job in ALL}
        nothing = repository.changes(ALL, first.mark)
        assert list(nothing.points) == []
        assert not nothing.complete
        assert nothing.standing == first.standing
        assert nothing.mark == first.mark
    change(
        root,
        "INSERT INTO Job SELECT 100, Job, Name, Type, 'I', ClientId, 'R', SchedTime,"
        " '2099-01-02 03:04:05', NULL, NULL, 0, VolSessionId, VolSessionTime, 0, 0, ReadBytes, 0, 0,"
        " PoolId, FileSetId, 0, 0, 0, 0, 0, Comment, FileTable FROM Job WHERE JobId = 4",
    )
    with BAREOS.open("tapes", in_file(root), here) as repository:
        started = repository.changes(ALL, first.mark)
        assert [(p.native_id, p.state) for p in started.points] == [("100", PointState.RUNNING)]
    change(root, "UPDATE Job SET JobStatus = 'T' WHERE JobId = 100")
    with BAREOS.open("tapes", in_file(root), here) as repository:
        ended = repository.changes(ALL, started.mark)
        (point,) = ended.points
        assert (point.native_id, point.state) == ("100", PointState.COMPLETE)
        assert point == next(p for p in repository.points(ALL) if p.native_id == "100")
        assert ended.standing["dpi.nightly"] == first.standing["dpi.nightly"] + 1
        assert list(repository.changes(ALL, ended.mark).points) == []


@pytest.mark.parametrize("mark", ["", "nonsense", "[]", '{"newest": null}'])
def test_a_mark_that_says_nothing_is_as_none(root: Path, here: TestContext, mark: str) -> None:
    with BAREOS.open("tapes", in_file(root), here) as repository:
        assert repository.changes(ALL, mark).complete


def test_the_state_of_a_file_names_schema_and_rights(root: Path, here: TestContext) -> None:
    with BAREOS.open("tapes", in_file(root), here) as repository:
        state = repository.inspect()
    assert state.tool == "bacula"
    assert state.format_version == "16"
    assert state.warnings == ("administrator_credential",)  # this user may write to the file
    (root / "bacula.db").chmod(0o444)
    with BAREOS.open("tapes", in_file(root), here) as repository:
        assert repository.inspect().warnings == ()


@pytest.mark.parametrize(
    ("version", "tool"), [(12, "bacula"), (1026, "bacula"), (2171, "bareos"), (2240, "bareos")]
)
def test_bareos_is_known_by_its_schema(
    root: Path, here: TestContext, version: int, tool: str
) -> None:
    change(root, f"UPDATE Version SET VersionId = {version}")
    with BAREOS.open("tapes", in_file(root), here) as repository:
        assert repository.inspect().tool == tool


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Version SET VersionId = 3100",
        "DELETE FROM Version",
        "DROP TABLE Version",
        "DROP TABLE JobMedia",
    ],
)
def test_an_unknown_schema_is_neither_empty_nor_a_defect(
    root: Path, here: TestContext, statement: str
) -> None:
    change(root, statement)
    with pytest.raises(MissingMeans) as caught:
        listed(in_file(root), here)
    assert caught.value.code == "version_unsupported"


def test_rows_of_nulls_and_foreign_bytes_lose_nothing(root: Path, here: TestContext) -> None:
    change(
        root,
        "UPDATE Job SET JobFiles = NULL, JobBytes = NULL, JobErrors = NULL, PriorJobId = NULL,"
        " PoolId = NULL WHERE JobId = 1",
        "UPDATE FileSet SET FileSet = CAST(X'E9E9' AS TEXT) WHERE FileSetId = 1",
    )
    point = next(p for p in listed(in_file(root), here) if p.native_id == "1")
    assert (point.files, point.bytes, point.state) == (None, None, PointState.COMPLETE)
    assert point.extra["fileset"] == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_row_without_any_time_is_not_understood(root: Path, here: TestContext) -> None:
    change(root, "UPDATE Job SET SchedTime = 0, StartTime = NULL, EndTime = '0000-00-00 00:00:00'")
    with pytest.raises(Misunderstood):
        listed(in_file(root), here)


def test_a_file_that_is_no_catalogue_accuses_nobody(root: Path, here: TestContext) -> None:
    (root / "bacula.db").write_bytes(b"not SQLite at all" * 100)
    with pytest.raises(Misunderstood):
        listed(in_file(root), here)


def test_a_journal_that_was_left_is_not_rolled_back(root: Path, here: TestContext) -> None:
    """A director that died in the midst of writing: reading would mean repairing."""
    script = (
        "import sqlite3, os; c = sqlite3.connect('bacula.db', isolation_level=None);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN');"
        'c.execute("UPDATE Job SET Comment = hex(randomblob(20000))"); os._exit(9)'
    )
    subprocess.run(["/usr/bin/python3", "-c", script], cwd=root, check=False)
    assert (root / "bacula.db-journal").exists()
    (root / "bacula.db").chmod(0o444)
    root.chmod(0o555)
    try:
        with pytest.raises(Changing):
            listed(in_file(root), here)
    finally:
        root.chmod(0o755)


def test_a_reader_never_makes_files_beside_a_catalogue_with_a_log(
    root: Path, here: TestContext
) -> None:
    change(root, "PRAGMA journal_mode = WAL")
    assert len(listed(in_file(root), here)) == 8
    assert [path.name for path in root.iterdir()] == ["bacula.db"]


def test_nobody_is_kept_waiting_by_a_writer_for_ever(
    root: Path, here: TestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(
        bareos_access.sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.1})
    )
    writer = connect(root / "bacula.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unreachable) as caught:
            listed(in_file(root), here)
    finally:
        writer.close()
    assert caught.value.code == "timeout"


def test_autumn_nights_are_told_apart(root: Path, here: TestContext) -> None:
    """02:30 exists twice on 25 October 2026 in Paris; JobTDate knows which."""
    first, second = 1792888200, 1792891800
    for job, end in ((1, first), (2, second)):
        change(
            root,
            "UPDATE Job SET StartTime = '2026-10-25 02:10:00', EndTime = '2026-10-25 02:30:00',"
            f" JobTDate = {end} WHERE JobId = {job}",
        )
    points = {p.native_id: p for p in listed(in_file(root, timezone="Europe/Paris"), here)}
    assert points["1"].at.timestamp() == first - 1200
    assert points["2"].at.timestamp() == second - 1200
    assert points["2"].ended_at.timestamp() == second


# ---- PostgreSQL


def in_database(cluster: Cluster, here: TestContext, **more: object) -> BareosSettings:
    secret = here.cache / "password"
    secret.write_bytes(b"read: only\\\n")
    return BareosSettings(
        **{
            "type": "bareos",
            "database": "bacula",
            "host": str(cluster.socket),
            "user": READER,
            "timezone": "UTC",
            "credentials": {"reader": SecretReference(file=secret)},
            **more,
        }
    )


class TestInPostgresql(RepositoryContract):
    @pytest.fixture
    def case(self, in_postgresql: Cluster, here: TestContext) -> RepositoryCase:
        return RepositoryCase(
            kind=BAREOS,
            root=in_postgresql.socket,
            settings_at=lambda root: in_database(in_postgresql, here, host=str(root)),
            jobs=(DPI, FAILING),
            context=here,
            files=0,
        )

    @pytest.fixture
    def copy(self, case: RepositoryCase) -> Path:
        """The server itself: what forbids writing there is the role."""
        return case.root


def test_the_least_role_reads_all_and_can_write_nothing(
    in_postgresql: Cluster, here: TestContext
) -> None:
    before = sql(in_postgresql, "SELECT * FROM Job ORDER BY 1; SELECT * FROM Media ORDER BY 1")
    with BAREOS.open("tapes", in_database(in_postgresql, here), here) as repository:
        points = list(repository.points(ALL))
        state = repository.inspect()
        changes = repository.changes(ALL, None)
        assert list(changes.points) == points
        assert len(list(repository.runs(datetime.now(UTC) - timedelta(days=1)))) == len(points)
    assert state.tool == "bacula"
    assert "PostgreSQL 15" in state.tool_version
    assert state.warnings == ()
    assert changes.standing["dpi.nightly"] == len(of(points, DPI)) == 2
    assert [p.needs for p in of(points, DPI)] == [(), ("1",)]
    assert [p.state for p in of(points, FAILING)] == [PointState.FAILED]
    assert (
        sql(in_postgresql, "SELECT * FROM Job ORDER BY 1; SELECT * FROM Media ORDER BY 1") == before
    )


def test_even_an_administrator_is_held_to_reading(
    in_postgresql: Cluster, here: TestContext
) -> None:
    settings = in_database(in_postgresql, here, user="hospital")
    catalogue = bareos_access.PostgresqlCatalogue("tapes", settings, here)
    with BAREOS.open("tapes", settings, here) as repository:
        assert repository.inspect().warnings == ("administrator_credential",)
    done = catalogue._run("DELETE FROM Job", here.work / "out")
    assert done.returncode == 1
    assert b"25006" in done.stderr  # read_only_sql_transaction


def test_the_table_that_may_not_be_read_is_named(in_postgresql: Cluster, here: TestContext) -> None:
    sql(in_postgresql, f"REVOKE SELECT ON jobmedia FROM {READER}")
    try:
        with BAREOS.open("tapes", in_database(in_postgresql, here), here) as repository:
            for act in (repository.inspect, lambda: list(repository.points(ALL))):
                with pytest.raises(AccessRefused) as caught:
                    act()
                assert caught.value.code == "permission"
                assert caught.value.message.values["table"] == "jobmedia"
                assert "GRANT SELECT ON jobmedia" in caught.value.remedy.values["statement"]
    finally:
        sql(in_postgresql, f"GRANT SELECT ON jobmedia TO {READER}")


@pytest.mark.parametrize(
    ("changed", "cls", "code"),
    [
        ({"database": "absent"}, Unreachable, "not_found"),
        ({"user": "nobody-of-that-name"}, AccessRefused, "authentication"),
        ({"host": "127.0.0.1", "port": 1}, Unreachable, "refused"),
        ({"host": "no-such-host.invalid"}, Unreachable, "dns"),
        ({"database": "postgres"}, MissingMeans, "version_unsupported"),
    ],
    ids=["database", "role", "port", "host", "schema"],
)
def test_trouble_is_named(
    in_postgresql: Cluster, here: TestContext, changed: dict, cls: type, code: str
) -> None:
    with (
        BAREOS.open("tapes", in_database(in_postgresql, here, **changed), here) as repository,
        pytest.raises(cls) as caught,
    ):
        list(repository.points(ALL))
    assert caught.value.code == code
    assert not list(here.work.glob("*.jsonl"))


def test_a_hung_statement_ends(in_postgresql: Cluster, here: TestContext) -> None:
    settings = in_database(in_postgresql, here, refresh_timeout=timedelta(seconds=1))
    catalogue = bareos_access.PostgresqlCatalogue("tapes", settings, here)
    with pytest.raises(Unreachable) as caught:
        list(catalogue.rows("SELECT pg_sleep(30) AS id"))
    assert caught.value.code == "timeout"


def test_names_are_data(root: Path, here: TestContext) -> None:
    hostile = JobSelector(job="x.y", application="x", name="x'); DROP TABLE Job; --")
    assert listed(in_file(root), here, [hostile]) == []
    assert len(listed(in_file(root), here)) == 8


def test_no_other_statement_can_be_asked(root: Path, here: TestContext) -> None:
    catalogue = bareos_access.SqliteCatalogue("t", in_file(root), root / "bacula.db", here)
    for statement in ("DELETE FROM Job", "SELECT 1; DELETE FROM Job", "PRAGMA journal_mode = WAL"):
        with pytest.raises(ValueError):
            list(catalogue.rows(statement))
    assert bareos_sql.literal("d'Arc") == "'d''Arc'"


def test_many_rows_take_little_memory(root: Path, here: TestContext) -> None:
    import tracemalloc

    change(
        root,
        "INSERT INTO Job (JobId, Job, Name, Type, Level, ClientId, JobStatus, SchedTime, StartTime,"
        " EndTime, JobTDate, JobFiles, JobBytes, JobErrors, PoolId, FileSetId, PriorJobId,"
        " PurgedFiles) WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 5999) SELECT i, 'j', 'many', 'B', 'F', 1, 'T',"
        " datetime(1700000000 + i * 60, 'unixepoch'), datetime(1700000000 + i * 60, 'unixepoch'),"
        " datetime(1700000030 + i * 60, 'unixepoch'), 1700000030 + i * 60, 1, 0, 0, 1, 1, 0, 0 FROM n",
    )
    many = JobSelector(job="m.m", application="m", name="many")
    with BAREOS.open("tapes", in_file(root), here) as repository:
        tracemalloc.start()
        count = sum(1 for _ in repository.points([many]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 5_000
    assert peak < 3 << 20


def test_the_inventory_goes_on_from_its_mark_and_records_what_is_wrong(
    root: Path, here: TestContext
) -> None:
    repositories = TestRepositories(context=here, entries={"tapes": (BAREOS, in_file(root), ALL)})
    seen = look("tapes", repositories, here)
    (listing,) = [one for one in seen if isinstance(one, Listing)]
    (runs,) = [one for one in seen if isinstance(one, JobRuns)]
    (inspected,) = [one for one in seen if isinstance(one, Observation)]
    assert len(list(listing.points)) == 8
    assert not listing.partial
    assert len(runs.runs) == 6
    assert inspected.data["warnings"] == ["administrator_credential"]
    check_payload("repository.inspected", 1, inspected.data)
