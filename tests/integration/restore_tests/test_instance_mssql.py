"""Backups of SQL Server on a scratch server, which a stand-in is: a live one was never seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.contracts import (
    GivenInstance,
    InstanceCredentials,
    InstanceSettings,
    SecretReference,
)
from backupguard.errors import MissingMeans
from backupguard.model import Baseline, Fingerprint, RestoreTestResult
from backupguard.testing.contexts import context as new_context
from restore_tests import instance_guard, instance_mssql_server
from restore_tests.instance import INSTANCE
from restore_tests.settings import ContentCheck, InstanceTestSettings
from tests.integration.restore_tests.harness import NOW, Trials
from tests.integration.restore_tests.mssql_standin import Database, Header, SqlServer

MARKER = instance_guard.MARKER_DATABASE
STAYS = ContentCheck(name="séjours", sql="select count(*) from dbo.stays", at_least=4000)
ADMITTED = ContentCheck(
    name="admissions", sql="select max(admitted_at) from dbo.stays", newer_than="26h"
)
SHAPE = Baseline(
    fingerprint=Fingerprint(
        tables={"dbo.stays": 4000, "dbo.patients": 2000},
        objects={"constraint": 2, "index": 2, "view": 0},
        columns={"dbo.stays": 4, "dbo.patients": 4},
    ),
    accepted=True,
    seq=1,
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlServer:
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    server = SqlServer(exchange=exchange)
    monkeypatch.setattr(instance_mssql_server, "connect", server.connect)
    return server


@pytest.fixture
def given(server: SqlServer, tmp_path: Path) -> GivenInstance:
    password = tmp_path / "password"
    password.write_text("ZZ-mssql\n")
    settings = InstanceSettings(
        kind="mssql",
        host="scratch.invalid",
        credentials=InstanceCredentials(account=SecretReference(file=password)),
        exchange=server.exchange,
        exchange_seen_as=server.seen_as,
    )
    made = GivenInstance(name="scratch-sql", settings=settings, confirmed="15")
    with instance_guard.opened(made, new_context(tmp_path).secret) as opened:
        plan = instance_guard.look(made, opened, (), "here")
        instance_guard.prepare(opened, plan, "the test", NOW)
    return made


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "dpi.bak"
    path.write_bytes(b"TAPE\x00\x00\x03\x00" + b"ZZ" * 5000)
    return path


def trial(
    given: GivenInstance | None, directory: Path, backup: Path, *checks: ContentCheck, **plan: Any
) -> RestoreTestResult:
    trials = Trials(directory, engines={"instance": INSTANCE})
    settings = InstanceTestSettings(engine="instance", instance="scratch-sql", checks=checks)
    return trials.restore(backup, **{"instance": given, "settings": settings, **plan})


def told(result: RestoreTestResult) -> tuple[str, str | None]:
    return result.verdict.value, result.code


def test_a_backup_is_restored_checked_and_dropped(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    server.answers = lambda text: {
        "said": "passed",
        "extra": int((NOW - timedelta(hours=5)).timestamp()) * 10**6
        if "datetime2" in text
        else None,
    }
    result = trial(given, tmp_path, backup, STAYS, ADMITTED, baseline=SHAPE)

    assert told(result) == ("passed", None), result
    assert result.level == 3
    assert result.fingerprint == SHAPE.fingerprint
    assert result.data_loss_ms == 3_600_000
    assert result.tools["mssql"] == "15.0.4430.1"
    assert set(server.databases) == {MARKER}
    assert server.databases[MARKER].restores == {}
    assert not list(server.exchange.iterdir())
    assert server.locked_by is None
    said = "\n".join(server.statements)
    assert said.index("VERIFYONLY") < said.index("RESTORE DATABASE") < said.index("DBCC CHECKDB")
    assert r"TO N'F:\log\backupguard_" in said
    assert "REPLACE" not in said


def test_what_nobody_confirmed_proves_nothing(
    given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    for confirmed in (None, "14"):
        result = trial(replace(given, confirmed=confirmed), tmp_path, backup, baseline=SHAPE)
        assert told(result) == ("could_not_verify", "check_unanswered")
        assert [c.code for c in result.checks if c.verdict == "could_not_verify"] == [
            "instance_unproven"
        ]
        assert result.level == 2
        assert result.fingerprint is not None  # what a person compares


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.roles.add("sysadmin"), "instance_account"),
        (lambda s: s.roles.add("dbcreator"), "instance_account"),
        (lambda s: s.permissions.append("CONTROL SERVER"), "instance_account"),
        (lambda s: s.permissions.remove("CREATE ANY DATABASE"), "instance_account"),
        (lambda s: s.databases.update(DPI=Database(owner="x")), "instance_not_empty"),
        (lambda s: s.databases.pop(MARKER), "instance_unmarked"),
        (lambda s: setattr(s, "guid", "0" * 36), "instance_marker_differs"),
        (lambda s: setattr(s, "header", Header(server=r"SCRATCH\PROD")), "instance_is_source"),
        (lambda s: setattr(s, "version", "9.0.1"), "version_unsupported"),
    ],
    ids=[
        *("sysadmin", "dbcreator", "control-server", "no-create", "other-database", "no-marker"),
        *("marker-copied", "header-names-it", "old-version"),
    ],
)  # fmt: skip
def test_it_is_refused_and_nothing_is_made(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path, change: Any, code: str
) -> None:
    change(server)
    before = {name: replace(one) for name, one in server.databases.items()}

    assert told(trial(given, tmp_path, backup)) == ("could_not_verify", code)

    assert server.databases == before
    assert not list(server.exchange.iterdir())
    said = "\n".join(server.statements[-40:])
    assert "RESTORE DATABASE" not in said
    assert "DROP" not in said


def test_the_servers_own_list_of_production_counts(
    server: SqlServer, given: GivenInstance, tmp_path: Path
) -> None:
    settings = given.settings.model_copy(update={"production": (server.name.lower(),)})
    forbidden = replace(given, settings=settings)
    with (
        instance_guard.opened(forbidden, new_context(tmp_path).secret) as opened,
        pytest.raises(MissingMeans, match="instance_is_source"),
    ):
        instance_guard.look(forbidden, opened, (), "here")


@pytest.mark.parametrize(
    ("beginning", "number", "expected"),
    [
        ("RESTORE HEADERONLY", 3241, ("failed", "corrupt")),
        ("RESTORE HEADERONLY", 3201, ("could_not_verify", "instance_unread")),
        ("RESTORE VERIFYONLY", 3189, ("failed", "corrupt")),
        ("RESTORE DATABASE", 3183, ("failed", "corrupt")),
        ("RESTORE DATABASE", 3257, ("could_not_verify", "no_disk")),
        ("RESTORE DATABASE", 3169, ("could_not_verify", "version_unsupported")),
        ("RESTORE DATABASE", 33111, ("could_not_verify", "wrong_key")),
        ("RESTORE DATABASE", 4711, ("could_not_verify", "unclassified_stderr")),
        ("DBCC CHECKDB", 2557, ("could_not_verify", "check_unanswered")),
        ("DBCC CHECKDB", 824, ("failed", "corrupt")),
    ],
)
def test_only_what_the_server_says_of_the_bytes_accuses_the_backup(
    server: SqlServer,
    given: GivenInstance,
    backup: Path,
    tmp_path: Path,
    beginning: str,
    number: int,
    expected: tuple[str, str],
) -> None:
    server.refuse[beginning] = number
    assert told(trial(given, tmp_path, backup)) == expected
    assert set(server.databases) == {MARKER}
    assert not list(server.exchange.iterdir())


def test_damage_that_checkdb_lists_is_a_failure(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    server.damage = [8939, 8976, 8990]
    result = trial(given, tmp_path, backup)
    assert told(result) == ("failed", "corrupt")
    assert result.checks[0].numbers["lines"] == 3
    server.damage = [5030]  # a row that is no damage, and no soundness either
    assert told(trial(given, tmp_path, backup))[0] == "could_not_verify"


def test_backups_that_bring_nothing_back(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    server.header = Header(kind=5)
    assert told(trial(given, tmp_path, backup)) == ("could_not_verify", "unrecognised_artifact")
    server.header = Header(tables={})
    assert told(trial(given, tmp_path, backup)) == ("failed", "empty")
    server.header = Header(tables={"dbo.stays": 0})
    assert told(trial(given, tmp_path, backup)) == ("failed", "schema_only")
    server.header = Header(damaged=True)
    assert told(trial(given, tmp_path, backup)) == ("failed", "corrupt")


def test_a_restore_that_was_killed_is_dropped_whatever_its_state(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    left = "backupguard_" + "ab" * 12
    server.databases[left] = Database(state="RESTORING")
    restores = server.databases[MARKER].restores
    assert restores is not None
    restores |= {left: "", "master": ""}
    assert told(trial(given, tmp_path, backup)) == ("passed", None)
    assert set(server.databases) == {MARKER}
    assert restores == {"master": ""}  # nobody here wrote that


def test_an_answer_of_the_sites_decides(
    server: SqlServer, given: GivenInstance, backup: Path, tmp_path: Path
) -> None:
    server.answers = lambda _: {"said": "failed", "extra": None}
    assert told(trial(given, tmp_path, backup, STAYS)) == ("failed", "check_failed")
    server.refuse["SELECT CASE WHEN v"] = 208
    assert told(trial(given, tmp_path, backup, STAYS)) == ("could_not_verify", "check_unanswered")
