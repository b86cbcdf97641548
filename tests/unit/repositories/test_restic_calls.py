from pathlib import Path

import pytest
from pydantic import ValidationError

from backupguard.contracts import Credentials, SecretReference
from backupguard.repositories.restic_calls import OPTIONS, Call, Refused, with_credentials
from backupguard.repositories.restic_fetch import literal
from backupguard.repositories.restic_settings import (
    Backend,
    ResticSettings,
    backend_of,
    bytes_per_second,
    ssh_target,
)
from backupguard.repositories.selecting import candidates

READER = Credentials(reader=SecretReference(credential="restic-nas"))
CHANGING = (
    *("backup", "copy", "forget", "prune", "tag", "rewrite", "repair", "recover", "migrate"),
    *("unlock", "init", "key", "mount", "self-update", "rebuild-index", "cache", "dump", "find"),
)


def settings(url: str, **more) -> ResticSettings:
    return ResticSettings(**{"type": "restic", "url": url, "credentials": READER, **more})


@pytest.mark.parametrize("verb", CHANGING)
def test_a_verb_that_is_not_on_the_list_cannot_be_called(verb: str):
    with pytest.raises(Refused):
        Call(verb=verb)


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("check", {"options": (("--read-data", "true"),)}),
        ("check", {"options": (("--read-data-subset", "5%"),)}),
        ("check", {"options": (("--with-cache", "true"),)}),
        ("restore", {"options": (("--delete", "true"),)}),
        ("restore", {"options": (("--overwrite", "always"),)}),
        ("restore", {"options": (("--verify", "false"),)}),
        ("snapshots", {"options": (("--no-lock", "false"),)}),
        ("snapshots", {"options": (("--password-command", "sh"),)}),
        ("snapshots", {"options": (("--repo", "/elsewhere"),)}),
        ("snapshots", {"arguments": ("latest",)}),
        ("cat", {"arguments": ("masterkey",)}),
        ("cat", {"arguments": ()}),
        ("list", {"arguments": ("keys",)}),
        ("snapshots", {"write": (Path("/srv"),)}),
        ("check", {"write": (Path("/srv"),)}),
    ],
)
def test_options_and_objects_are_on_a_list_too(verb: str, more):
    with pytest.raises(Refused):
        Call(verb=verb, **more)


def test_what_is_needed_is_on_the_list():
    for verb in OPTIONS:
        if verb not in {"cat", "list"}:
            Call(verb=verb)
    Call(verb="cat", arguments=("lock", "ab"))
    Call(verb="check", options=(("--read-data-subset", "3/32"),))
    Call(verb="restore", arguments=("ab",), options=(("--target", "/x"),), write=(Path("/x"),))


@pytest.mark.parametrize(
    ("url", "backend"),
    [
        ("/srv/backup", Backend.LOCAL),
        ("local:/srv/backup", Backend.LOCAL),
        ("/srv/with:colon", Backend.LOCAL),
        ("rest:https://nas.example/dpi", Backend.REST),
        ("sftp:reader@nas:/dpi", Backend.SFTP),
        ("s3:https://s3.example/bucket", Backend.S3),
    ],
)
def test_backends_are_recognised(url: str, backend: Backend):
    assert backend_of(url) is backend
    assert settings(url).backend is backend


@pytest.mark.parametrize(
    "url",
    [
        *("", "relative/path", "local:relative", "rclone:x:y", "b2:bucket", "azure:c:/", "rest:"),
        *("rest:https://user:secret@nas/dpi", "rest:ftp://nas/dpi", "rest:https:///dpi"),
        *("sftp://reader:secret@nas/dpi", "sftp:reader:secret@nas:/dpi"),
        *("sftp:-oProxyCommand=sh:/dpi", "sftp:a b:/dpi", "sftp://x@-oProxyCommand/dpi"),
    ],
)
def test_what_is_no_place_or_holds_a_password_is_refused(url: str):
    with pytest.raises(ValidationError):
        settings(url)


def test_a_password_must_be_named():
    with pytest.raises(ValidationError, match="reader"):
        settings("/srv/backup", credentials=Credentials())


def test_unknown_keys_are_refused():
    with pytest.raises(ValidationError):
        ResticSettings.model_validate(
            {"type": "restic", "url": "/srv", "credentials": READER, "passwort": "x"}
        )


def test_the_user_of_a_rest_server_is_quoted_into_its_url():
    assert (
        with_credentials("rest:https://nas.example:8000/dpi/", "reader:p@ss:wö/rd")
        == "rest:https://reader:p%40ss%3Aw%C3%B6%2Frd@nas.example:8000/dpi/"
    )


def test_ssh_targets_in_both_forms():
    assert ssh_target("sftp:reader@nas:/dpi") == ("reader@nas", None)
    assert ssh_target("sftp://reader@nas:2222//dpi") == ("reader@nas", "2222")
    assert ssh_target("sftp:nas:dpi") == ("nas", None)


def test_bandwidths():
    assert bytes_per_second("50MB/s") == 50_000_000
    assert bytes_per_second("800kB/s") == 800_000
    for wrong in ("50MB", "fast", "50 Mbit/s"):
        with pytest.raises(ValueError, match="bandwidth"):
            bytes_per_second(wrong)


def test_a_pattern_for_one_path_only():
    assert literal("/srv/plain.sql") == "/srv/plain.sql"
    assert literal("/srv/[a]*?\\.sql") == "/srv/\\[a]\\*\\?\\\\.sql"


def test_where_a_path_may_lie_in_a_tree():
    assert candidates("/var/backups/dpi") == ("/var/backups/dpi", "/backups/dpi", "/dpi")
    assert candidates("/") == ("/",)
    assert candidates("etc/dpi") == ("/etc/dpi", "/dpi")
