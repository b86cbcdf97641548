"""What slapcat counts of a directory: entries by class, and the newest change of each.

No entry and no attribute's value leaves the sandbox.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from backupguard.contracts import Completed, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import Fingerprint
from restore_tests import inside
from restore_tests.openldap_server import TOKEN, run, suffix_of, tokens
from restore_tests.survey import FLOOR, TOLERANCE, Survey

_COUNTED = """
awk=$1 messages=$2 limit=$3 floor=$4; shift 4
{ "$@" 2>/tmp/said; echo $? >/tmp/status; } | awk -v limit="$limit" -v floor="$floor" "$awk"
echo status $(cat /tmp/status)
awk "$messages" /tmp/said
"""
#: A program that ended over the bytes it read: SIGABRT, SIGBUS, SIGSEGV.
_CRASHED = frozenset({134, 135, 139})
_CLASS = re.compile(r"class ([A-Za-z][A-Za-z0-9-]{0,80}) (\d{1,15})\Z")
_NEWEST = re.compile(r"newest ([A-Za-z][A-Za-z0-9-]{0,80}) (\d{14})\Z")
#: Where a shape says of which directory it is.
ROOT = "suffix-"
_STAMP = "%Y%m%d%H%M%S"


def slapcat(trial: Trial, *options: str) -> list[str]:
    """Return what is counted of entries; raise BackupDefect (corrupt) when they cannot be read."""
    extra: Mapping[str, Any] = trial.match.extra or {}
    suffix = suffix_of(trial, extra)
    limit = (trial.point_at + TOLERANCE).astimezone(UTC).strftime(_STAMP)
    floor = datetime.fromisoformat(FLOOR).strftime(_STAMP)
    argv = ["/usr/sbin/slapcat", *trial.memory["configured"], "-b", suffix, *options]
    programs = (inside.text("openldap_survey.awk"), inside.text("openldap_messages.awk"))
    done = run(trial, ["/bin/sh", "-c", _COUNTED, "sh", *programs, limit, floor, *argv])
    error = unread(tokens(done), done, own=trial.match.format == "mdb")
    if error is not None:
        raise error
    if "entries" not in tokens(done):  # what counts them did not come to its end
        raise Misunderstood("output_unparsable", program="awk")
    return done.stdout.decode("ascii", "replace").splitlines()


def unread(said: Mapping[str, int], done: Completed, *, own: bool) -> BackupGuardError | None:
    """Return what it means that slapcat did not read all entries; None when it did.

    Only what LMDB itself says of its file, or a crash over it, accuses the backup; and only where that
    file is the backup's `own` and not one that was made here of an LDIF.
    """
    status = said.get("status")
    if status == 0:
        return None
    if said.get("no_memory") or done.oom:
        return MissingMeans("no_memory", program="slapcat")
    if own and (said.get("damaged") or status in _CRASHED):
        return BackupDefect("corrupt")
    return Misunderstood("unknown_exit", program="slapcat", status=-1 if status is None else status)


def surveyed(trial: Trial) -> Survey:
    """Return the shape of a directory, and how new it is."""
    lines = slapcat(trial)
    classes = {match[1]: int(match[2]) for line in lines if (match := _CLASS.match(line))}
    numbers = {match[1]: int(match[2]) for line in lines if (match := TOKEN.match(line))}
    return Survey(
        fingerprint=Fingerprint(
            tables=classes,
            objects={
                "password": numbers.get("passwords", 0),
                "group": numbers.get("groups", 0),
                "member": numbers.get("members", 0),
                root(trial): 1,
            },
        ),
        relations=frozenset(classes),
        newest=newest_of(lines),
    )


def newest_of(lines: Sequence[str]) -> dict[str, datetime]:
    """Return the newest change of the entries of each class, where it is one that can be true."""
    return {
        match[1]: datetime.strptime(match[2], _STAMP).replace(tzinfo=UTC)
        for line in lines
        if (match := _NEWEST.match(line))
    }


def root(trial: Trial) -> str:
    """Return what a directory is told from another by: its suffix, as a digest."""
    suffix = suffix_of(trial, trial.match.extra or {}).replace(" ", "").lower()
    return ROOT + hashlib.sha256(suffix.encode()).hexdigest()[:12]
