import json

import pytest

from backupguard.contracts import Completed
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    Busy,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.borg_errors import EXITS_14, KINDS, extract_failure, failure

CHUNK = "ab" * 32


def ended(status: int, *said: tuple[str, str, str] | str) -> Completed:
    lines = [
        one
        if isinstance(one, str)
        else json.dumps(
            {"type": "log_message", "levelname": one[0], "msgid": one[1], "message": one[2]}
        )
        for one in said
    ]
    return Completed(returncode=status, stdout=b"", stderr="\n".join(lines).encode())


def error(kind: str, text: str = "") -> tuple[str, str, str]:
    return "ERROR", kind, text


@pytest.mark.parametrize(
    ("version", "done", "cls", "code"),
    [
        ((1, 2), ended(2, error("Repository.DoesNotExist")), Unreachable, "not_found"),
        ((1, 2), ended(2, error("Repository.InvalidRepository")), Unreachable, "not_found"),
        ((1, 2), ended(2, error("Archive.DoesNotExist")), Changing, "repository_changed"),
        ((1, 4), ended(31), Changing, "repository_changed"),
        ((1, 4), ended(13), Unreachable, "not_found"),
        ((1, 2), ended(13), Misunderstood, "unknown_exit"),
        ((1, 2), ended(2, error("PassphraseWrong")), AccessRefused, "wrong_key"),
        ((1, 4), ended(52), AccessRefused, "wrong_key"),
        (
            (1, 2),
            ended(2, error("IntegrityError", "[segment 2, offset 8]")),
            BackupDefect,
            "corrupt",
        ),
        ((1, 4), ended(90, error("IntegrityError")), BackupDefect, "corrupt"),
        ((1, 4), ended(92), BackupDefect, "corrupt"),
        ((1, 2), ended(2, error("Repository.ObjectNotFound")), BackupDefect, "missing_object"),
        # damage of our own cache, or of a file that borg makes anew
        ((1, 4), ended(91, error("FileIntegrityError")), Misunderstood, "unknown_exit"),
        ((1, 2), ended(2, error("LockTimeout")), Busy, "already_running"),
        ((1, 2), ended(2, error("Cache.RepositoryReplay")), Changing, "repository_changed"),
        (
            (1, 2),
            ended(2, error("Repository.InvalidRepositoryConfig", "version 2")),
            MissingMeans,
            "version_unsupported",
        ),
        (
            (1, 2),
            ended(
                2,
                ("WARNING", "", "Remote: Permission denied (publickey)."),
                error("ConnectionClosedWithHint"),
            ),
            AccessRefused,
            "authentication",
        ),
        (
            (1, 2),
            ended(
                2,
                ("WARNING", "", "Remote: ssh: Could not resolve hostname nas: unknown"),
                error("ConnectionClosedWithHint"),
            ),
            Unreachable,
            "dns",
        ),
        (
            (1, 2),
            ended(
                2,
                ("WARNING", "", "Remote: bash: line 1: /usr/bin/borg: No such file or directory"),
                error("ConnectionClosedWithHint"),
            ),
            MissingMeans,
            "program_missing",
        ),
        ((1, 2), ended(2, error("ConnectionClosed")), Unreachable, "refused"),
        (
            (1, 2),
            ended(2, error("Exception", "OSError: [Errno 28] No space left on device")),
            MissingMeans,
            "no_disk",
        ),
        (
            (1, 2),
            ended(
                2, error("Exception", "replay_segments\nOSError: [Errno 30] Read-only file system")
            ),
            Changing,
            "repository_changed",
        ),
        (
            (1, 2),
            ended(2, error("Exception", "[Errno 2] No such file or directory: '/srv/r/data/0/17'")),
            BackupDefect,
            "missing_object",
        ),
        (
            (1, 2),
            ended(2, error("Exception", "[Errno 13] Permission denied: '/srv/r/data/0/1'")),
            AccessRefused,
            "permission",
        ),
        (
            (1, 2),
            ended(2, error("Exception", "[Errno 5] Input/output error")),
            Unreachable,
            "refused",
        ),
        (
            (1, 2),
            ended(2, error("Exception", "something new")),
            Misunderstood,
            "unclassified_stderr",
        ),
        ((1, 2), ended(77), Misunderstood, "unknown_exit"),
        ((1, 2), ended(2, "[" * 100_000), Misunderstood, "unclassified_stderr"),
    ],
    ids=str,
)
def test_whose_fault_it_is(version, done, cls, code):
    found = failure(done, version, "nas")
    assert (type(found), found.code) == (cls, code)


def test_a_question_that_nobody_answers_is_told():
    for name, said in (("RELOCATED", "relocated"), ("UNKNOWN_UNENCRYPTED", "unencrypted")):
        line = json.dumps(
            {
                "type": "question_prompt",
                "msgid": f"BORG_{name}_REPO_ACCESS_IS_OK",
                "message": "Do you want to continue? [yN] ",
            }
        )
        found = failure(ended(2, line, error("Cache.RepositoryAccessAborted")), (1, 2), "nas")
        assert isinstance(found, AccessRefused)
        assert found.message.id == f"repositories.borg-{said}"


def test_nothing_of_a_message_is_kept_but_ids():
    done = ended(
        2, error("IntegrityError", f"/home/DUPONT.txt: Chunk {CHUNK} [segment 7, offset 8]")
    )
    assert dict(failure(done, (1, 2), "nas").message.values) == {
        "repository": "nas",
        "objects": "abababababab"[:10] + " segment-7",
    }


def test_warnings_of_owners_and_attributes_leave_it_to_the_count():
    assert extract_failure(ended(1, ("WARNING", "", "/a: chown: [Errno 1]")), (1, 2), "nas") is None
    assert extract_failure(ended(105, ("WARNING", "x", "a: mknod: [Errno 1]")), (1, 4), "n") is None
    for said in ("something new", "Include pattern 'x' never matched."):
        found = extract_failure(ended(1, ("WARNING", "", said)), (1, 2), "nas")
        assert isinstance(found, Misunderstood)
    zeroed = ended(1, ("WARNING", "", "File a has damaged (all-zero) chunks. Try borg check"))
    assert isinstance(extract_failure(zeroed, (1, 2), "nas"), BackupDefect)


def test_every_status_names_a_kind():
    assert {kind.rpartition(".")[2] for kind in EXITS_14.values()} <= set(KINDS)
