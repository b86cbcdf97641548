"""SQL Server's history, out of a stand-in: a live server was never seen."""

from __future__ import annotations

import sqlite3
import ssl
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytds
import pytest

from backupguard.contracts import JobSelector, SecretReference
from backupguard.errors import AccessRefused, MissingMeans, Misunderstood, Unreachable
from backupguard.model import PointKind, PointState
from backupguard.repositories import mssql_access
from backupguard.repositories.mssql import MSSQL
from backupguard.repositories.mssql_settings import MssqlSettings
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.fake_servers import Server

DPI = JobSelector(job="dpi.full", application="dpi", name="DPI")
SCHEMA = """
CREATE TABLE backupset (backup_set_id INTEGER PRIMARY KEY, backup_set_uuid TEXT, media_set_id INT,
  database_name TEXT, server_name TEXT, type TEXT, is_copy_only INT, is_damaged INT, is_snapshot INT,
  has_backup_checksums INT, backup_start_date TEXT, backup_finish_date TEXT, time_zone INT,
  backup_size TEXT, compressed_backup_size TEXT, first_lsn TEXT, last_lsn TEXT,
  first_recovery_fork_guid TEXT, last_recovery_fork_guid TEXT, differential_base_guid TEXT,
  recovery_model TEXT, key_algorithm TEXT, encryptor_type TEXT);
CREATE TABLE backupmediafamily (media_set_id INT, family_sequence_number INT,
  physical_device_name TEXT, device_type INT);
"""
PARIS = ZoneInfo("Europe/Paris")
FORK = "8f2c1a00-0000-0000-0000-00000000aaaa"
LSN = 31_000_000_045_600_001  # as long as real ones


class History:
    """Writes rows as SQL Server does: one per finished backup, LSNs that go on."""

    def __init__(self, root: Path) -> None:
        self.connection = sqlite3.connect(root / "msdb.db", isolation_level=None)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.number = 0

    def add(self, kind: str, start: str, first: int, last: int, **more: object) -> str:
        self.number += 1
        started = datetime.fromisoformat(start)
        row = {
            "backup_set_id": self.number,
            "backup_set_uuid": str(uuid.UUID(int=self.number)).upper(),
            "media_set_id": self.number,
            "database_name": "DPI",
            "server_name": "SQL1",
            "type": kind,
            "is_copy_only": 0,
            "is_damaged": 0,
            "is_snapshot": 0,
            "has_backup_checksums": 1,
            "backup_start_date": started.isoformat(" "),
            "backup_finish_date": (started + timedelta(minutes=5)).isoformat(" "),
            "time_zone": 127,
            "backup_size": str(10**12),
            "compressed_backup_size": str(10**11),
            "first_lsn": str(LSN + first),
            "last_lsn": str(LSN + last),
            "first_recovery_fork_guid": FORK,
            "last_recovery_fork_guid": FORK,
            "recovery_model": "FULL",
            **more,
        }
        device = row.pop("device", rf"\\nas\sql\DPI_{self.number}.bak")
        device_type = row.pop("device_type", 2)
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self.connection.execute(
            f"INSERT INTO backupset ({names}) VALUES ({marks})", [*row.values()]
        )
        self.connection.execute(
            "INSERT INTO backupmediafamily VALUES (?, 1, ?, ?)",
            (row["media_set_id"], device, device_type),
        )
        return str(row["backup_set_uuid"]).lower()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    folder = tmp_path / "server"
    folder.mkdir()
    with sqlite3.connect(folder / "msdb.db") as connection:
        connection.executescript(SCHEMA)
    connection.close()
    rights = {"SELECT": 1, "DELETE": 0}
    server = Server(
        folder=folder,
        file="msdb.db",
        attach="dbo",
        functions={
            "SERVERPROPERTY": (1, {"ProductVersion": "15.0.4430.1", "ServerName": "SQL1"}.get),
            "IS_SRVROLEMEMBER": (1, lambda _: 0),
            "HAS_PERMS_BY_NAME": (3, lambda _table, _class, right: rights[right]),
            "SYSDATETIMEOFFSET": (0, lambda: "now"),
            "DATEPART": (
                2,
                lambda *_: int(
                    datetime.now(UTC).astimezone(PARIS).utcoffset().total_seconds() / 60
                ),
            ),
        },
        replace={"TZOFFSET": "'TZOFFSET'", "%s": "?"},
    )
    monkeypatch.setattr(mssql_access, "connect", server.connect)
    return server


@pytest.fixture
def history(server: Server) -> History:
    return History(server.folder)


def settings(here: TestContext, **more: object) -> MssqlSettings:
    secret = here.cache / "password"
    secret.write_text("secret-of-the-reader\n")
    return MssqlSettings(
        **{
            "type": "mssql",
            "host": "db.example",
            "timezone": "Europe/Paris",
            "credentials": {"reader": SecretReference(file=secret)},
            **more,
        }
    )


def listed(here: TestContext, *jobs: JobSelector, **more: object):
    with MSSQL.open("sql", settings(here, **more), here) as repository:
        return list(repository.points(jobs or (DPI,)))


def in_paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


def week(history: History) -> tuple[str, str]:
    """A full backup, a differential, log backups between them: the clean twin of all below."""
    full = history.add("D", "2026-03-01T22:00", 0, 10)
    history.add("L", "2026-03-01T23:00", 5, 20)
    history.add("L", "2026-03-02T00:00", 20, 30)
    differential = history.add("I", "2026-03-02T22:00", 28, 32, differential_base_guid=full.upper())
    history.add("L", "2026-03-02T23:00", 30, 40)
    history.add("L", "2026-03-03T00:00", 40, 50)
    return full, differential


class TestContract(RepositoryContract):
    @pytest.fixture
    def case(self, server: Server, history: History, here: TestContext) -> RepositoryCase:
        week(history)
        history.connection.close()

        def at(root: Path) -> MssqlSettings:
            server.folder = root
            return settings(here)

        return RepositoryCase(
            kind=MSSQL, root=server.folder, settings_at=at, jobs=(DPI,), context=here, files=0
        )

    def test_a_repository_that_is_not_there_is_unreachable(
        self, case: RepositoryCase, tmp_path: Path
    ) -> None:
        """A server is named, not a directory: its name is not known."""
        with case.open(tmp_path / "nowhere") as repository, pytest.raises(Unreachable) as caught:
            list(repository.points(case.jobs))
        assert caught.value.code == "dns"


def test_a_week_is_told_with_its_logs(history: History, here: TestContext) -> None:
    full, differential = week(history)

    newest, oldest = listed(here)

    assert (newest.kind, newest.needs) == (PointKind.DIFFERENTIAL, (full,))
    assert (oldest.kind, oldest.needs) == (PointKind.FULL, ())
    assert (newest.native_id, oldest.native_id) == (differential, full)
    assert oldest.at == in_paris("2026-03-01T22:00")
    assert oldest.covers_until == newest.at
    assert newest.covers_until == in_paris("2026-03-03T00:00")
    assert newest.state is oldest.state is PointState.COMPLETE
    assert (oldest.bytes, oldest.bytes_added, oldest.encrypted) == (10**12, 10**11, False)
    assert oldest.source_host == "SQL1"
    assert oldest.extra["device"].startswith(r"\\nas\sql")
    assert "log_gap_before" not in newest.extra | oldest.extra


def test_logs_carry_a_point_up_to_the_next_and_no_further(
    history: History, here: TestContext
) -> None:
    """What was told of an old point must not change with every log backup."""
    week(history)
    before = listed(here)[-1]
    history.add("L", "2026-03-03T01:00", 50, 60)
    newest, oldest = listed(here)
    assert oldest == before
    assert newest.covers_until == in_paris("2026-03-03T01:00")


def test_a_gap_in_the_logs_ends_what_is_covered_and_is_named(
    history: History, here: TestContext
) -> None:
    history.add("D", "2026-03-01T22:00", 0, 10)
    history.add("L", "2026-03-01T23:00", 5, 20)
    history.add("L", "2026-03-02T01:00", 30, 40)  # 20 to 30 is nowhere

    (point,) = listed(here)

    assert point.covers_until == in_paris("2026-03-01T23:00")
    assert point.extra["log_gap_before"] == int(in_paris("2026-03-02T01:00").timestamp())


def test_a_full_backup_after_a_gap_is_carried_on_again(history: History, here: TestContext) -> None:
    history.add("D", "2026-03-01T22:00", 0, 10)
    history.add("L", "2026-03-01T23:00", 5, 20)
    history.add("D", "2026-03-02T22:00", 31, 32)
    history.add("L", "2026-03-02T23:00", 30, 40)

    newest, oldest = listed(here)

    assert newest.covers_until == in_paris("2026-03-02T23:00")
    assert "log_gap_before" not in newest.extra
    assert oldest.covers_until == in_paris("2026-03-01T23:00")


@pytest.mark.parametrize(
    "defect",
    [
        {"device": "NUL"},
        {"is_damaged": 1},
        {"first_lsn": None},
        {"first_recovery_fork_guid": "x", "last_recovery_fork_guid": "x"},
    ],
    ids=["nul", "damaged", "no-lsn", "other-fork"],
)
def test_a_log_backup_that_is_none_is_a_gap(
    history: History, here: TestContext, defect: dict
) -> None:
    history.add("D", "2026-03-01T22:00", 0, 10)
    history.add("L", "2026-03-01T23:00", 5, 20)
    history.add("L", "2026-03-02T00:00", 20, 30, **defect)
    history.add("L", "2026-03-02T01:00", 30, 40)

    (point,) = listed(here)

    assert point.covers_until == in_paris("2026-03-01T23:00")
    assert "log_gap_before" in point.extra


def test_a_copy_breaks_no_chain(history: History, here: TestContext) -> None:
    full = history.add("D", "2026-03-01T22:00", 0, 10)
    history.add("L", "2026-03-01T23:00", 5, 20)
    history.add("D", "2026-03-02T12:00", 21, 22, is_copy_only=1)
    history.add("L", "2026-03-02T12:30", 20, 25, is_copy_only=1)
    history.add("L", "2026-03-02T13:00", 20, 40)
    history.add("I", "2026-03-02T22:00", 40, 41, differential_base_guid=full)

    differential, copy, original = listed(here)

    assert (differential.needs, differential.state) == ((full,), PointState.COMPLETE)
    assert copy.extra["copy_only"] is True
    assert copy.covers_until == original.covers_until == in_paris("2026-03-02T13:00")


def test_a_differential_without_its_full_backup_brings_nothing_back(
    history: History, here: TestContext
) -> None:
    history.add("I", "2026-03-02T22:00", 28, 32, differential_base_guid=str(uuid.uuid4()))
    (point,) = listed(here)
    assert (point.state, point.extra["chain"]) == (PointState.FAILED, "broken")


def test_a_differential_on_a_damaged_full_backup_likewise(
    history: History, here: TestContext
) -> None:
    full = history.add("D", "2026-03-01T22:00", 0, 10, is_damaged=1)
    history.add("I", "2026-03-02T22:00", 28, 32, differential_base_guid=full.upper())
    differential, damaged = listed(here)
    assert (damaged.state, damaged.extra["damaged"]) == (PointState.FAILED, True)
    assert differential.extra["chain"] == "broken"


def test_a_backup_to_nowhere_is_none(history: History, here: TestContext) -> None:
    history.add("D", "2026-03-01T22:00", 0, 10, device="nul:")
    (point,) = listed(here)
    assert (point.state, point.extra["nowhere"]) == (PointState.FAILED, True)


def test_a_signature_in_a_url_is_never_told(history: History, here: TestContext) -> None:
    history.add(
        "D",
        "2026-03-01T22:00",
        0,
        10,
        device="https://who:pw@x.blob.core.windows.net/c/DPI.bak?sv=2024&sig=SECRET%3D",
        device_type=9,
        key_algorithm="aes_256",
        encryptor_type="CERTIFICATE",
    )
    (point,) = listed(here)
    assert point.extra["device"] == "https://x.blob.core.windows.net/c/DPI.bak"
    assert point.extra["device_kind"] == "url"
    assert point.encrypted is True


def test_the_hour_that_exists_twice_is_told_apart_by_the_order(
    history: History, here: TestContext
) -> None:
    for number, start in enumerate(("02:15", "02:45", "02:20", "02:50")):
        history.add("D", f"2026-10-25T{start}", number, number)
    history.add("D", "2026-10-25T03:15", 9, 9)
    starts = [point.at.strftime("%H:%M") for point in reversed(listed(here))]
    assert starts == ["00:15", "00:45", "01:20", "01:50", "02:15"]


def test_the_hour_that_exists_twice_is_told_apart_by_the_noted_offset(
    history: History, here: TestContext
) -> None:
    history.add("D", "2026-10-25T02:15", 0, 1, time_zone=8)
    history.add("D", "2026-10-25T02:20", 2, 3, time_zone=4)
    assert [p.at.strftime("%H:%M") for p in reversed(listed(here))] == ["00:15", "01:20"]


def test_jobs_are_told_apart_and_names_are_data(history: History, here: TestContext) -> None:
    week(history)
    history.add("D", "2026-03-03T22:00", 0, 10, database_name="LABO", server_name="SQL2")
    labo = JobSelector(job="labo.full", application="labo", name="LABO", host="sql2")
    elsewhere = JobSelector(job="labo.x", application="labo", name="LABO", host="SQL1")
    hostile = JobSelector(job="x.x", application="x", name="'; DROP TABLE backupset --")
    points = listed(here, DPI, labo, elsewhere, hostile)
    assert [point.job for point in points].count("dpi.full") == 2
    assert [point.job for point in points].count("labo.full") == 1
    assert len(points) == 3


def test_rows_of_nulls_lose_nothing(history: History, here: TestContext) -> None:
    history.add(
        "D",
        "2026-03-01T22:00",
        0,
        10,
        backup_finish_date=None,
        time_zone=None,
        backup_size=None,
        last_lsn=None,
        has_backup_checksums=None,
        recovery_model=None,
        compressed_backup_size=None,
    )
    (point,) = listed(here)
    assert point.state is PointState.COMPLETE
    assert point.covers_until == point.at


def test_half_a_row_is_not_understood(history: History, here: TestContext) -> None:
    history.add("D", "2026-03-01T22:00", 0, 10, backup_finish_date=None, backup_start_date=None)
    with pytest.raises(Misunderstood):
        listed(here)


def test_a_login_that_only_reads_leaves_no_warning(
    server: Server, history: History, here: TestContext
) -> None:
    with MSSQL.open("sql", settings(here), here) as repository:
        state = repository.inspect()
    assert (state.tool, state.tool_version, state.warnings) == ("mssql", "15.0.4430.1", ())
    assert all(connection.closed for connection in server.connected)
    assert MSSQL.unproven


@pytest.mark.parametrize("held", ["IS_SRVROLEMEMBER", "HAS_PERMS_BY_NAME"])
def test_an_administrators_login_is_told(
    server: Server, history: History, here: TestContext, held: str
) -> None:
    count, _ = server.functions[held]
    server.functions = {**server.functions, held: (count, lambda *_: 1)}
    with MSSQL.open("sql", settings(here), here) as repository:
        assert repository.inspect().warnings == ("administrator_credential",)


def test_another_zone_than_the_servers_is_told(
    server: Server, history: History, here: TestContext
) -> None:
    with MSSQL.open("sql", settings(here, timezone="Asia/Tokyo"), here) as repository:
        assert repository.inspect().warnings == ("timezone_differs",)


def test_the_table_that_may_not_be_read_is_named(
    server: Server, history: History, here: TestContext
) -> None:
    server.functions = {
        **server.functions,
        "HAS_PERMS_BY_NAME": (3, lambda table, _class, _right: int("media" not in table)),
    }
    with pytest.raises(AccessRefused) as caught:
        listed(here)
    assert caught.value.message.values["table"] == "backupmediafamily"
    assert "GRANT SELECT ON dbo.backupmediafamily" in caught.value.remedy.values["statement"]


@pytest.mark.parametrize("version", ["11.0.2100", "99.0", "", None])
def test_an_unknown_version_is_told(
    server: Server, history: History, here: TestContext, version: str | None
) -> None:
    server.functions = {**server.functions, "SERVERPROPERTY": (1, lambda _: version)}
    with pytest.raises(MissingMeans) as caught:
        listed(here)
    assert caught.value.code == "version_unsupported"


def numbered(number: int, text: str = "refused, whatever the language") -> Exception:
    error = pytds.OperationalError(text)
    error.number = error.msg_no = number
    return error


@pytest.mark.parametrize(
    ("error", "cls", "code"),
    [
        (numbered(18456, "Login failed for user 'x'."), AccessRefused, "authentication"),
        (numbered(4060), AccessRefused, "permission"),
        (numbered(229, "denied on the object 'backupset'"), AccessRefused, "permission"),
        (numbered(208), MissingMeans, "version_unsupported"),
        (numbered(1205), Unreachable, "timeout"),
        (numbered(49999), Misunderstood, "unclassified_stderr"),
        (TimeoutError("timed out"), Unreachable, "timeout"),
        (ConnectionRefusedError(111, "refused"), Unreachable, "refused"),
        (ssl.SSLCertVerificationError("expired"), Unreachable, "tls"),
        (pytds.Error("Certificate does not match host name 'db'"), Unreachable, "tls"),
        (pytds.ClosedConnectionError(), Unreachable, "refused"),
    ],
    ids=[
        "login",
        "database",
        "right",
        "table",
        "deadlock",
        "other",
        "hung",
        "down",
        "expired",
        "wrong-host",
        "closed",
    ],
)
@pytest.mark.parametrize("when", ["CONNECT", "FROM dbo.backupset"])
def test_trouble_is_named(
    server: Server,
    history: History,
    here: TestContext,
    error: Exception,
    cls: type,
    code: str,
    when: str,
) -> None:
    week(history)
    server.refuse = lambda statement: error if when in statement else None
    with pytest.raises(cls) as caught:
        listed(here)
    assert caught.value.code == code
    assert "secret-of-the-reader" not in str(caught.value)


def test_half_an_answer_is_no_answer(server: Server, history: History, here: TestContext) -> None:
    week(history)
    server.cut_after = 3
    with pytest.raises(Unreachable):
        listed(here)
    assert all(connection.closed for connection in server.connected)


def test_a_mistake_of_ours_is_no_trouble_of_theirs(
    server: Server, history: History, here: TestContext
) -> None:
    server.refuse = lambda _: ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        listed(here)


def test_many_rows_pass_in_pieces(server: Server, history: History, here: TestContext) -> None:
    import tracemalloc

    history.connection.execute("BEGIN")
    for number in range(6_000):
        start = datetime.fromisoformat("2020-01-01") + timedelta(minutes=15 * number)
        history.add("L", start.isoformat(), number, number + 1)
    history.connection.execute("COMMIT")
    tracemalloc.start()
    assert listed(here) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20


def test_only_selects_of_two_tables_were_ever_asked(
    server: Server, history: History, here: TestContext
) -> None:
    week(history)
    listed(here)
    with MSSQL.open("sql", settings(here), here) as repository:
        repository.inspect()
    assert server.statements
    for statement in server.statements:
        assert statement.split()[0] == "SELECT"
        assert "NOLOCK" not in statement.upper()
