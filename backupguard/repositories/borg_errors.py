"""What borg says when something goes wrong, and whose fault that is (borg 1.2 to 1.4).

With `--log-json` every error carries the name of its kind (`msgid`), in all these versions; that
decides. Where it is missing, the exit statuses of 1.4 (`BORG_EXIT_CODES=modern`) stand for the same
names; 1.2 and 1.3 know 0, 1 and 2 only. What lies between us and the repository comes first. Nothing
of a message is kept but numbers of segments and ids of chunks: messages contain file names.
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
    Busy,
    Changing,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from backupguard.model import Message
from backupguard.outputs import unknown_ending

#: Major and minor version of borg.
Version = tuple[int, int]

#: Exit status → kind of error, from 1.4 on (borg's documentation, "Return codes").
EXITS_14: dict[int, str] = {
    12: "Repository.CheckNeeded",
    13: "Repository.DoesNotExist",
    15: "Repository.InvalidRepository",
    16: "Repository.InvalidRepositoryConfig",
    17: "Repository.ObjectNotFound",
    21: "Repository.PathPermissionDenied",
    25: "MandatoryFeatureUnsupported",
    26: "NoManifestError",
    31: "Archive.DoesNotExist",
    40: "KeyfileInvalidError",
    41: "KeyfileMismatchError",
    42: "KeyfileNotFoundError",
    44: "RepoKeyNotFoundError",
    50: "NoPassphraseFailure",
    51: "PasscommandFailure",
    52: "PassphraseWrong",
    53: "PasswordRetriesExceeded",
    61: "Cache.EncryptionMethodMismatch",
    64: "Cache.RepositoryReplay",
    70: "LockError",
    72: "LockFailed",
    73: "LockTimeout",
    80: "ConnectionClosed",
    81: "ConnectionClosedWithHint",
    83: "PathNotAllowed",
    84: "RemoteRepository.RPCServerOutdated",
    87: "ConnectionBrokenWithHint",
    90: "IntegrityError",
    92: "DecompressionError",
    95: "ArchiveTAMInvalid",
    97: "TAMInvalid",
}

#: Kind of error (its last part) → class and code.
KINDS: dict[str, tuple[type[BackupGuardError], str]] = {
    "DoesNotExist": (Unreachable, "not_found"),
    "InvalidRepository": (Unreachable, "not_found"),
    "InvalidRepositoryConfig": (MissingMeans, "version_unsupported"),
    "AtticRepository": (MissingMeans, "version_unsupported"),
    "MandatoryFeatureUnsupported": (MissingMeans, "version_unsupported"),
    "UnsupportedManifestError": (MissingMeans, "version_unsupported"),
    "UnsupportedPayloadError": (MissingMeans, "version_unsupported"),
    "TAMRequiredError": (MissingMeans, "version_unsupported"),
    "ArchiveTAMRequiredError": (MissingMeans, "version_unsupported"),
    "RPCServerOutdated": (MissingMeans, "version_unsupported"),
    "InvalidRPCMethod": (MissingMeans, "version_unsupported"),
    "PathPermissionDenied": (AccessRefused, "permission"),
    "PathNotAllowed": (AccessRefused, "permission"),
    "NoPassphraseFailure": (AccessRefused, "wrong_key"),
    "PasscommandFailure": (AccessRefused, "wrong_key"),
    "PassphraseWrong": (AccessRefused, "wrong_key"),
    "PasswordRetriesExceeded": (AccessRefused, "wrong_key"),
    "KeyfileInvalidError": (AccessRefused, "wrong_key"),
    "KeyfileMismatchError": (AccessRefused, "wrong_key"),
    "KeyfileNotFoundError": (AccessRefused, "wrong_key"),
    "RepoKeyNotFoundError": (AccessRefused, "wrong_key"),
    "EncryptionMethodMismatch": (AccessRefused, "wrong_key"),
    # Repositories are read without locks; these are about the cache, which is our own.
    "LockError": (Busy, "already_running"),
    "LockErrorT": (Busy, "already_running"),
    "LockFailed": (Busy, "already_running"),
    "LockTimeout": (Busy, "already_running"),
    "ConnectionClosed": (Unreachable, "refused"),
    "ConnectionClosedWithHint": (Unreachable, "refused"),
    "ConnectionBrokenWithHint": (Unreachable, "refused"),
    "UnexpectedRPCDataFormatFromServer": (Unreachable, "refused"),
    "RepositoryReplay": (Changing, "repository_changed"),
    "ObjectNotFound": (BackupDefect, "missing_object"),
    "CheckNeeded": (BackupDefect, "missing_object"),
    "NoManifestError": (BackupDefect, "missing_object"),
    "IntegrityError": (BackupDefect, "corrupt"),
    "IntegrityErrorBase": (BackupDefect, "corrupt"),
    "DecompressionError": (BackupDefect, "corrupt"),
    "TAMInvalid": (BackupDefect, "corrupt"),
    "ArchiveTAMInvalid": (BackupDefect, "corrupt"),
}
#: The kind of an archive that is not there ends like that of a repository.
_ARCHIVE_GONE = "Archive.DoesNotExist"

_HOST_TROUBLE: tuple[tuple[re.Pattern[str], type[BackupGuardError], str], ...] = (
    (re.compile(r"No space left on device|Disk quota exceeded"), MissingMeans, "no_disk"),
    (re.compile(r"Cannot allocate memory|MemoryError"), MissingMeans, "no_memory"),
    (
        re.compile(
            r"Permission denied \((publickey|password|keyboard)|Host key verification failed"
            r"|No \S+ host key is known|REMOTE HOST IDENTIFICATION HAS CHANGED"
        ),
        AccessRefused,
        "authentication",
    ),
    (re.compile(r"Could not resolve hostname"), Unreachable, "dns"),
    (
        re.compile(r"Connection refused|No route to host|Network is unreachable"),
        Unreachable,
        "refused",
    ),
    (
        re.compile(r"Connection timed out|Operation timed out|not responding|banner exchange"),
        Unreachable,
        "timeout",
    ),
    (
        re.compile(r"^Remote: \S*sh: .*(not found|No such file or directory)"),
        MissingMeans,
        "program_missing",
    ),
    (re.compile(r"Input/output error|Stale file handle|not connected"), Unreachable, "refused"),
)
#: A reader that finds the index behind the data wants to write a new one, which it may not.
_WANTS_TO_WRITE = re.compile(r"replay_segments|write_index|Read-only file system|EROFS")
_SEGMENT_GONE = re.compile(r"No such file or directory: '[^']*/data/\d+/(\d+)'")
_OBJECT = re.compile(r"\[segment (\d+)|[Cc]hunk (?:id )?([0-9a-f]{64})|with key ([0-9a-f]{64})")

#: Warnings of `extract` about what surrounds the content: owners, attributes, special files.
_METADATA = re.compile(
    r"\bchown\b|\bchmod\b|\butime|mknod|mkfifo|xattr|\bacl|[Ff]lags"
    r"|Operation not (?:permitted|supported)"
)
_ZEROED = re.compile(r"has damaged \(all-zero\) chunks")
_RELOCATED = "BORG_RELOCATED_REPO_ACCESS_IS_OK"
_UNENCRYPTED = "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of borg's: its kind ("" where it has none), its level, its text."""

    kind: str
    level: str
    text: str


def messages(done: Completed) -> tuple[Said, ...]:
    """Return what a call wrote to standard error: JSON lines of `--log-json`, and any other line."""
    found: list[Said] = []
    for raw in done.stderr.decode("utf-8", "replace").splitlines():
        line = raw.strip()
        try:
            value = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            found += [Said(kind="", level="", text=line)] if line else []
        elif value.get("type") in {"log_message", "question_prompt"}:
            kind, level = str(value.get("msgid") or ""), str(value.get("levelname") or "")
            found.append(Said(kind=kind, level=level, text=str(value.get("message") or "")))
    return tuple(found)


def objects(said: Sequence[Said]) -> tuple[str, ...]:
    """Return the segments (`segment-17`) and chunks (their ids) that messages name, at most 20."""
    found: dict[str, None] = {}
    for one in said:
        for segment in _SEGMENT_GONE.findall(one.text):
            found[f"segment-{segment}"] = None
        for segment, chunk, key in _OBJECT.findall(one.text):
            found[f"segment-{segment}" if segment else chunk or key] = None
    return tuple(found)[:20]


def _defect(code: str, said: Sequence[Said], repository: str) -> BackupDefect:
    names = " ".join(name[:10] for name in objects(said)[:5])
    return BackupDefect(code, repository=repository, objects=names)


def _explained(said: Sequence[Said], repository: str) -> BackupGuardError | None:
    """Return the error for a question that borg asked and nobody answered, None without one."""
    for one in said:
        if one.kind in {_RELOCATED, _UNENCRYPTED}:
            name = "relocated" if one.kind == _RELOCATED else "unencrypted"
            return AccessRefused(
                "permission",
                Message(id=f"repositories.borg-{name}", values={"repository": repository}),
                Message(id=f"repositories.borg-{name}.remedy"),
            )
    return None


def _kind(done: Completed, said: Sequence[Said], version: Version) -> str:
    """Return the kind of the error that ended a call, "" where nothing tells it."""
    named = [one.kind for one in said if one.level in {"ERROR", "CRITICAL"} and one.kind]
    known = [kind for kind in named if kind == _ARCHIVE_GONE or kind.rpartition(".")[2] in KINDS]
    if known:
        return known[0]
    return EXITS_14.get(done.returncode, "") if version >= (1, 4) else ""


def failure(done: Completed, version: Version, repository: str) -> BackupGuardError:
    """Return the error for a call that did not end well; what is not in the tables is Misunderstood.

    A BackupDefect is what borg calls damaged at one look; the caller looks twice before it raises it.
    """
    said = messages(done)
    if done.oom:
        return MissingMeans("no_memory", program="borg")
    asked = _explained(said, repository)
    if asked is not None:
        return asked
    kind = _kind(done, said, version)
    if kind == _ARCHIVE_GONE:
        return Changing("repository_changed", repository=repository)
    cls, code = KINDS.get(kind.rpartition(".")[2], (None, ""))
    if cls is not None and not (cls is Unreachable and code == "refused"):
        return (
            _defect(code, said, repository)
            if cls is BackupDefect
            else cls(code, repository=repository)
        )
    for one in said:
        for pattern, trouble, trouble_code in _HOST_TROUBLE:
            if pattern.search(one.text):
                return trouble(trouble_code, repository=repository)
    if cls is not None:
        return cls(code, repository=repository)
    text = "\n".join(one.text for one in said)
    if _WANTS_TO_WRITE.search(text):
        return Changing("repository_changed", repository=repository)
    if _SEGMENT_GONE.search(text):
        return _defect("missing_object", said, repository)
    if "Permission denied" in text:
        return AccessRefused("permission", repository=repository)
    code = "unclassified_stderr" if done.returncode in {1, 2} and said else unknown_ending(done)
    return Misunderstood(code, repository=repository, status=done.returncode)


def extract_failure(done: Completed, version: Version, repository: str) -> BackupGuardError | None:
    """Return the error for an `extract` that did not end with 0.

    None when it only warned of owners, attributes and special files, which an ordinary user cannot
    restore: the caller then counts what came.
    """
    said = [one for one in messages(done) if one.level or one.text]
    if any(_ZEROED.search(one.text) for one in said):
        # borg's own repair put zeros where a chunk was lost: the file is not what was backed up
        return _defect("corrupt", said, repository)
    warned = done.returncode == 1 or 100 <= done.returncode < 128
    if warned and said and all(one.level == "WARNING" for one in said):
        if all(_METADATA.search(one.text) for one in said):
            return None
        return Misunderstood("unclassified_stderr", repository=repository, status=done.returncode)
    return failure(done, version, repository)
