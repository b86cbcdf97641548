"""What pgBackRest says when something goes wrong, and whose fault that is (2.45).

A message begins with the number or the name of a kind of error ("ERROR: [055]:", "[FormatError]"), and
messages nest. What lies between us and the repository comes first. A cipher that does not open what
it should is the key's fault until the key is known to be right (`key_proved`), then the backup's.
Nothing of a message is kept.
"""

from __future__ import annotations

import re

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

_HOST_TROUBLE: tuple[tuple[re.Pattern[str], type[BackupGuardError], str], ...] = (
    (re.compile(r"\[28\] No space left|\[122\] Disk quota"), MissingMeans, "no_disk"),
    (re.compile(r"\[12\] Cannot allocate memory|unable to allocate"), MissingMeans, "no_memory"),
    (re.compile(r"\[(?:13|1)\] (?:Permission denied|Operation not permitted)"), AccessRefused,
     "permission"),
    (
        re.compile(
            r"\b40[13] \(|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch"
            r"|AuthenticationFailed|AuthorizationFailure|ExpiredToken"
        ),
        AccessRefused,
        "authentication",
    ),
    (re.compile(r"unable to get address|Name or service not known|name resolution"), Unreachable,
     "dns"),
    (
        re.compile(r"certificate|unable to (?:negotiate|load) TLS|TLS error"),
        Unreachable,
        "tls",
    ),
    (re.compile(r"\[(?:111|113|101)\] |Connection refused|No route to host"), Unreachable, "refused"),
    (
        re.compile(r"timeout (?:connecting|waiting|after)|\[110\] |unexpected eof|unexpected EOF"),
        Unreachable,
        "timeout",
    ),
    (re.compile(r"\b50[0234] \(|SlowDown|ServiceUnavailable"), Unreachable, "http_5xx"),
    (re.compile(r"NoSuchBucket|ContainerNotFound"), Unreachable, "not_found"),
    (re.compile(r"\[(?:5|116|107)\] (?:Input/output|Stale|Transport)"), Unreachable, "refused"),
    (re.compile(r"\[050\]|LockAcquireError"), Locked, "lock_alive"),
)  # fmt: skip
_GONE = re.compile(r"\[075\]|BackupSetInvalidError|is not valid$", re.MULTILINE)
_MISSING = re.compile(r"\[055\]|FileMissingError|unable to open missing|missing file")
_CIPHER = re.compile(r"\[095\]|\[CryptoError\]|unable to flush")
_CORRUPT = re.compile(
    r"\[02[59]\]|\[FormatError\]|\[ChecksumError\]|actual checksum|does not match expected checksum"
    r"|contentChecksum|decompress|zst error|lz4 error|unexpected end|invalid checksum"
)
_RECOGNISED = re.compile(r"ERROR: \[(\d{3})\]")


def host_trouble(text: str) -> BackupGuardError | None:
    """Return the error that lies between us and the repository, or None when nothing says so."""
    for pattern, cls, code in _HOST_TROUBLE:
        if pattern.search(text):
            return cls(code)
    return None


def understood(text: str, repository: str, *, key_proved: bool) -> BackupGuardError | None:
    """Return the error that a message stands for, None when the tables do not know it."""
    trouble = host_trouble(text)
    if trouble is not None:
        return type(trouble)(trouble.code, repository=repository)
    if _GONE.search(text):
        return Changing("repository_changed", repository=repository)
    if _CIPHER.search(text) and not key_proved:
        return AccessRefused("wrong_key", repository=repository)
    if _CORRUPT.search(text) or _CIPHER.search(text):
        return BackupDefect("corrupt", repository=repository, objects="")
    if _MISSING.search(text):
        return BackupDefect("missing_object", repository=repository, objects="")
    return None


def failure(done: Completed, repository: str, *, key_proved: bool = True) -> BackupGuardError:
    """Return the error for a call that did not end well; what no table knows is Misunderstood."""
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    if done.oom:
        return MissingMeans("no_memory", repository=repository)
    error = understood(text, repository, key_proved=key_proved)
    if error is not None:
        return error
    code = "unclassified_stderr" if _RECOGNISED.search(text) else unknown_ending(done)
    return Misunderstood(code, repository=repository, status=done.returncode)
