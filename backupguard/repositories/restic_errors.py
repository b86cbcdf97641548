"""What restic says when something goes wrong, and whose fault that is (restic 0.14 to 0.19).

Until 0.16 every failure is exit status 1 and a text; from 0.17 on 10, 11 and 12 have a meaning and,
with `--json`, errors are JSON objects on standard error. The tables below are read in order: what
lies between us and the repository comes before what accuses the repository, so that a connection
that breaks while a pack is read is never called corruption. Nothing of a message is kept but ids of
packs, indexes and snapshots: messages may contain file names of patients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

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
from backupguard.outputs import unknown_ending

#: Major and minor version of restic.
Version = tuple[int, int]

#: Exit status → (class, code), from 0.17 on (restic's documentation, "Exit codes").
EXITS_017: dict[int, tuple[type[BackupGuardError], str]] = {
    11: (Locked, "lock_alive"),
    12: (AccessRefused, "wrong_key"),
}
_REPOSITORY_MISSING = 10

_HOST_TROUBLE: tuple[tuple[re.Pattern[str], type[BackupGuardError], str], ...] = (
    (re.compile(r"no space left on device|disk quota exceeded"), MissingMeans, "no_disk"),
    (re.compile(r"cannot allocate memory|out of memory"), MissingMeans, "no_memory"),
    (re.compile(r"wrong password or no key found"), AccessRefused, "wrong_key"),
    (re.compile(r"already locked"), Locked, "lock_alive"),
    (
        re.compile(r"401 Unauthorized|403 Forbidden|\((401|403)\)|AccessDenied|Access Denied"),
        AccessRefused,
        "authentication",
    ),
    (
        re.compile(
            r"no credentials found|InvalidAccessKeyId|SignatureDoesNotMatch"
            r"|Permission denied \((publickey|password)|Host key verification failed|no identity"
        ),
        AccessRefused,
        "authentication",
    ),
    (re.compile(r"no such host|Could not resolve hostname|server misbehaving"), Unreachable, "dns"),
    (re.compile(r"x509:|tls:|certificate|HTTP response to HTTPS client"), Unreachable, "tls"),
    (
        re.compile(
            r"connection refused|Connection refused|network is unreachable|no route to host"
        ),
        Unreachable,
        "refused",
    ),
    (
        re.compile(
            r"i/o timeout|deadline exceeded|Client\.Timeout|timed out|connection reset|broken pipe"
            r"|connection lost|Connection closed|ssh command exited|kex_exchange|stuck|: EOF$"
        ),
        Unreachable,
        "timeout",
    ),
    (
        # No session, no repository: whatever ssh says of it, nothing was read.
        re.compile(r"unable to start the sftp session|error receiving version packet"),
        Unreachable,
        "refused",
    ),
    (
        re.compile(r"\b50[0234] [A-Z]|\(50[0234]\)|Service Unavailable|SlowDown|InternalError"),
        Unreachable,
        "http_5xx",
    ),
    (
        re.compile(r"permission denied|operation not permitted", re.IGNORECASE),
        AccessRefused,
        "permission",
    ),
    (re.compile(r"input/output error|stale NFS|stale file handle"), Unreachable, "refused"),
    # A page of HTML where JSON belongs is a proxy's, not the repository's.
    (re.compile(r"invalid character '<' looking for beginning"), Unreachable, "refused"),
)

_NOT_FOUND = re.compile(
    r"Is there a repository at|repository does not exist|unable to open config file"
    r"|NoSuchBucket|bucket does not exist|The specified bucket"
)
_IGNORED = re.compile(r"^Ignoring \"|failed to load snapshot|could not load snapshot")
_SNAPSHOT_GONE = re.compile(r"no matching ID found|no snapshot (?:found|matched)")

#: Ids of restic's objects, in full or as the ten characters that logs shorten them to.
_OBJECT = re.compile(
    r"(?:[Pp]ack(?:s| ID does not match, want)?|<?(?:data|index|snapshot)/)[ :]*([0-9a-f]{8,64})"
)

_MISSING_OBJECT = re.compile(
    r"does not exist|no such file|not found in (?:repository|(?:the )?index)|404 Not Found|\(404\)"
    r"|NoSuchKey|file not found|key does not exist"
)
_CORRUPT = re.compile(
    r"ciphertext verification failed|does not match|unexpected file size"
    r"|invalid data returned|hash does not match|wrong data returned|StreamPack"
    r"|decrypting blob|invalid (?:header|pack|type|character|entry)"
    r"|too short|header length|corrupt|zstd|magic number"
)
#: A transfer that ended early: damage where an object is named, a lost connection where none is.
_CUT = re.compile(r"unexpected EOF")
_DAMAGED = re.compile(r"repository contains errors|is damaged|[Dd]amaged (?:pack )?files")

#: Errors of `restore` that concern what surrounds the content: owner, attributes, devices. They are
#: expected where an ordinary user restores what root owned, and say nothing about the backup.
_METADATA = re.compile(
    r"\bl?chown\b|xattr|[Cc]hmod|UtimesNano|utimes|mknod|setfattr|[Ll][Ss]et|operation not supported"
    r"|failed to restore (?:timestamp|ownership|extended)"
)
_NOISE = re.compile(
    r"^\s*$|There were \d+ errors|returned error, retrying|operation successful after|^Load\("
    r"|^restoring |unable to open cache|created new cache|found \d+ old cache"
    r"|^Warning: Permanently added|Fatal: unable to (?:open|create) cache"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """What accuses the backup: the code and the ids of the objects named, and nothing else.

    `cut` says that nothing but the early end of a transfer does.
    """

    code: str
    objects: tuple[str, ...]
    cut: bool = False


class CutShort(BackupDefect):
    """An object ended too early: its bytes are missing, or a connection on the way to it broke."""


def messages(done: Completed) -> tuple[str, ...]:
    """Return the error messages of a call: lines of standard error, and their texts where JSON."""
    texts: list[str] = []
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("{"):
            texts.extend(_texts_of(text))
        elif text:
            texts.append(text)
    # 0.17 and later put some errors of `--json` on standard output.
    for raw in done.stdout.splitlines():
        if b'"message_type":"error"' in raw or b'"message_type":"exit_error"' in raw:
            texts.extend(_texts_of(raw.decode("utf-8", "replace")))
    return tuple(texts)


def _texts_of(line: str) -> tuple[str, ...]:
    try:
        value = json.loads(line)
    except ValueError:
        return (line,)
    error = value.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    text = value.get("message") or error or ""
    return tuple(part for part in str(text).splitlines() if part.strip())


def host_trouble(texts: Sequence[str]) -> BackupGuardError | None:
    """Return the error that lies between us and the repository, or None when nothing says so."""
    # A line that only concerns an attribute of a restored file says "operation not permitted" too.
    about = [text for text in texts if _CORRUPT.search(text) or not _METADATA.search(text)]
    # By cause before line: what ssh itself said may come after the session that was lost by it.
    for pattern, cls, code in _HOST_TROUBLE:
        if any(pattern.search(text) for text in about):
            return cls(code)
    return None


def defect(texts: Sequence[str]) -> Defect | None:
    """Return what accuses the backup in `texts`, or None."""
    worst: str | None = None
    cut, seen = False, False
    objects: dict[str, None] = {}
    for text in texts:
        if _CUT.search(text) and _OBJECT.search(text):
            worst, cut = "corrupt", True
        elif _MISSING_OBJECT.search(text) and not _METADATA.search(text):
            worst, seen = worst or "missing_object", True
        elif _CORRUPT.search(text):
            worst, seen = "corrupt", True
        elif _DAMAGED.search(text):
            worst = worst or "corrupt"
        objects.update(dict.fromkeys(_OBJECT.findall(text)))
    if worst is None:
        return None
    return Defect(code=worst, objects=tuple(objects)[:20], cut=cut and not seen)


def defect_error(found: Defect, repository: str) -> BackupDefect:
    """Return the error for a defect, naming objects by id only."""
    cls = CutShort if found.cut else BackupDefect
    return cls(
        found.code, repository=repository, objects=" ".join(name[:10] for name in found.objects[:5])
    )


def snapshot_gone(texts: Sequence[str]) -> bool:
    """Tell whether restic says that the snapshot asked for is not there."""
    return any(_SNAPSHOT_GONE.search(text) for text in texts)


def ignored_snapshots(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the messages by which restic, with status 0, leaves a snapshot out of a listing."""
    return tuple(text for text in texts if _IGNORED.search(text))


def unexplained(texts: Sequence[str]) -> bool:
    """Tell whether `texts` of a restore hold anything but noise and trouble with attributes."""
    return any(not _NOISE.search(text) and not _METADATA.search(text) for text in texts)


def failure(done: Completed, version: Version, repository: str) -> BackupGuardError:
    """Return the error for a call that did not end well; what is not in the tables is Misunderstood.

    Only what restic itself calls damaged becomes BackupDefect; the caller decides whether to look a
    second time before it raises that.
    """
    texts = messages(done)
    if version >= (0, 17) and done.returncode in EXITS_017:
        cls, code = EXITS_017[done.returncode]
        return cls(code, repository=repository)
    trouble = host_trouble(texts)
    if trouble is not None:
        return type(trouble)(trouble.code, repository=repository)
    if done.returncode == _REPOSITORY_MISSING or any(_NOT_FOUND.search(text) for text in texts):
        return Unreachable("not_found", repository=repository)
    if snapshot_gone(texts):
        return Changing("repository_changed", repository=repository)
    found = defect(texts)
    if found is not None and done.returncode in {0, 1}:
        return defect_error(found, repository)
    code = "unclassified_stderr" if done.returncode in {1, 3} and texts else unknown_ending(done)
    return Misunderstood(code, repository=repository, status=done.returncode)
