"""RMAN's history, out of a stand-in: a live Oracle database was never seen."""

from __future__ import annotations

import sqlite3
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import oracledb
import pytest

from backupguard.contracts import JobSelector, SecretReference
from backupguard.errors import AccessRefused, MissingMeans, Misunderstood, Unreachable
from backupguard.model import PointKind, PointState
from backupguard.repositories import rman_access
from backupguard.repositories.rman import RMAN
from backupguard.repositories.rman_settings import RmanSettings
from backupguard.testing import TestContext
from backupguard.testing.repositories import RepositoryCase, RepositoryContract
from tests.integration.repositories.fake_servers import Server

PARIS = ZoneInfo("Europe/Paris")
LABO = JobSelector(job="labo.rman", application="labo", name="labo")
COLUMNS = {
    "RMAN_BACKUP_JOB_DETAILS": "SESSION_RECID, SESSION_STAMP, START_TIME, END_TIME, INPUT_BYTES,"
    " OUTPUT_BYTES, STATUS, INPUT_TYPE, OUTPUT_DEVICE_TYPE, AUTOBACKUP_DONE",
    "BACKUP_SET_DETAILS": "SESSION_RECID, SESSION_STAMP, SET_STAMP, SET_COUNT, BACKUP_TYPE,"
    " INCREMENTAL_LEVEL, PIECES, ENCRYPTED, CONTROLFILE_INCLUDED",
    "BACKUP_PIECE": 'SET_STAMP, SET_COUNT, "PIECE#", STATUS',
    "BACKUP_REDOLOG": 'SET_STAMP, SET_COUNT, "THREAD#", "SEQUENCE#", "RESETLOGS_CHANGE#",'
    " FIRST_TIME, NEXT_TIME",
    "DATABASE": "NAME, DB_UNIQUE_NAME, DBID, LOG_MODE",
}


class History:
    """Writes what RMAN leaves: a job, its set and piece; backups of archived logs."""

    def __init__(self, root: Path, prefix: str = "V$", key: int | None = None) -> None:
        self.connection = sqlite3.connect(root / "oracle.db", isolation_level=None)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.prefix, self.key, self.number = prefix, key, 0

    def put(self, view: str, *values: object) -> None:
        values = (*values, *([self.key] if self.key is not None else []))
        marks = ", ".join("?" * len(values))
        self.connection.execute(f'INSERT INTO "{self.prefix}{view}" VALUES ({marks})', values)

    def job(
        self,
        start: str,
        level: int | None = 0,
        status: str = "COMPLETED",
        *,
        pieces: str = "A",
        minutes: int = 60,
        sets: bool = True,
        encrypted: str = "NO",
    ) -> str:
        self.number += 1
        number, stamp = self.number, 1_200_000_000 + self.number
        started = datetime.fromisoformat(start)
        ended = None if status.startswith("RUNNING") else str(started + timedelta(minutes=minutes))
        kind = "DB FULL" if level is None else "DB INCR"
        self.put(
            "RMAN_BACKUP_JOB_DETAILS",
            *(number, stamp, str(started), ended, 10**12, 10**11, status, kind, "DISK", "YES"),
        )
        if sets:
            self.put(
                "BACKUP_SET_DETAILS",
                *(number, stamp, stamp, 1, "D" if not level else "I", level, len(pieces)),
                *(encrypted, "NO"),
            )
        for piece, state in enumerate(pieces, 1):
            self.put("BACKUP_PIECE", stamp, 1, piece, state)
        return f"{stamp}-{number}"

    def logs(
        self, start: str, count: int, *, first: int, thread: int = 1, pieces: str = "A",
        incarnation: int = 1,
    ) -> None:  # fmt: skip
        """Back up `count` archived logs of half an hour each, in a set of their own."""
        self.number += 1
        stamp = 1_300_000_000 + self.number
        for piece, state in enumerate(pieces, 1):
            self.put("BACKUP_PIECE", stamp, 1, piece, state)
        begin = datetime.fromisoformat(start)
        for index in range(count):
            at = begin + timedelta(minutes=30 * index)
            self.put(
                "BACKUP_REDOLOG",
                *(stamp, 1, thread, first + index, incarnation),
                *(str(at), str(at + timedelta(minutes=30))),
            )


def make(folder: Path, prefix: str = "V$", more: str = "") -> None:
    connection = sqlite3.connect(folder / "oracle.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    for view, columns in COLUMNS.items():
        connection.execute(f'CREATE TABLE "{prefix}{view}" ({columns}{more})')
    for statement in (
        "CREATE TABLE DUAL (DUMMY)",
        "INSERT INTO DUAL VALUES ('X')",
        "CREATE TABLE SESSION_ROLES (ROLE)",
        "CREATE TABLE SESSION_PRIVS (PRIVILEGE)",
        "INSERT INTO SESSION_PRIVS VALUES ('CREATE SESSION')",
    ):
        connection.execute(statement)
    connection.close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    folder = tmp_path / "server"
    folder.mkdir()
    make(folder)
    context = {"SERVER_HOST": "ora1", "ISDBA": "FALSE"}
    server = Server(
        folder=folder,
        file="oracle.db",
        functions={
            "SYS_CONTEXT": (2, lambda _, name: context[name]),
            "TO_CHAR": (2, lambda *_: offset()),
        },
        replace={"SYSTIMESTAMP": "'now'", "RMANCAT.RC_": "RC_"},
        allowed=frozenset({rman_access.READ_ONLY}),
    )
    monkeypatch.setattr(rman_access, "connect", server.connect)
    return server


def offset() -> str:
    text = datetime.now(UTC).astimezone(PARIS).strftime("%z")
    return f"{text[:3]}:{text[3:]}"


@pytest.fixture
def history(server: Server) -> History:
    history = History(server.folder)
    history.put("DATABASE", "LABO", "labo_prim", 4_123_456_789, "ARCHIVELOG")
    return history


def settings(here: TestContext, **more: object) -> RmanSettings:
    secret = here.cache / "password"
    secret.write_text("secret-of-the-reader\n")
    return RmanSettings(
        **{
            "type": "rman",
            "host": "db.example",
            "service": "LABO",
            "timezone": "Europe/Paris",
            "credentials": {"reader": SecretReference(file=secret)},
            **more,
        }
    )


def listed(here: TestContext, *jobs: JobSelector, **more: object):
    with RMAN.open("ora", settings(here, **more), here) as repository:
        return sorted(repository.points(jobs or (LABO,)), key=lambda p: (p.at, p.native_id))


def in_paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS).astimezone(UTC)


def week(history: History) -> tuple[str, ...]:
    """A level 0 and two level 1, and all archived logs: the clean twin of all below."""
    names = (
        history.job("2026-03-01T22:00", 0, pieces="AA"),
        history.job("2026-03-02T22:00", 1),
        history.job("2026-03-03T22:00", 1),
    )
    history.logs("2026-03-01T20:00", 110, first=100)
    return names


class TestContract(RepositoryContract):
    @pytest.fixture
    def case(self, server: Server, history: History, here: TestContext) -> RepositoryCase:
        week(history)
        history.connection.close()

        def at(root: Path) -> RmanSettings:
            server.folder = root
            return settings(here)

        return RepositoryCase(
            kind=RMAN, root=server.folder, settings_at=at, jobs=(LABO,), context=here, files=0
        )

    def test_a_repository_that_is_not_there_is_unreachable(
        self, case: RepositoryCase, tmp_path: Path
    ) -> None:
        """A server is named, not a directory: its name is not known."""
        with case.open(tmp_path / "nowhere") as repository, pytest.raises(Unreachable) as caught:
            list(repository.points(case.jobs))
        assert caught.value.code == "dns"


def test_a_week_is_told_with_its_logs(history: History, here: TestContext) -> None:
    base, first, second = week(history)

    points = listed(here)

    assert [(p.native_id, p.kind, p.needs) for p in points] == [
        (base, PointKind.FULL, ()),
        (first, PointKind.INCREMENTAL, (base,)),
        (second, PointKind.INCREMENTAL, (base, first)),
    ]
    assert {point.state for point in points} == {PointState.COMPLETE}
    assert points[0].at == in_paris("2026-03-01T22:00")
    assert points[0].covers_until == points[1].at
    assert points[2].covers_until == in_paris("2026-03-01T20:00") + timedelta(hours=55)
    assert points[0].source_host == "ora1"
    assert points[0].encrypted is False
    assert points[0].extra["controlfile"] is True
    assert all("log_gap_before" not in point.extra for point in points)


def test_a_missing_log_ends_what_is_covered_and_is_named(
    history: History, here: TestContext
) -> None:
    history.job("2026-03-01T22:00")
    history.logs("2026-03-01T21:00", 10, first=100)
    history.logs("2026-03-02T02:30", 10, first=111)  # 110 is nowhere

    (point,) = listed(here)

    assert point.covers_until == in_paris("2026-03-02T02:00")
    assert point.extra["log_gap_before"] == int(in_paris("2026-03-02T02:30").timestamp())
    assert point.state is PointState.COMPLETE


@pytest.mark.parametrize("pieces", ["X", "D", "AX"])
def test_a_log_whose_backup_has_gone_is_missing(
    history: History, here: TestContext, pieces: str
) -> None:
    history.job("2026-03-01T22:00")
    history.logs("2026-03-01T21:00", 10, first=100)
    history.logs("2026-03-02T02:00", 1, first=110, pieces=pieces)
    history.logs("2026-03-02T02:30", 10, first=111)
    (point,) = listed(here)
    assert point.covers_until == in_paris("2026-03-02T02:00")


def test_a_backup_without_the_logs_of_its_own_duration_is_not_consistent(
    history: History, here: TestContext
) -> None:
    history.job("2026-03-01T22:00", minutes=180)
    history.logs("2026-03-01T21:00", 4, first=100)
    (point,) = listed(here)
    assert (point.state, point.extra["logs"]) == (PointState.WARNING, "missing")
    assert point.covers_until == point.at


def test_a_database_that_archives_nothing_needs_no_logs(server: Server, here: TestContext) -> None:
    history = History(server.folder)
    history.put("DATABASE", "LABO", "LABO", 1, "NOARCHIVELOG")
    history.job("2026-03-01T22:00")
    (point,) = listed(here)
    assert (point.state, point.covers_until) == (PointState.COMPLETE, point.at)


def test_of_two_threads_the_shorter_decides(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00")
    history.logs("2026-03-01T21:00", 20, first=100)
    history.logs("2026-03-01T21:00", 8, first=7, thread=2)
    (point,) = listed(here)
    assert point.covers_until == in_paris("2026-03-02T01:00")


def test_a_reset_of_the_logs_begins_anew(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00")
    history.logs("2026-03-01T21:00", 10, first=100)
    history.job("2026-03-02T04:00")
    history.logs("2026-03-02T03:00", 10, first=1, incarnation=2)
    first, second = listed(here)
    assert first.covers_until == in_paris("2026-03-02T02:00")
    assert second.covers_until == in_paris("2026-03-02T08:00")


def test_a_plain_full_backup_breaks_no_chain_and_carries_none(
    history: History, here: TestContext
) -> None:
    base = history.job("2026-03-01T22:00", 0)
    history.job("2026-03-02T12:00", None)
    history.job("2026-03-02T22:00", 1)
    history.logs("2026-03-01T20:00", 80, first=1)
    assert listed(here)[-1].needs == (base,)


@pytest.mark.parametrize("with_full", [False, True], ids=["nothing", "a-plain-full"])
def test_a_level_1_without_its_level_0_brings_nothing_back(
    history: History, here: TestContext, with_full: bool
) -> None:
    if with_full:
        history.job("2026-03-01T22:00", None)
    history.job("2026-03-02T22:00", 1)
    history.logs("2026-03-01T20:00", 80, first=1)
    point = listed(here)[-1]
    assert (point.state, point.extra["chain"]) == (PointState.FAILED, "broken")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("COMPLETED", PointState.COMPLETE),
        ("COMPLETED WITH WARNINGS", PointState.WARNING),
        ("COMPLETED WITH ERRORS", PointState.FAILED),
        ("FAILED", PointState.FAILED),
        ("RUNNING", PointState.RUNNING),
        ("RUNNING WITH WARNINGS", PointState.RUNNING),
        ("RUNNING WITH ERRORS", PointState.RUNNING),
        ("SOMETHING NEW", PointState.RUNNING),
    ],
)
def test_states_are_told_apart(
    history: History, here: TestContext, status: str, state: PointState
) -> None:
    history.job("2026-03-01T22:00", 0, status)
    history.logs("2026-03-01T20:00", 20, first=1)
    (point,) = listed(here)
    assert point.state is state


def test_a_failed_job_that_wrote_nothing_is_told(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00", 0, "FAILED", pieces="", sets=False)
    (point,) = listed(here)
    assert point.state is PointState.FAILED


def test_deleted_pieces_take_the_point_and_what_stands_on_it(
    history: History, here: TestContext
) -> None:
    history.job("2026-03-01T22:00", 0, pieces="D")
    history.job("2026-03-02T22:00", 1)
    history.logs("2026-03-01T20:00", 80, first=1)
    (point,) = listed(here)
    assert point.extra["chain"] == "broken"


def test_an_expired_piece_leaves_a_failed_point(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00", 0, pieces="AX")
    history.put("BACKUP_SET_DETAILS", 1, 1_200_000_001, 5, 1, "D", 0, 1, "NO", "NO")
    history.put("BACKUP_PIECE", 5, 1, 1, "A")
    (point,) = listed(here)
    assert (point.state, point.extra["pieces_missing"]) == (PointState.FAILED, 1)


def test_a_second_copy_makes_up_for_an_expired_one(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00", 0, pieces="X")
    history.put("BACKUP_PIECE", 1_200_000_001, 1, 1, "A")
    history.logs("2026-03-01T20:00", 20, first=1)
    (point,) = listed(here)
    assert point.state is PointState.COMPLETE


def test_the_hour_that_exists_twice_is_told_apart_by_the_order(
    history: History, here: TestContext
) -> None:
    for start in ("02:15", "02:45", "02:20", "03:15"):
        history.job(f"2026-10-25T{start}", minutes=1)
    starts = sorted(point.at.strftime("%H:%M") for point in listed(here))
    assert starts == ["00:15", "00:45", "01:20", "02:15"]


def test_other_databases_and_hosts_are_not_meant(history: History, here: TestContext) -> None:
    week(history)
    other = JobSelector(job="x.y", application="x", name="DPI")
    unique = JobSelector(job="labo.u", application="labo", name="LABO_PRIM", host="ORA1")
    elsewhere = JobSelector(job="labo.e", application="labo", host="ora2")
    assert {point.job for point in listed(here, other, unique, elsewhere)} == {"labo.u"}


def test_a_recovery_catalogue_tells_of_several(
    server: Server, here: TestContext, tmp_path: Path
) -> None:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    make(folder, "RC_", ", DB_KEY")
    connection = sqlite3.connect(folder / "oracle.db")
    connection.close()
    for key, name in ((1, "LABO"), (2, "DPI")):
        history = History(folder, "RC_", key)
        history.put("DATABASE", name, name, key, "?")
        history.job("2026-03-01T22:00", 0)
        history.logs("2026-03-01T20:00", 10 * key, first=1)
    server.folder = folder
    dpi = JobSelector(job="dpi.rman", application="dpi", name="DPI")

    labo, other = listed(here, LABO, dpi, catalogue_owner="RMANCAT")

    assert (labo.job, other.job) == ("labo.rman", "dpi.rman")
    assert labo.covers_until == in_paris("2026-03-02T01:00")
    assert other.covers_until == in_paris("2026-03-02T06:00")
    assert labo.source_host is None
    assert "RMANCAT.RC_BACKUP_PIECE" in " ".join(server.statements)


def test_rows_of_nulls_lose_nothing(history: History, here: TestContext) -> None:
    history.job("2026-03-01T22:00")
    history.logs("2026-03-01T20:00", 20, first=1)
    history.connection.execute(
        'UPDATE "V$RMAN_BACKUP_JOB_DETAILS" SET END_TIME = NULL, INPUT_BYTES = NULL,'
        " OUTPUT_BYTES = NULL, OUTPUT_DEVICE_TYPE = NULL, AUTOBACKUP_DONE = NULL"
    )
    (point,) = listed(here)
    assert (point.state, point.ended_at, point.bytes) == (PointState.COMPLETE, None, None)


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE "V$RMAN_BACKUP_JOB_DETAILS" SET START_TIME = NULL',
        'UPDATE "V$BACKUP_REDOLOG" SET FIRST_TIME = NULL',
    ],
    ids=["job", "log"],
)
def test_half_a_row_is_not_understood(history: History, here: TestContext, statement: str) -> None:
    week(history)
    history.connection.execute(statement)
    with pytest.raises(Misunderstood):
        listed(here)


def test_a_user_who_only_reads_leaves_no_warning(
    server: Server, history: History, here: TestContext
) -> None:
    with RMAN.open("ora", settings(here), here) as repository:
        state = repository.inspect()
    assert (state.tool, state.tool_version, state.warnings) == ("rman", "19.0.0.0.0", ())
    assert state.repository_id == "4123456789"
    assert server.statements[0] == "SET TRANSACTION READ ONLY"
    assert all(connection.closed for connection in server.connected)
    assert RMAN.unproven


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO SESSION_ROLES VALUES ('DBA')", "INSERT INTO SESSION_PRIVS VALUES ('SYSBACKUP')"],
    ids=["role", "privilege"],
)
def test_an_administrators_user_is_told(
    history: History, here: TestContext, statement: str
) -> None:
    history.connection.execute(statement)
    with RMAN.open("ora", settings(here), here) as repository:
        assert repository.inspect().warnings == ("administrator_credential",)


def test_another_zone_than_the_servers_is_told(history: History, here: TestContext) -> None:
    with RMAN.open("ora", settings(here, timezone="Asia/Tokyo"), here) as repository:
        assert repository.inspect().warnings == ("timezone_differs",)


def ora(number: int) -> Exception:
    return oracledb.DatabaseError(SimpleNamespace(code=number, full_code=f"ORA-{number:05}"))


def dpy(code: str, cause: Exception | None = None) -> Exception:
    error = oracledb.OperationalError(SimpleNamespace(code=0, full_code=code))
    error.__cause__ = cause
    return error


def test_the_view_that_may_not_be_read_is_named(
    server: Server, history: History, here: TestContext
) -> None:
    server.refuse = lambda statement: ora(942) if "V$BACKUP_PIECE" in statement else None
    with pytest.raises(AccessRefused) as caught:
        listed(here)
    assert caught.value.message.values["table"] == "SYS.V_$BACKUP_PIECE"
    assert caught.value.remedy.values["statement"].startswith("GRANT SELECT ON SYS.V_$BACKUP_PIECE")


@pytest.mark.parametrize(
    ("error", "cls", "code"),
    [
        (ora(1017), AccessRefused, "authentication"),
        (ora(28000), AccessRefused, "authentication"),
        (ora(12514), Unreachable, "not_found"),
        (ora(1033), Unreachable, "refused"),
        (ora(904), MissingMeans, "version_unsupported"),
        (ora(29999), Misunderstood, "unclassified_stderr"),
        (dpy("DPY-4024"), Unreachable, "timeout"),
        (dpy("DPY-6001"), Unreachable, "not_found"),
        (dpy("DPY-6005", ConnectionRefusedError(111, "refused")), Unreachable, "refused"),
        (dpy("DPY-6005", ssl.SSLCertVerificationError("expired")), Unreachable, "tls"),
        (dpy("DPY-9999"), Unreachable, "refused"),
        (TimeoutError(), Unreachable, "timeout"),
    ],
    ids=["login", "locked", "service", "starting", "column", "other", "hung", "no-service", "down",
         "expired", "driver", "silent"],
)  # fmt: skip
@pytest.mark.parametrize("when", ["CONNECT", "V$RMAN_BACKUP_JOB_DETAILS j"])
def test_trouble_is_named(
    server: Server, history: History, here: TestContext, error: Exception, cls: type, code: str,
    when: str,
) -> None:  # fmt: skip
    week(history)
    server.refuse = lambda statement: error if when in statement else None
    with pytest.raises(cls) as caught:
        listed(here)
    assert caught.value.code == code
    assert "secret-of-the-reader" not in str(caught.value)


def test_half_an_answer_is_no_answer(server: Server, history: History, here: TestContext) -> None:
    week(history)
    server.cut_after = 2
    with pytest.raises(Unreachable):
        listed(here)


@pytest.mark.parametrize("version", ["11.2.0.4.0", "", "?"])
def test_an_old_server_is_told(
    server: Server, history: History, here: TestContext, version: str
) -> None:
    server.version = version
    with pytest.raises(MissingMeans) as caught:
        listed(here)
    assert caught.value.code == "version_unsupported"


def test_a_year_of_logs_is_a_handful_of_runs(history: History, here: TestContext) -> None:
    import tracemalloc

    history.job("2026-03-01T22:00")
    history.connection.execute("BEGIN")
    history.logs("2026-03-01T20:00", 6_000, first=1)
    history.connection.execute("COMMIT")
    tracemalloc.start()
    (point,) = listed(here)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert point.covers_until > in_paris("2026-06-30T00:00")
    assert peak < 3 << 20


@pytest.mark.parametrize("user", ["SYS", "system"])
def test_an_administrators_name_is_refused_at_once(here: TestContext, user: str) -> None:
    with pytest.raises(ValueError):
        settings(here, user=user)
