"""What the site's job writes is found again: sound, altered, old, lost; what must hold is held."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import CheckResult, CleanPoint, RestoreTestResult, Verdict
from restore_tests import canary
from restore_tests.canary_scripts import ENGINES, Place, script
from restore_tests.files import FILES
from restore_tests.mariadb import MARIADB
from restore_tests.openldap import OPENLDAP
from restore_tests.phases import Engine
from restore_tests.postgresql import POSTGRESQL
from restore_tests.settings import (
    FilesSettings,
    MariadbSettings,
    OpenldapSettings,
    PostgresqlSettings,
    SqliteSettings,
)
from restore_tests.sqlite import SQLITE
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.hospital import Hospital
from tests.integration.restore_tests.test_openldap import CONF, SUFFIX
from tests.mariadb import start_mariadb

DECLARED = {"canary": {"since": date(2020, 1, 1)}}
GROWS = {"name": "nombre", "only-grows": "select count(*) from stays"}
CLOSED = {"name": "clos", "closed-set": "select label from stays", "since": date(2020, 1, 1)}
OTHER = datetime(2026, 1, 1, tzinfo=UTC)


def run(engine: str, place: Path | str, **environment: str) -> None:
    """Run the printed script as a job would; the real clock is the canary's."""
    text = script(engine, Place(application="dpi", name=str(place)))
    env = {**os.environ, **environment}
    subprocess.run(["/bin/sh"], input=text, text=True, env=env, check=True, capture_output=True)


def of(result: RestoreTestResult, name: str = "canary") -> CheckResult:
    return next(check for check in result.checks if check.name == name)


def trials_of(directory: Path, engine: Engine) -> Trials:
    made = Trials(directory, engines={engine.name: engine})
    made.now = datetime.now(UTC) + timedelta(minutes=1)
    return made


def clean_from(result: RestoreTestResult, **changes: Any) -> CleanPoint:
    """The point of a test as an older one that is known to be clean."""
    point = CleanPoint(
        at=OTHER,
        repository="nas",
        point="p0",
        engine=result.engine,
        measured={one.name: one for one in result.measured},
        canary=result.canary_at is not None,
    )
    return replace(point, **changes)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_printed_is_a_script(engine: str) -> None:
    text = script(engine, Place(application="dpi", name="x y"))
    subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)
    assert text.startswith("#!/bin/sh\nset -eu\n")


def judge_a_database(
    trials: Trials, settings: Any, dump: Callable[[], Path], sql: Callable[[str], Any]
) -> None:
    """Go through what a canary and invariants can be in one database with a table `stays`."""
    now = datetime.now(UTC)

    def restored(**plan: Any) -> RestoreTestResult:
        return trials.restore(dump(), settings=settings, **{"point_at": now, **plan})

    sound = restored()
    assert of(sound).code == "ok", sound
    assert sound.canary_at is not None
    assert sound.data_loss_ms is not None
    assert abs(sound.canary_at - now) < timedelta(minutes=10)
    assert of(sound, "nombre").code == of(sound, "clos").code == "invariant_first"
    assert sound.level == 2, "a canary is no business data"
    # The same again, held against itself.
    before = (clean_from(sound),)
    held = restored(clean=before)
    assert of(held, "nombre").code == of(held, "clos").code == "ok"
    assert held.verdict is Verdict.PASSED
    # One letter of a closed set.
    sql("update stays set label = 'Séjour rouvert' where id = 3")
    reopened = restored(clean=before)
    assert (reopened.verdict, reopened.code) == (Verdict.FAILED, "invariant_broken")
    assert of(reopened, "clos").code == "invariant_reopened"
    assert of(reopened, "nombre").code == "ok"
    assert not {"label", "rouvert"} & set(str(reopened).split())
    # Rows that went, and the canary that did not come along.
    sql("delete from stays where id > 5")
    sql("update backupguard_canary set token = 'b7e9'")
    shrunk = restored(clean=before)
    assert of(shrunk, "nombre").code == "invariant_shrank"
    assert (of(shrunk).verdict, of(shrunk).code) == (Verdict.FAILED, "canary_altered")
    assert shrunk.code == "canary_altered"
    sql("drop table backupguard_canary")
    lost = restored(clean=before)
    assert (of(lost).verdict, of(lost).code) == (Verdict.FAILED, "canary_lost")
    never = restored()
    assert (of(never).verdict, of(never).code) == (Verdict.PASSED, "warning_canary_missing")


def test_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "labo.db"

    def sql(text: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(text)
            connection.commit()

    sql("create table stays (id integer primary key, label text)")
    for n in range(1, 31):
        sql(f"insert into stays values ({n}, 'Séjour {n}')")
    run("sqlite", path)
    run("sqlite", path)  # every night
    settings = SqliteSettings.model_validate({**DECLARED, "invariants": [GROWS, CLOSED]})
    judge_a_database(trials_of(tmp_path / "trials", SQLITE), settings, lambda: path, sql)


def test_an_old_canary_is_measured_and_one_not_yet_due_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "labo.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table stays (id integer primary key)")
        connection.executemany("insert into stays values (?)", ((n,) for n in range(9)))
        connection.commit()
    settings = SqliteSettings.model_validate({"canary": {"since": date(2026, 11, 20)}})
    trials = trials_of(tmp_path / "trials", SQLITE)
    trials.now = datetime(2026, 11, 25, tzinfo=UTC)
    early = trials.restore(path, settings=settings, point_at=datetime(2026, 11, 20, 21, tzinfo=UTC))
    assert (early.verdict, of(early).code) == (Verdict.PASSED, "canary_not_yet")
    at = "2026-11-20T20:00:00Z"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table backupguard_canary (written_at text, token text)")
        row = (at, canary.token("dpi", at))
        connection.execute("insert into backupguard_canary values (?, ?)", row)
        connection.commit()
    point = datetime(2026, 11, 22, tzinfo=UTC)
    old = trials.restore(path, settings=settings, point_at=point)
    assert (old.verdict, old.code, of(old).code) == (Verdict.FAILED, "stale_data", "canary_old")
    assert old.data_loss_ms == 28 * 3_600_000
    fresh = trials.restore(path, settings=settings, point_at=point, rpo=timedelta(hours=30))
    assert (fresh.verdict, of(fresh).code) == (Verdict.PASSED, "ok")


def test_an_older_point_with_more_rows_accuses_the_newer(tmp_path: Path) -> None:
    path = tmp_path / "labo.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table stays (id integer primary key, label text)")
        connection.executemany("insert into stays values (?, 'x')", ((n,) for n in range(9)))
        connection.commit()
    settings = SqliteSettings.model_validate({"invariants": [GROWS]})
    trials = trials_of(tmp_path / "trials", SQLITE)
    first = trials.restore(path, settings=settings)
    fewer = {"nombre": replace(first.measured[0], value=4)}
    newer = clean_from(first, at=trials.now, measured=fewer)
    result = trials.restore(path, settings=settings, clean=(newer,))
    assert (result.verdict, of(result, "nombre").code) == (
        Verdict.PASSED,
        "warning_invariant_later",
    )


def test_postgresql(hospital: Hospital, tmp_path: Path) -> None:
    hospital.cluster.create("canary")
    rows = "insert into stays select n, 'Séjour ' || n from generate_series(1, 30) n"
    hospital.sql("canary", "create table stays (id int primary key, label text)", rows)
    run("postgresql", "canary", **hospital.cluster.environment())

    def dump() -> Path:
        path = tmp_path / "canary.dump"
        hospital.cluster.run("pg_dump", "-Fc", "-f", str(path), "canary")
        return path

    settings = PostgresqlSettings.model_validate(
        {"memory": 600_000_000, "jobs": 2, **DECLARED, "invariants": [GROWS, CLOSED]}
    )
    trials = trials_of(tmp_path / "trials", POSTGRESQL)
    judge_a_database(trials, settings, dump, lambda text: hospital.sql("canary", text))


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Any]:
    server = start_mariadb(tmp_path / "data")
    try:
        yield server
    finally:
        server.stop()


def test_mariadb(clinic: Any, tmp_path: Path) -> None:
    def sql(text: str) -> str:
        return str(clinic.run(f"use dpi; {text}"))

    clinic.run("create database dpi character set utf8mb4")
    sql("create table stays (id int primary key, label varchar(80))")
    sql("insert into stays select seq, concat('Séjour ', seq) from seq_1_to_30")
    (tmp_path / ".my.cnf").write_text(f"[client]\nsocket = {clinic.socket}\nuser = root\n")
    run("mariadb", "dpi", HOME=str(tmp_path))

    def dump() -> Path:
        path = tmp_path / "dpi.sql"
        with path.open("wb") as file:
            subprocess.run(
                ["mariadb-dump", "--no-defaults", f"--socket={clinic.socket}", "dpi"],
                check=True,
                stdout=file,
            )
        return path

    settings = MariadbSettings.model_validate(
        {"memory": "600MB", **DECLARED, "invariants": [GROWS, CLOSED]}
    )
    judge_a_database(trials_of(tmp_path / "trials", MARIADB), settings, dump, sql)


def test_files(tmp_path: Path) -> None:
    tree = tmp_path / "lettres"
    tree.mkdir()
    (tree / "lettre.txt").write_text("Bonjour")
    run("files", tree)
    settings = FilesSettings.model_validate({"engine": "files", **DECLARED})
    trials = trials_of(tmp_path / "trials", FILES)
    now = datetime.now(UTC)
    sound = trials.restore(tree, settings=settings, point_at=now)
    assert (of(sound).verdict, of(sound).code) == (Verdict.PASSED, "ok"), sound
    file = tree / canary.FILE
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    altered = trials.restore(tree, settings=settings, point_at=now)
    assert (altered.verdict, altered.code) == (Verdict.FAILED, "canary_altered")
    file.unlink()
    missing = trials.restore(tree, settings=settings, point_at=now)
    assert of(missing).code == "warning_canary_missing"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        pytest.param(None, "ok", id="sound"),
        pytest.param("0" * 64, "canary_altered", id="altered"),
        pytest.param("", "warning_canary_missing", id="missing"),
    ],
)
def test_openldap(tmp_path: Path, token: str | None, code: str) -> None:
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    suffix = "dc=hopital,dc=example"
    text = f"dn: {suffix}\nobjectClass: dcObject\nobjectClass: organization\no: CH\ndc: hopital\n"
    if token != "":
        text += (
            f"\ndn: cn={canary.ENTRY},{suffix}\nobjectClass: applicationProcess\n"
            f"cn: {canary.ENTRY}\ndescription: {at} {token or canary.token('dpi', at)}\n"
        )
    path = tmp_path / "annuaire.ldif"
    path.write_text(text, encoding="utf-8")
    settings = OpenldapSettings.model_validate({"engine": "openldap", **DECLARED})
    trials = trials_of(tmp_path / "trials", OPENLDAP)
    result = trials.restore(path, settings=settings, point_at=datetime.now(UTC))
    assert of(result).code == code, result


@pytest.fixture
def slapd(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A server's configuration and URL; whoever started it may write to it over its socket."""
    socket = Path(tempfile.mkdtemp(prefix="bgld")) / "ldapi"
    (tmp_path / "db").mkdir()
    conf = tmp_path / "slapd.conf"
    peer = f"gidNumber={os.getgid()}+uidNumber={os.getuid()},cn=peercred,cn=external,cn=auth"
    text = CONF.format(suffix=SUFFIX, directory=tmp_path / "db")
    conf.write_text(f'pidfile {tmp_path}/pid\n{text}access to * by dn.exact="{peer}" manage\n')
    base = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: CH\ndc: hopital\n"
    subprocess.run(
        ["/usr/sbin/slapadd", "-q", "-f", conf], input=base, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    url = "ldapi://" + str(socket).replace("/", "%2F")
    process = subprocess.Popen(
        ["/usr/sbin/slapd", "-d", "0", "-h", url, "-f", conf],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        asked = ["ldapwhoami", "-Q", "-Y", "EXTERNAL", "-H", url]
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield conf, url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(socket.parent, ignore_errors=True)


def test_openldap_of_the_printed_script(slapd: tuple[Path, str], tmp_path: Path) -> None:
    conf, url = slapd
    text = script("openldap", Place(application="dpi", name=SUFFIX))
    assert "ldapi:///" in text
    for _ in range(2):  # the first one makes the entry, those of other nights find it
        subprocess.run(
            ["/bin/sh"], input=text.replace("ldapi:///", url), text=True, check=True,
            capture_output=True,
        )  # fmt: skip
    path = tmp_path / "annuaire.ldif"
    argv = ["/usr/sbin/slapcat", "-f", conf, "-l", path]
    subprocess.run(argv, check=True, capture_output=True)
    now = datetime.now(UTC)
    settings = OpenldapSettings.model_validate({"engine": "openldap", **DECLARED})
    result = trials_of(tmp_path / "trials", OPENLDAP).restore(path, settings=settings, point_at=now)
    assert (result.verdict, of(result).code) == (Verdict.PASSED, "ok"), result
    assert result.canary_at is not None
    assert now - result.canary_at < timedelta(minutes=1)
    # What a job writes that was given another application's name is altered.
    other = script("openldap", Place(application="labo", name=SUFFIX)).replace("ldapi:///", url)
    subprocess.run(["/bin/sh"], input=other, text=True, check=True, capture_output=True)
    subprocess.run(argv, check=True, capture_output=True)
    wrong = trials_of(tmp_path / "other", OPENLDAP).restore(path, settings=settings, point_at=now)
    assert of(wrong).code == "canary_altered", wrong
