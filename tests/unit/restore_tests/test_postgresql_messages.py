"""What the engine says leaves the sandbox as severity, SQLSTATE, template and count, no more."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupguard.errors import BackupDefect, MissingMeans, Misunderstood, TimedOut
from backupguard.model import Verdict
from restore_tests.postgresql_messages import (
    CLIENT,
    RULES,
    SERVER_LOG,
    EngineMessage,
    Meaning,
    judge,
    meaning_of,
    parse,
)

LOG = [
    (
        'BG|42P06|pg_restore|ERROR:  schema "public" already exists',
        "ERROR 42P06 schema_public_exists",
    ),
    ('BG|42710|psql|ERROR:  role "app" already exists', "ERROR 42710 role_exists"),
    ('BG|42704|psql|ERROR:  role "app" does not exist', "ERROR 42704 role_missing"),
    ('BG|42704|psql|ERROR:  type "Dupont" does not exist', "ERROR 42704 other"),
    (
        'BG|0A000|psql|ERROR:  extension "postgis" is not available',
        "ERROR 0A000 extension_unavailable",
    ),
    (
        'BG|22008|psql|ERROR:  date/time field value out of range: "31/02/1980 Dupont"',
        "ERROR 22008 other",
    ),
    ('BG|22P02|psql|ERROR:  invalid input syntax for type date: "Zoé"', "ERROR 22P02 other"),
    (
        'BG|22021|psql|ERROR:  invalid byte sequence for encoding "UTF8": 0xe9 0x20',
        "ERROR 22021 other",
    ),
    ('BG|23505|pg_restore|ERROR:  could not create unique index "u"', "ERROR 23505 other"),
    ('BG|38000|psql|ERROR:  program "cat /etc/shadow" failed', "ERROR 38000 program_run"),
    (
        'BG|58P01|psql|ERROR:  could not open file "/etc/shadow" for reading: Permission denied',
        "ERROR 58P01 file_opened",
    ),
    (
        'BG|58P01|psql|ERROR:  could not access file "$libdir/postgis-3": No such file or directory',
        "ERROR 58P01 library_missing",
    ),
    (
        'BG|42704|psql|ERROR:  unrecognized configuration parameter "transaction_timeout"',
        "ERROR 42704 parameter_unknown",
    ),
    (
        "BG|25001|psql|WARNING:  there is already a transaction in progress",
        "WARNING 25001 transaction_nested",
    ),
    (
        'BG|53100|psql|ERROR:  could not extend file "base/1/2": No space left on device',
        "ERROR 53100 other",
    ),
    (
        'BG|XX000|psql|ERROR:  could not extend file "base/1/2": File too large',
        "ERROR XX000 file_limit",
    ),
]

CLIENT_LINES = [
    ("psql:<stdin>:12: ERROR:  23505", None),
    (
        "psql:<stdin>:7: error: backslash commands are restricted; only \\unrestrict is allowed",
        "ERROR client restricted",
    ),
    ("psql:<stdin>:7: error: invalid command \\Dupont", "ERROR client invalid_command"),
    ("pg_restore: error: could not execute query: ERROR:  duplicate key value", None),
    ("DETAIL:  Key (nom)=(Dupont) already exists.", None),
    ("Command was: COPY patients (nom) FROM stdin;", None),
    ("pg_restore: from TOC entry 3381; 0 16390 TABLE DATA t postgres", None),
    ("pg_restore: warning: errors ignored on restore: 3", None),
    ("pg_restore: error: could not read from input file: end of file", "ERROR client truncated"),
    ("pg_restore: error: could not uncompress data: (null)", "ERROR client damaged"),
    ("pg_restore: error: unsupported version (1.16) in file header", "ERROR client archive_newer"),
    ("pg_restore: error: did not find magic string in file header", "ERROR client not_an_archive"),
    (
        'pg_restore: error: could not open file "/in/d/3381.dat": No such file or directory',
        "ERROR client file_missing",
    ),
    ("pg_restore: error: unheard of", "ERROR client other"),
]


def reduced(program: str, lines: list[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    done = subprocess.run(["mawk", program], input=text, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize(("line", "said"), LOG)
def test_a_line_of_the_server_s_log(line: str, said: str) -> None:
    assert reduced(SERVER_LOG, [line, line]).decode() == f"{said} 2\n"


@pytest.mark.parametrize(("line", "said"), CLIENT_LINES)
def test_a_line_of_a_client(line: str, said: str | None) -> None:
    *counted, refused = reduced(CLIENT, [line]).decode().splitlines()
    assert counted == ([f"{said} 1"] if said else [])
    assert refused == f"refused {int('ERROR:  ' in line)}"


def test_a_process_of_the_server_that_was_killed_is_its_end() -> None:
    lines = [
        "BG|00000||LOG:  system logger process (PID 31) was terminated by signal 9: Killed",
        "BG|00000||LOG:  database system is ready to accept connections",
        "BG|00000|psql|LOG:  thing (PID 3) was terminated by signal 9: Killed",
    ]
    messages = parse(reduced(SERVER_LOG, lines))
    error = judge(messages)
    assert error is not None
    assert (error.code, error.verdict) == ("server_refused", Verdict.COULD_NOT_VERIFY)
    assert judge(parse(reduced(SERVER_LOG, lines[1:]))) is None


def test_lines_of_our_own_queries_and_continuations_do_not_count() -> None:
    lines = [
        'BG|42P01|backupguard|ERROR:  relation "x" does not exist',
        "\tBG|42P01|psql|ERROR:  no",
        "DETAIL:  Dupont",
    ]
    assert reduced(SERVER_LOG, lines) == b""


ANYTHING = st.text(
    st.characters(blacklist_characters="\n\x00", blacklist_categories=["Cs"]), max_size=60
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=ANYTHING,
    shape=st.sampled_from(
        [
            'BG|22P02|psql|ERROR:  invalid input syntax for type date: "{}"',
            'BG|23505|psql|ERROR:  duplicate key value violates unique constraint "{}"',
            "BG|P0001|psql|ERROR:  {}",
            "BG|{}|psql|ERROR:  x",
            "BG|22P02|{}|ERROR:  x",
            "psql:<stdin>:3: error: invalid command \\{}",
            "pg_restore: error: {}",
            "pg_restore: warning: {}",
            "{}",
        ]
    ),
)
def test_no_literal_ever_leaves(value: str, shape: str) -> None:
    line = shape.format(value)
    for program in (SERVER_LOG, CLIENT):
        for said in reduced(program, [line]).decode().splitlines():
            if re.fullmatch(r"refused \d+", said):
                continue
            assert re.fullmatch(r"[A-Z]+ ([0-9A-Z]{5}|client) [a-z_]+ \d+", said)
            template = said.split(" ")[2]
            known = {rule.template for rule in RULES} | {"other"}
            assert template in known


def test_what_prints_inside_cannot_smuggle_words_out() -> None:
    forged = (
        b"ERROR 23505 other 3\nERROR 23505 Dupont 1\nDupont\nERROR 23505 other 1 Dupont\n\xff\n"
    )
    assert parse(forged) == (
        EngineMessage(severity="ERROR", sqlstate="23505", template="other", count=3),
    )


def said(state: str, template: str = "other", severity: str = "ERROR") -> EngineMessage:
    return EngineMessage(severity=severity, sqlstate=state, template=template, count=1)


@pytest.mark.parametrize(
    ("messages", "cls", "code"),
    [
        ([said("23505")], BackupDefect, "load_refused"),
        ([said("42P01")], BackupDefect, "load_refused"),
        ([said("22021")], BackupDefect, "load_refused"),
        ([said("client", "truncated"), said("23503")], BackupDefect, "truncated"),
        ([said("client", "damaged")], BackupDefect, "corrupt"),
        ([said("client", "restricted"), said("53100")], BackupDefect, "hostile"),
        ([said("53100"), said("42P01")], MissingMeans, "no_disk"),
        ([said("XX000", "file_limit"), said("25P02")], TimedOut, "scratch_limit"),
        ([said("53200")], MissingMeans, "no_memory"),
        (
            [said("0A000", "extension_unavailable"), said("42704")],
            MissingMeans,
            "extension_missing",
        ),
        ([said("42704", "collation_missing")], MissingMeans, "locale_missing"),
        ([said("client", "archive_newer")], MissingMeans, "version_unsupported"),
        ([said("57P01"), said("25P02")], MissingMeans, "server_refused"),
        ([said("client", "connection_lost")], Misunderstood, "unclassified_stderr"),
        ([said("XX000")], Misunderstood, "unclassified_stderr"),
        ([said("client", "other")], Misunderstood, "unclassified_stderr"),
    ],
)
def test_only_a_defect_of_the_backup_accuses_it(messages, cls, code) -> None:
    error = judge(messages)
    assert isinstance(error, cls)
    assert error.code == code


def test_what_is_known_to_be_harmless_is_silent() -> None:
    benign = [
        said("42P06", "schema_public_exists"),
        said("42704", "role_missing"),
        said("42704", "parameter_unknown"),
        said("01000", severity="WARNING"),
        said("client", "other", "WARNING"),
    ]
    assert judge(benign) is None
    assert judge([]) is None


def test_every_rule_gives_its_reason_and_can_be_reached() -> None:
    for rule in RULES:
        assert rule.reason
        state = "client" if rule.sqlstate == "client" else (rule.sqlstate + "00000")[:5]
        message = said(state, rule.template or "other")
        assert meaning_of(message) is rule.meaning
    assert {rule.meaning for rule in RULES} == set(Meaning) - {Meaning.UNKNOWN}
