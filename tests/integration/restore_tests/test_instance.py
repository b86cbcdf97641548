"""Restore tests on a scratch server of the site's: what keeps production safe, on a real PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.cli.main import main
from backupguard.contracts import (
    GivenInstance,
    InstanceCredentials,
    InstanceSettings,
    ProductionServer,
    SecretReference,
)
from backupguard.errors import MissingMeans, Misunderstood, Unreachable
from backupguard.model import Baseline, RestoreTestResult
from backupguard.processes import Jail
from backupguard.testing.contexts import context as new_context
from restore_tests import instance_guard, instance_postgresql
from restore_tests.instance import INSTANCE
from restore_tests.instance_postgresql_server import PostgresqlScratch
from restore_tests.settings import ContentCheck, InstanceTestSettings
from tests.integration.repositories.servers import free_port
from tests.integration.restore_tests.harness import NOW, FilesRepository, Trials, point
from tests.integration.restore_tests.hospital import Hospital
from tests.postgres import Cluster, start_cluster

USER, PASSWORD = "backupguard_scratch", "ZZ-scratch:\\secret"
MARKER = instance_guard.MARKER_DATABASE
STAYS = ContentCheck(name="séjours", sql="select count(*) from clinic.stays", at_least=4000)
ADMITTED = ContentCheck(
    name="admissions", sql="select max(admitted_at) from clinic.stays", newer_than="2h"
)
GENERATED = "backupguard_" + "ab" * 12


class Scratch:
    """A scratch server with its account, as a site would give it."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory
        self.password = directory / "password"
        self.password.write_text(PASSWORD + "\n")
        self.password.chmod(0o600)
        quoted = PASSWORD.replace("'", "''")
        self.sql("postgres", f"create role {USER} login createdb password '{quoted}'")

    def sql(self, database: str, *statements: str) -> list[str]:
        arguments = [argument for text in statements for argument in ("-c", text)]
        done = self.cluster.run(
            "psql",
            "-X",
            "-At",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            *arguments,
            text=True,
        )
        return str(done.stdout).splitlines()

    def databases(self) -> set[str]:
        return set(self.sql("postgres", "select datname from pg_database"))

    def given(self, *production: ProductionServer, **changed: Any) -> GivenInstance:
        values = {
            "kind": "postgresql", "host": "127.0.0.1", "port": self.cluster.port, "tls": "none",
            "user": USER, **changed,
        }  # fmt: skip
        account = SecretReference(file=self.password)
        credentials = InstanceCredentials(account=account)
        settings = InstanceSettings(credentials=credentials, **values)
        return GivenInstance(name="scratch", settings=settings, production=production)

    def prepare(self, *beside: str, given: GivenInstance | None = None) -> None:
        given = given or self.given()
        with instance_guard.opened(given, new_context(self.directory).secret) as server:
            plan = instance_guard.look(given, server, beside, "here")
            instance_guard.prepare(server, plan, "the test", NOW)

    def forget(self) -> None:
        """Take everything away but the account."""
        own = {"postgres", "template0", "template1"}
        for name in self.databases() - own:
            self.sql("postgres", f'drop database "{name}" with (force)')
        self.sql("postgres", f"alter role {USER} nosuperuser nocreaterole createdb")
        for power in ("pg_read_server_files",):
            self.sql("postgres", f"revoke {power} from {USER}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    directory = tmp_path_factory.mktemp("scratch-server")
    cluster = start_cluster(directory / "cluster", port=free_port())
    try:
        yield Scratch(cluster, directory)
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def small(hospital: Hospital) -> Path:
    """A dump of little, for tests in which it does not matter what is restored."""
    hospital.cluster.create("petit")
    hospital.sql(
        "petit",
        "create table lits (id int primary key, pris timestamptz)",
        f"insert into lits select i, '{NOW.isoformat()}' from generate_series(1, 50) i",
    )
    return hospital.dump("petit")


@pytest.fixture
def scratch(server: Scratch) -> Iterator[Scratch]:
    yield server
    server.forget()


def trial(
    scratch: Scratch, directory: Path, dump: Path, *checks: ContentCheck, **plan: Any
) -> RestoreTestResult:
    trials = Trials(directory, engines={"instance": INSTANCE})
    settings = InstanceTestSettings(engine="instance", instance="scratch", checks=checks)
    return trials.restore(dump, **{"instance": scratch.given(), "settings": settings, **plan})


def seen(scratch: Scratch) -> list[str]:
    """All that a test could change on the server: databases by identity, and the marker's content."""
    found = scratch.sql("postgres", "select oid, datname, datdba from pg_database order by 1")
    if MARKER in scratch.databases():
        found += scratch.sql(MARKER, "select document from marker", "select name from restores")
    return found


def told(result: RestoreTestResult) -> tuple[str, str | None]:
    return result.verdict.value, result.code


def test_a_dump_comes_back_is_asked_and_is_gone(
    scratch: Scratch, hospital: Hospital, tmp_path: Path
) -> None:
    scratch.sql("postgres", "create database planning")
    scratch.prepare("planning")
    before = scratch.databases()

    first = trial(scratch, tmp_path, hospital.dump(), STAYS, ADMITTED)

    assert told(first) == ("passed", None), (first.phases, first.checks)
    assert first.level == 2  # nobody accepted its shape yet
    assert first.fingerprint is not None
    assert first.fingerprint.tables["clinic.stays"] == 4000
    assert [check.name for check in first.checks if check.configured] == ["séjours", "admissions"]
    assert first.data_loss_ms == timedelta(minutes=50) // timedelta(milliseconds=1)
    assert first.tools["postgresql"].startswith("15.")
    accepted = Baseline(fingerprint=first.fingerprint, accepted=True, seq=1)
    assert trial(scratch, tmp_path, hospital.dump(), STAYS, baseline=accepted).level == 3
    assert scratch.databases() == before
    assert scratch.sql(MARKER, "select count(*) from restores") == ["0"]


def copied(scratch: Scratch) -> None:
    """Let the marker be one that was made for another server."""
    new = "jsonb_set(document::jsonb, '{identifier}', '\"7311111111111111111\"')::text"
    scratch.sql(MARKER, f"update marker set document = {new}")


def strange(scratch: Scratch) -> None:
    scratch.sql("postgres", "create database dpi")


def power(text: str) -> Callable[[Scratch], None]:
    return lambda scratch: scratch.sql("postgres", text.format(user=USER)) and None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.sql("postgres", f"drop database {MARKER}"), "instance_unmarked"),
        (lambda s: s.sql(MARKER, "drop table marker"), "instance_unmarked"),
        (lambda s: s.sql(MARKER, "update marker set document = 'yes'"), "instance_unmarked"),
        (copied, "instance_marker_differs"),
        (strange, "instance_not_empty"),
        (power("alter role {user} superuser"), "instance_account"),
        (power("alter role {user} createrole"), "instance_account"),
        (power("grant pg_read_server_files to {user}"), "instance_account"),
        (power("alter role {user} nocreatedb"), "instance_account"),
    ],
    ids=[
        *("no-marker", "marker-without-table", "not-a-marker", "marker-copied", "other-database"),
        *("superuser", "createrole", "reads-files", "no-createdb"),
    ],
)  # fmt: skip
def test_it_is_refused_and_nothing_is_touched(
    scratch: Scratch, small: Path, tmp_path: Path, change: Callable[[Scratch], object], code: str
) -> None:
    scratch.prepare()
    change(scratch)
    before = seen(scratch) if code != "instance_unmarked" else sorted(scratch.databases())

    result = trial(scratch, tmp_path, small)

    assert told(result) == ("could_not_verify", code)
    assert result.level == 1
    after = seen(scratch) if code != "instance_unmarked" else sorted(scratch.databases())
    assert after == before


def test_a_server_of_productions_is_refused(scratch: Scratch, small: Path, tmp_path: Path) -> None:
    scratch.prepare()
    before = seen(scratch)
    identifier = scratch.sql("postgres", "select system_identifier from pg_control_system()")[0]
    port = scratch.cluster.port
    for given in (
        scratch.given(production=(identifier,)),
        scratch.given(production=("127.0.0.1",)),
        scratch.given(ProductionServer(host="localhost", port=port)),
        scratch.given(ProductionServer(host="127.0.0.1")),
    ):
        result = trial(scratch, tmp_path, small, instance=given)
        assert told(result) == ("could_not_verify", "instance_is_source")
        with pytest.raises(MissingMeans, match="instance_is_source"):
            scratch.prepare(given=given)
    # The host that the inventory says the backup was made on.
    trials = Trials(tmp_path, engines={"instance": INSTANCE})
    repository = FilesRepository({"p1": small}, [point(source_host="localhost")])
    settings = InstanceTestSettings(engine="instance", instance="scratch")
    result = trials.perform(repository, instance=scratch.given(), settings=settings)
    assert told(result) == ("could_not_verify", "instance_is_source")
    assert seen(scratch) == before
    elsewhere = scratch.given(ProductionServer(host="localhost", port=port + 1))
    assert told(trial(scratch, tmp_path, small, instance=elsewhere)) == ("passed", None)


def test_a_name_that_is_taken_is_left_alone(
    scratch: Scratch, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.prepare()
    scratch.sql("postgres", f"create database {GENERATED}")
    scratch.sql(GENERATED, "create table theirs (id int)")
    before = seen(scratch)
    monkeypatch.setattr(instance_guard, "_random_name", lambda: GENERATED)

    assert told(trial(scratch, tmp_path, small)) == ("could_not_verify", "instance_name_taken")

    assert seen(scratch) == before
    assert scratch.sql(GENERATED, "select count(*) from theirs") == ["0"]


def test_only_recorded_leftovers_of_our_names_are_dropped(
    scratch: Scratch, small: Path, tmp_path: Path
) -> None:
    scratch.sql("postgres", "create database planning")
    scratch.prepare("planning")
    theirs = "backupguard_" + "cd" * 12
    scratch.sql(
        "postgres", f"create database {GENERATED} owner {USER}", f"create database {theirs}"
    )
    scratch.sql(MARKER, f"insert into restores values ('{GENERATED}', ''), ('planning', '')")

    assert told(trial(scratch, tmp_path, small)) == ("passed", None)

    own = {"postgres", "template0", "template1", MARKER}
    assert scratch.databases() - own == {"planning", theirs}


def test_two_tests_never_share_a_server(scratch: Scratch, small: Path, tmp_path: Path) -> None:
    scratch.prepare()
    with instance_guard.opened(scratch.given(), new_context(tmp_path).secret) as server:
        assert server.enter_marker()
        assert server.lock()
        assert told(trial(scratch, tmp_path, small)) == ("skipped", "already_running")
    assert told(trial(scratch, tmp_path, small)) == ("passed", None)


KILLED = """
import sys
from pathlib import Path
from restore_tests import instance_postgresql
from tests.integration.restore_tests import test_instance as here
directory, dump, port, password = map(Path, sys.argv[1:5])

def stand(trial, *_):
    print("there", flush=True)
    trial.context.cancel.wait(60)

setattr(instance_postgresql, sys.argv[5], stand)
scratch = here.Scratch.__new__(here.Scratch)
scratch.cluster = here.Cluster(directory=directory, socket=directory, port=int(str(port)))
scratch.password = password
here.trial(scratch, directory, dump)
"""


@pytest.mark.parametrize(("killed_in", "databases"), [("load", 0), ("open_database", 1)])
def test_what_a_killed_test_leaves_is_dropped_by_the_next(
    scratch: Scratch, small: Path, tmp_path: Path, killed_in: str, databases: int
) -> None:
    scratch.prepare()
    before = scratch.databases()
    other = tmp_path / "killed"
    other.mkdir()
    places = (str(other), str(small), str(scratch.cluster.port), str(scratch.password))
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, *places, killed_in], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"there\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(scratch.databases() - before) == databases
    (left,) = scratch.sql(MARKER, "select name from restores")  # said before it was made
    assert instance_guard.GENERATED.match(left)

    assert told(trial(scratch, tmp_path, small)) == ("passed", None)

    assert scratch.databases() == before
    assert scratch.sql(MARKER, "select count(*) from restores") == ["0"]


def test_restored_data_that_stay_are_told(
    scratch: Scratch, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.prepare()
    before = scratch.databases()

    def lost(*_: object) -> None:
        raise Unreachable("refused")

    with monkeypatch.context() as broken:
        broken.setattr(PostgresqlScratch, "drop", lost)
        result = trial(scratch, tmp_path, small)
    assert told(result) == ("could_not_verify", "instance_not_dropped")
    assert len(scratch.databases() - before) == 1
    trial(scratch, tmp_path, small)
    assert scratch.databases() == before


def test_a_lost_connection_keeps_nobodys_data(
    scratch: Scratch, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.prepare()
    before = scratch.databases()

    def cut(_: object) -> None:
        scratch.sql(
            "postgres",
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{USER}'",
        )
        raise Misunderstood("output_unparsable")

    monkeypatch.setattr(instance_postgresql, "open_database", cut)
    assert told(trial(scratch, tmp_path, small)) == ("could_not_verify", "output_unparsable")
    assert scratch.databases() == before


def test_the_password_is_told_to_nobody(
    scratch: Scratch, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.prepare()
    commands = []
    run = Jail.run

    def recorded(self: Jail, command: Any) -> Any:
        commands.append((command.argv, dict(command.environment)))
        return run(self, command)

    monkeypatch.setattr(Jail, "run", recorded)
    result = trial(scratch, tmp_path, small)
    assert told(result) == ("passed", None)
    assert any("pg_restore" in " ".join(argv) for argv, _ in commands)
    assert "ZZ-scratch" not in repr(commands) + repr(result) + repr(scratch.given())


def test_a_broken_dump_is_accused_and_leaves_nothing(
    scratch: Scratch, hospital: Hospital, small: Path, tmp_path: Path
) -> None:
    scratch.prepare()
    before = scratch.databases()
    cut = tmp_path / "cut.dump"
    cut.write_bytes(small.read_bytes()[:-60])
    assert told(trial(scratch, tmp_path, cut)) == ("failed", "truncated")
    refusing = hospital.variant(
        "refusing",
        "create table zz (id int)",
        "insert into zz values (1)",
        "create function reads_another() returns boolean language sql as"
        " 'select count(*) > 0 from public.zz'",
        "create table aa (id int, check (public.reads_another()))",
        "insert into aa values (1)",
        template="petit",
    )
    without = hospital.dump(refusing, "custom", "--exclude-table-data=zz")
    assert told(trial(scratch, tmp_path, without)) == ("failed", "load_refused")
    empty = hospital.variant("vide", "drop table lits", template="petit")
    assert told(trial(scratch, tmp_path, hospital.dump(empty))) == ("failed", "empty")
    assert scratch.databases() == before


def test_what_a_scratch_server_lacks_accuses_no_dump(
    scratch: Scratch, hospital: Hospital, small: Path, tmp_path: Path
) -> None:
    scratch.prepare()
    before = scratch.databases()
    needing = hospital.variant("avec_extension", "create extension amcheck", template="petit")
    code = "extension_missing"  # the account may not make one that is not trusted
    assert told(trial(scratch, tmp_path, hospital.dump(needing))) == ("could_not_verify", code)
    for dump in (hospital.dump("petit", "plain"), hospital.compressed(small, "gz")):
        found = told(trial(scratch, tmp_path, dump))
        assert found == ("could_not_verify", "unrecognised_artifact")
    little = scratch.given(max_bytes=100)
    found = told(trial(scratch, tmp_path, small, instance=little))
    assert found == ("could_not_verify", "instance_too_small")
    wrong = tmp_path / "wrong"
    wrong.write_text("not it")
    account = InstanceCredentials(account=SecretReference(file=wrong))
    given = scratch.given()
    other = GivenInstance(
        name="scratch", settings=given.settings.model_copy(update={"credentials": account})
    )
    found = told(trial(scratch, tmp_path, small, instance=other))
    assert found == ("could_not_verify", "authentication")
    found = told(trial(scratch, tmp_path, small, instance=None))
    assert found == ("could_not_verify", "instance_unknown")
    assert scratch.databases() == before


# ------------------------------------------------------------------------------------ by hand


def test_a_server_is_marked_by_hand(
    scratch: Scratch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "backupguard.toml"
    configuration.write_text(
        f'''
[site]
name = "CH"
language = "en"
[store]
directory = "{tmp_path}/state"
[instances.scratch]
kind = "postgresql"
host = "127.0.0.1"
port = {scratch.cluster.port}
tls = "none"
credentials.account.file = "{scratch.password}"
'''
    )

    def call(*arguments: str) -> tuple[int, str]:
        code = main(["--config", str(configuration), "prepare-instance", "scratch", *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    scratch.sql("postgres", "create database planning")
    before = scratch.databases()
    code, said = call("--yes")
    assert code == 2
    assert "planning" in said
    code, said = call("--beside", "planning", "--dry-run")
    assert code == 0
    assert "planning" in said
    assert call("--beside", "planning")[0] == 64  # nobody is there to ask
    assert scratch.databases() == before
    assert call("--beside", "planning", "--yes")[0] == 0
    assert scratch.databases() == before | {MARKER}
    assert "marked already" in call("--beside", "planning", "--dry-run")[1]

    scratch.sql("postgres", f"create database {GENERATED} owner {USER}")
    scratch.sql(MARKER, f"insert into restores values ('{GENERATED}', '')")
    assert GENERATED in call("--clean", "--dry-run")[1]
    assert GENERATED in scratch.databases()
    code, said = call("--clean", "--yes")
    assert code == 0
    assert GENERATED in said
    assert scratch.databases() == before | {MARKER}
    scratch.sql("postgres", f"alter role {USER} createrole")
    assert call("--beside", "planning", "--yes")[0] == 2
