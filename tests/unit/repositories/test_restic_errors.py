import pytest

from backupguard.contracts import Completed
from backupguard.errors import (
    AccessRefused,
    BackupDefect,
    BackupGuardError,
    Changing,
    Locked,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.repositories.restic_errors import (
    CutShort,
    defect,
    failure,
    ignored_snapshots,
    messages,
    unexplained,
)

PACK = "8355127365fae1ac91e033439aa687c6d84efecc94224910e040052cad296a1b"


def ended(status: int, *lines: str) -> Completed:
    return Completed(returncode=status, stdout=b"", stderr="\n".join(lines).encode())


@pytest.mark.parametrize(
    ("version", "done", "cls", "code"),
    [
        ((0, 14), ended(1, "Fatal: wrong password or no key found"), AccessRefused, "wrong_key"),
        ((0, 18), ended(12), AccessRefused, "wrong_key"),
        (
            (0, 18),
            ended(1, "Fatal: unable to start the sftp session, error: unexpected EOF"),
            Unreachable,
            "refused",
        ),
        (
            (0, 18),
            ended(
                1,
                "Fatal: unable to start the sftp session, error: error receiving version packet",
                "subprocess ssh: backup@nas: Permission denied (publickey).",
            ),
            AccessRefused,
            "authentication",
        ),
        ((0, 18), ended(1, "Fatal: unexpected EOF"), Misunderstood, "unclassified_stderr"),
        ((0, 18), ended(1, f"Load(<data/{PACK}>): unexpected EOF"), CutShort, "corrupt"),
        (
            (0, 18),
            ended(
                1,
                f"Load(<data/{PACK}>): unexpected EOF",
                f"pack {PACK}: unexpected file size: got 5, expected 9",
            ),
            BackupDefect,
            "corrupt",
        ),
        ((0, 14), ended(12), Misunderstood, "unknown_exit"),
        ((0, 18), ended(11, "anything"), Locked, "lock_alive"),
        (
            (0, 18),
            ended(1, "Fatal: invalid character '<' looking for beginning of value"),
            Unreachable,
            "refused",
        ),
        ((0, 18), ended(1, "Load: invalid character '\\x12' in string"), BackupDefect, "corrupt"),
        ((0, 14), ended(1, "unable to create lock: repository is already locked"), Locked, None),
        ((0, 18), ended(10, '{"message_type":"exit_error","code":10}'), Unreachable, "not_found"),
        (
            (0, 14),
            ended(
                1,
                "Fatal: unable to open config file: stat /r/config: no such file or directory",
                "Is there a repository at the following location?",
            ),
            Unreachable,
            "not_found",
        ),
        (
            (0, 14),
            ended(1, "Fatal: config cannot be loaded: open /r/config: permission denied"),
            AccessRefused,
            "permission",
        ),
        (
            (0, 14),
            ended(
                1,
                'client.Head: Head "http://n/": lookup n: no such host',
                "Is there a repository at",
            ),
            Unreachable,
            "dns",
        ),
        (
            (0, 18),
            ended(1, "Fatal: server response unexpected: 401 Unauthorized (401)"),
            AccessRefused,
            None,
        ),
        (
            (0, 18),
            ended(1, "unexpected HTTP response (502): 502 Bad Gateway"),
            Unreachable,
            "http_5xx",
        ),
        ((0, 18), ended(1, "x509: certificate signed by unknown authority"), Unreachable, "tls"),
        ((0, 18), ended(1, "write /t/x: no space left on device"), MissingMeans, "no_disk"),
        (
            (0, 18),
            ended(1, 'Fatal: failed to find snapshot: no matching ID found for prefix "ab"'),
            Changing,
            "repository_changed",
        ),
        ((0, 14), ended(0, 'Ignoring "ab": no matching ID found for prefix "ab"'), Changing, None),
        (
            (0, 14),
            ended(
                1,
                "ignoring error for /a: ciphertext verification failed",
                "Fatal: There were 1 errors",
            ),
            BackupDefect,
            "corrupt",
        ),
        (
            (0, 14),
            ended(
                1,
                f"Load(<data/{PACK[:10]}>) returned error: open /d: no such file or directory",
            ),
            BackupDefect,
            "missing_object",
        ),
        (
            (0, 18),
            ended(1, "LoadRaw(<index/299bdce92b>): invalid data returned"),
            BackupDefect,
            "corrupt",
        ),
        ((0, 18), ended(1, "Fatal: a sentence of tomorrow"), Misunderstood, "unclassified_stderr"),
        ((0, 18), ended(2, "panic: goroutine"), Misunderstood, "unknown_exit"),
        ((0, 18), ended(137), Misunderstood, "program_killed"),
        ((0, 18), ended(1), Misunderstood, "unknown_exit"),
    ],
)
def test_who_is_to_blame(
    version: tuple[int, int], done: Completed, cls: type[BackupGuardError], code: str | None
):
    error = failure(done, version, "nas")
    assert type(error) is cls
    assert code is None or error.code == code


def test_a_connection_that_breaks_while_a_pack_is_read_is_no_corruption():
    done = ended(
        1,
        f"Load(<data/{PACK[:10]}>, 9, 0) returned error: connection reset by peer",
        f"pack {PACK} failed to download: StreamPack: ReadFull: unexpected EOF",
        "Fatal: repository contains errors",
    )
    assert type(failure(done, (0, 14), "nas")) is Unreachable


def test_errors_as_json_are_read_like_text():
    done = ended(
        1,
        '{"message_type":"error","error":{"message":"ReadFull(\\u003cdata/7a89a64352\\u003e): file is '
        'too short"},"during":"restore","item":"/patients/dupont.txt"}',
        '{"message_type":"exit_error","code":1,"message":"Fatal: There were 1 errors\\n"}',
    )
    assert messages(done) == (
        "ReadFull(<data/7a89a64352>): file is too short",
        "Fatal: There were 1 errors",
    )
    error = failure(done, (0, 18), "nas")
    assert error.code == "corrupt"
    assert "dupont" not in str(error)


def test_a_defect_names_packs_and_nothing_else():
    found = defect([f"pack {PACK}: does not exist", "ignoring error for /patients/martin: x"])
    assert found is not None
    assert (found.code, found.objects) == ("missing_object", (PACK,))


def test_snapshots_that_were_left_out():
    assert ignored_snapshots(['Ignoring "ab": failed to load snapshot ab: invalid data returned'])
    assert ignored_snapshots(["could not load snapshot ab: load <snapshot/ab>: invalid data"])
    assert not ignored_snapshots(["unable to open cache: permission denied"])


def test_attributes_that_cannot_be_restored_are_no_content():
    harmless = [
        "ignoring error for /a: xattr.LSet /t/a security.selinux: operation not permitted",
        "ignoring error for /a: lchown /t/a: operation not permitted",
        "Fatal: There were 2 errors",
    ]
    assert not unexplained(harmless)
    assert unexplained([*harmless, "ignoring error for /b: something else"])
