"""Scratch servers without one: recognition, addresses, markers, messages, settings."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backupguard.contracts import (
    GivenInstance,
    InstanceCredentials,
    InstanceSettings,
    ProductionServer,
    SecretReference,
)
from backupguard.errors import ConfigurationError, MissingMeans
from backupguard.settings import load
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests import inside, instance_guard
from restore_tests.instance import INSTANCE
from restore_tests.instance_guard import Identity, Marker
from restore_tests.instance_mssql_server import understood

ARCHIVE = (
    b"PGDMP\x01\x0e\x00\x04\x08\x01" + b"\x00" * 5 + b"\x00\x00\x00\x00\x00" * 3
    + b"\x00\x01\x00\x00\x00" * 2 + b"\x00\x7e\x00\x00\x00" + b"\x00" * 5
    + b"\x00\x03\x00\x00\x00dpi\x00\x04\x00\x00\x0015.8\x00\x04\x00\x00\x0015.8"
)  # fmt: skip
BAK = b"TAPE\x00\x00\x03\x00" + b"\x00" * 500


class TestContract(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        others = {"sqlite": sample_of(b"SQLite format 3\x00" + b"\x00" * 200)}
        own = {
            "custom": sample_of(ARCHIVE),
            "bak": sample_of(BAK),
            "packed": sample_of(b"MSSQLBAK" + BAK),
        }
        return EngineCase(engine=INSTANCE, own=own, others=others)

    def test_it_is_asked_only_where_it_is_named(self) -> None:
        assert INSTANCE.only_when_named


@pytest.mark.parametrize(
    "content",
    [b"-- PostgreSQL database dump\n\nselect 1;\n", b"-- PostgreSQL database cluster dump\n"],
    ids=["plain", "cluster"],
)
def test_a_script_is_recognised_and_not_run(content: bytes) -> None:
    """Not to know it would be to accuse it of being no dump."""
    match = INSTANCE.recognise(sample_of(content + b"--\n" * 10))
    assert match is not None
    with pytest.raises(MissingMeans) as caught:
        INSTANCE.requirements(match, 100)
    assert caught.value.code == "unrecognised_artifact"


def given(*production: ProductionServer, **changed: Any) -> GivenInstance:
    values = {"kind": "postgresql", "host": "essai.chu.example", **changed}
    return GivenInstance(name="essai", settings=InstanceSettings(**values), production=production)


@pytest.mark.parametrize(
    ("one", "sources", "refused"),
    [
        (given(ProductionServer(host="essai")), (), True),
        (given(ProductionServer(host="essai", port=5432)), (), True),
        (given(ProductionServer(host="essai", port=5433)), (), False),
        (given(ProductionServer(host="prod")), (), False),
        (given(), ("ESSAI.chu.example",), True),
        (given(), ("prod",), False),
        (given(production=("essai.chu.example",)), (), True),
        (given(ProductionServer(host="localhost"), host="/run/postgresql"), (), True),
        (given(ProductionServer(host=""), host="localhost", tls="none"), (), True),
        (given(ProductionServer(host="here"), host="127.0.0.1", tls="none"), (), True),
    ],
    ids=[
        *("short-name", "its-port", "another-port", "another", "source", "another-source"),
        *("listed", "socket-here", "nothing-is-here", "named-here"),
    ],
)  # fmt: skip
def test_an_address_of_productions_is_refused(
    one: GivenInstance, sources: tuple[str, ...], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_guard, "_addresses", lambda _: frozenset())
    expected = pytest.raises(MissingMeans, match="instance_is_source") if refused else nullcontext()
    with expected:
        instance_guard.refuse_address(one, sources, "here")


def test_two_names_of_one_address_are_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_guard, "_addresses", lambda host: frozenset({"10.0.0.7"}))
    with pytest.raises(MissingMeans, match="instance_is_source"):
        instance_guard.refuse_address(given(ProductionServer(host="alias")), (), "here")


def test_what_the_server_calls_itself_counts() -> None:
    identity = Identity(identifier="SQL1/guid", version="15.0", names=frozenset({"SRV-SQL1"}))
    for one, sources in (
        (given(), ("srv-sql1.chu.example",)),
        (given(production=("sql1/GUID",)), ()),
        (given(ProductionServer(host="srv-sql1")), ()),
    ):
        with pytest.raises(MissingMeans, match="instance_is_source"):
            instance_guard.refuse_identity(one, identity, sources, "here")
    instance_guard.refuse_identity(given(ProductionServer(host="srv-sql2")), identity, ("x",), "h")


@pytest.mark.parametrize(
    "text",
    ["", "yes", "[]", "{}", '{"backupguard_marker": 2}', '{"backupguard_marker": 1}', "[" * 9000],
    ids=["empty", "word", "list", "nothing", "newer", "half", "deep"],
)
def test_what_is_no_marker_marks_nothing(text: str) -> None:
    assert Marker.read(text) is None


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = Marker(identifier="7", prepared_at="t", prepared_by="é", beside=frozenset({"a", "b"}))
    assert Marker.read(marker.text()) == marker


class DriverError(Exception):
    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text)
        self.number = number


@pytest.mark.parametrize(
    ("numbers", "text", "code"),
    [
        ((3203, 3013), 'Read on "E:\\x.bak" failed: 38(Reached the end of the file.)', "truncated"),
        ((3203, 3013), 'Read on "E:\\x.bak" failed: 1117(I/O device error)', "instance_unread"),
        ((3241, 3257, 3013), "", "no_disk"),
        ((3013,), "", "unclassified_stderr"),
        ((3241, 3013), "", "corrupt"),
    ],
    ids=["end-of-file", "device", "ours-first", "nothing-said", "damage"],
)
def test_the_message_before_the_last_says_why(
    numbers: tuple[int, ...], text: str, code: str
) -> None:
    said = [(DriverError, DriverError(number, text)) for number in numbers]
    assert understood(said[-1][1], said).code == code


def test_a_network_that_fails_is_no_defect() -> None:
    assert understood(TimeoutError("timed out"), ()).code == "timeout"
    assert understood(ConnectionResetError(), ()).code == "refused"
    assert understood(RuntimeError("?"), ()).code == "unclassified_stderr"


def test_no_value_leaves_by_what_pg_restore_quotes() -> None:
    said = (
        "pg_restore: error: could not execute query: ERROR:  duplicate key value violates unique"
        ' constraint "p"\nDETAIL:  Key (nom)=(DUPONT) already exists.\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  invalid input syntax for type date:'
        ' "DUPONT"\nCONTEXT:  COPY p, line 1: "DUPONT"\n'
        "pg_restore: error: could not execute query: ERROR:  permission denied to create extension"
        ' "amcheck"\n'
        'pg_restore: error: could not execute query: ERROR:  role "dupont" does not exist\n'
        "pg_restore: error: could not execute query: ERREUR:  DUPONT\n"
        "pg_restore: error: could not execute query: ERROR:  something new about DUPONT\n"
    )
    program = inside.text("instance_postgresql.awk")
    done = subprocess.run(["mawk", program], input=said.encode(), capture_output=True, check=True)
    assert sorted(done.stdout.decode().splitlines()) == [
        "said benign 1", "said extension 1", "said refused 2", "said unknown 1",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------- settings

SITE = '[site]\nname = "CH"\n[instances.essai]\nkind = "postgresql"\nhost = "essai"\n'
TEST = """
[repositories.nas]
type = "directory"
path = "/srv/nas"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nuit]
repository = "nas"
every = "24h"
covers = ["postgresql://srv-db1:5433/dpi", "sqlite:///srv/x", "postgresql://*/y"]
select.host = "srv-app1"
[applications.dpi.restore-test]
engine = "instance"
"""


def loaded(directory: Path, text: str) -> Any:
    file = directory / "backupguard.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def refused(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(directory, text)
    return [f"{problem.key} {problem.message.id}" for problem in caught.value.problems]


def test_a_test_names_its_server(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SITE + TEST + 'instance = "essai"\n')
    found = settings.instance("essai")
    assert found.production == (
        ProductionServer(host="srv-db1", port=5433),
        ProductionServer(host="srv-app1"),
    )
    assert settings.instance("other") is None
    assert refused(tmp_path, SITE + TEST + 'instance = "esai"\n') == [
        "applications.dpi.restore-test.instance settings.no-instance"
    ]
    assert len(refused(tmp_path, SITE + TEST)) == 1


def test_a_password_of_productions_is_no_scratch_servers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o600)
    secret = f'credentials.account.file = "{tmp_path}/one"\n'
    server = (
        '[discovery.servers.db]\nengine = "postgresql"\nhost = "db"\ncredentials.reader.file = '
    )
    same = refused(tmp_path, SITE + secret + server + f'"{tmp_path}/one"\n')
    assert same == ["instances.essai.credentials.account settings.instance-shared-secret"]
    loaded(tmp_path, SITE + secret + server + f'"{tmp_path}/two"\n')


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls": "none"},
        {"kind": "mssql"},
        {"kind": "mssql", "host": "/run/x"},
        {"kind": "oracle"},
        {"host": "a b"},
        {"exchange_seen_as": "E:\\it's"},
        {"max_bytes": 0},
    ],
    ids=["clear-text", "no-account", "socket", "kind", "host", "quote", "no-room"],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        given(**wrong)


def test_a_sql_server_is_complete_with_a_directory_of_exchange() -> None:
    account = InstanceCredentials(account=SecretReference(credential="essai"))
    one = given(kind="mssql", credentials=account, exchange=Path("/mnt/essai"))
    assert one.settings.port_used == 1433
