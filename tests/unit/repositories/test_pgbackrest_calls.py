from pathlib import Path

import pytest
from pydantic import ValidationError

from backupguard.contracts import Completed
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    Changing,
    Locked,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.pgbackrest_calls import Call, Refused
from backupguard.repositories.pgbackrest_config import configuration, read_configuration
from backupguard.repositories.pgbackrest_errors import failure
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings
from backupguard.repositories.pgbackrest_verify import Report, parse_report

SEGMENT = "000000010000000000000002"


@pytest.mark.parametrize(
    "verb",
    ["backup", "expire", "stanza-create", "stanza-delete", "stanza-upgrade", "start", "stop",
     "archive-push", "repo-put", "repo-rm", "repo-create", "check", "annotate", "server", "help", ""],
)  # fmt: skip
def test_verbs_that_change_or_are_not_needed_cannot_be_called(verb: str):
    with pytest.raises(Refused):
        Call(verb=verb)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("info", (("--config", "/etc/x"),)),
        ("info", (("--stanza", "../x"),)),
        ("info", (("--stanza", "-x"),)),
        ("verify", (("--set", "20260101-000000F"),)),
        ("restore", (("--delta", "y"),)),
        ("restore", (("--force", "y"),)),
        ("restore", (("--set", "latest"),)),
        ("restore", (("--type", "preserve"),)),
        ("restore", (("--recovery-option", "restore_command=rm -rf /"),)),
        ("restore", (("--pg1-path", "relative"),)),
        ("restore", (("--repo1-path", "/"),)),
    ],
)
def test_options_that_are_not_on_the_list(verb: str, options: tuple[tuple[str, str], ...]):
    with pytest.raises(Refused):
        Call(verb=verb, options=options)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("info", ("x",)),
        ("repo-ls", ()),
        ("repo-ls", ("/etc",)),
        ("repo-ls", ("archive/../..",)),
        ("repo-ls", ("archive/main", "x")),
        ("repo-get", ("backup/main/backup.info",)),
        ("repo-get", (f"archive/main/15-1/{SEGMENT}",)),
        ("archive-get", (SEGMENT,)),
        ("archive-get", ("/a/../b", SEGMENT)),
        ("archive-get", ("relative", SEGMENT)),
        ("archive-get", ("/x", f"{SEGMENT}; rm")),
        ("archive-get", ("/x", "00000002.history")),
    ],
)
def test_arguments_that_are_not_on_the_list(verb: str, arguments: tuple[str, ...]):
    with pytest.raises(Refused):
        Call(verb=verb, arguments=arguments)


def test_only_what_brings_something_to_disk_may_write():
    with pytest.raises(Refused):
        Call(verb="verify", write=(Path("/srv"),))
    Call(verb="archive-get", arguments=("/x", f"{SEGMENT} {SEGMENT}"), write=(Path("/x"),))
    Call(verb="repo-get", arguments=("archive/main/15-1/0000000A.history",))
    Call(verb="restore", options=(("--target", "2026-11-22 11:00:00.000000+00"),))


SITE = """
[global]
repo1-path=/srv/one
repo2-type = s3
repo2-s3-bucket=hospital
repo2-s3-key-secret = a=b:c
repo2-retention-full=2
repo2-path=/two
log-path=/var/log
[global:restore]
repo2-path=/elsewhere
[main]
pg1-path=/var/lib/postgresql
"""


def test_of_a_sites_configuration_only_the_place_is_taken():
    assert read_configuration(SITE, 1) == {"path": "/srv/one"}
    assert read_configuration(SITE, 2) == {
        "type": "s3",
        "s3-bucket": "hospital",
        "s3-key-secret": "a=b:c",
        "path": "/two",
    }
    for text, repo in (
        (SITE, 3),
        ("[global]\nrepo1-path=/x\nrepo1-host=b", 1),
        ("[global]\nrepo1-type=sftp\nrepo1-path=/x", 1),
        ("repo1-path=/outside", 1),
    ):
        with pytest.raises(ValueError):
            read_configuration(text, repo)


def test_everything_pgbackrest_writes_of_its_own_lies_in_the_runs_directory():
    text = configuration({"path": "/srv/one"}, Path("/run/x")).reveal().decode()
    assert "repo1-path=/srv/one\n" in text
    for name in ("log-path", "lock-path", "spool-path"):
        assert f"{name}=/run/x\n" in text


def test_settings_name_one_place():
    PgBackRestSettings(type="pgbackrest", path="/srv")
    for wrong in (
        {},
        {"path": "relative"},
        {"path": "/srv", "credentials": {"backend": {"credential": "x"}}},
        {"path": "/srv", "stanza": "main"},
    ):
        with pytest.raises(ValidationError):
            PgBackRestSettings.model_validate({"type": "pgbackrest", **wrong})


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [
        ("ERROR: [041]: unable to open '/x': [13] Permission denied", AccessRefused, "permission"),
        ("ERROR: [082]: [28] No space left on device", MissingMeans, "no_disk"),
        ("ERROR: [049]: unable to get address for 'nas': [-2] Name or service", Unreachable, "dns"),
        ("ERROR: [049]: unable to connect to 'nas:443': [111] Connection refused", Unreachable,
         "refused"),
        ("ERROR: [095]: unable to verify certificate presented by 'nas'", Unreachable, "tls"),
        ("ERROR: [039]: HTTP request failed with 403 (Forbidden)", AccessRefused, "authentication"),
        ("ERROR: [039]: HTTP request failed with 503 (Slow Down)", Unreachable, "http_5xx"),
        ("ERROR: [050]: unable to acquire lock on file", Locked, "lock_alive"),
        ("ERROR: [075]: backup set 20260101-000000F is not valid", Changing, "repository_changed"),
        ("ERROR: [055]: unable to open missing file '/r/x' for read", BackupDefect,
         "missing_object"),
        ("ERROR: [029]: raised from local-1 protocol: lz4 error: [-18] ERROR_contentChecksum_invalid",
         BackupDefect, "corrupt"),
        ("ERROR: [095]: unable to flush", BackupDefect, "corrupt"),
        ("ERROR: [037]: restore command requires option: pg1-path", Misunderstood,
         "unclassified_stderr"),
        ("segmentation fault", Misunderstood, "unknown_exit"),
    ],
    ids=lambda value: value if isinstance(value, str) and "[" not in value else "",
)  # fmt: skip
def test_whose_fault_an_error_is(text: str, error: type, code: str):
    found = failure(Completed(returncode=1, stdout=text.encode(), stderr=b""), "pg")
    assert (type(found), found.code) == (error, code)


def test_a_cipher_that_does_not_open_is_the_keys_fault_until_the_key_is_proved():
    done = Completed(returncode=95, stdout=b"ERROR: [095]: unable to flush", stderr=b"")
    assert isinstance(failure(done, "pg", key_proved=False), AccessRefused)
    assert isinstance(failure(done, "pg", key_proved=True), BackupDefect)


FULL, DIFF = "20261122-111001F", "20261122-111001F_20261122-111003D"


def said(
    status: str, log: str = "0, checksum invalid: 0", diff: str = "valid", valid: int = 9
) -> str:
    return f"""stanza: main
status: {status}
  archiveId: 15-1, total WAL checked: 11, total valid WAL: 11
    missing: {log}, size invalid: 0, other: 0
  backup: {FULL}, status: valid, total files checked: 9, total valid files: 9
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: {DIFF}, status: {diff}, total files checked: 9, total valid files: {valid}
    missing: {9 - valid}, checksum invalid: 0, size invalid: 0, other: 0
"""


def test_what_verify_says():
    assert parse_report(said("ok"), [FULL, DIFF]) == Report(log=None, backups=None, damaged=())
    assert parse_report(said("error", diff="invalid", valid=8), [FULL, DIFF]) == Report(
        log=None, backups="missing_object", damaged=(DIFF,)
    )
    log = parse_report(said("error", log="0, checksum invalid: 1"), [FULL, DIFF])
    assert log is not None
    assert (log.log, log.backups) == ("corrupt", None)


def test_a_backup_that_verify_does_not_name_was_not_found():
    report = parse_report(said("error"), [FULL, DIFF, "20261123-000000F"])
    assert report is not None
    assert (report.backups, report.damaged) == ("missing_object", ("20261123-000000F",))


@pytest.mark.parametrize(
    "text",
    ["", "stanza: main\nstatus: ok\n", said("error"), said("ok", diff="invalid", valid=8),
     said("fine"), said("ok")[:30]],
    ids=["nothing", "no results", "an error nowhere", "ok in spite of it", "a new word", "cut"],
)  # fmt: skip
def test_what_is_not_understood_is_no_pass(text: str):
    with pytest.raises(ValueError):
        parse_report(text, [FULL, DIFF])


def test_a_repository_of_which_nothing_was_read():
    text = "stanza: main\nstatus: error\n  No usable backup.info file\n"
    assert parse_report(text, []) is None
