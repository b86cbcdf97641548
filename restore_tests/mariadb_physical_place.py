"""Lays a copy of mariadb-backup out in scratch, and says what lies there.

Nothing of it is opened outside the sandbox but its three small files of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from restore_tests import inside
from restore_tests.mariadb_physical_chain import Backup, chain, read
from restore_tests.mariadb_physical_recognise import CHECKPOINTS, INFOS, OPTIONS, STREAM
from restore_tests.mariadb_server import environment
from restore_tests.unpacking import READ

#: A directory for each backup, by its number.
BACKUPS = PurePosixPath("/scratch/backups")
_TAKEN = PurePosixPath("/scratch/taken")
_NO_SPACE, _ENDED = 91, 92
_PACKAGES = {"mbstream": "mariadb-backup", "xz": "xz-utils"}
_FACT = re.compile(r"(backups|program|defect) ([a-z0-9]{1,12})\Z")
_TEXT_BYTES = 1 << 16


def put(trial: Trial) -> Sequence[Backup]:
    """Lay the backups out; return the chain that restores the newest, its full one first.

    Raises BackupDefect (truncated, corrupt, base_missing) and MissingMeans, as `chain` does; those of
    another maker and those that this host cannot read are told as well.
    """
    extra = trial.match.extra or {}
    if not trial.sandbox.take(trial.artifact, _TAKEN):
        _run(trial, ["cp", "-R", "--no-dereference", "--", str(trial.artifact), str(_TAKEN)])
    streams = [word for pair in extra["streams"] for word in pair]
    script = READ + inside.text("mariadb_place.sh")
    facts = _facts(_run(trial, ["/bin/sh", "-c", script, "sh", str(_TAKEN), *streams]))
    if "program" in facts:
        name = facts["program"]
        raise MissingMeans("program_missing", program=name, package=_PACKAGES.get(name, name))
    if "defect" in facts:
        raise BackupDefect("truncated" if facts["defect"] == "truncated" else "corrupt")
    backups = [_read(trial, number) for number in range(int(facts.get("backups", "0")))]
    # A file is all that was fetched of a place where others may lie beside it.
    whole = not (trial.match.format == STREAM and streams[:1] == ["."])
    needed = chain(backups, whole=whole)
    trial.memory["unfinished"] = sum(not one.finished for one in backups)
    for one in needed:
        _require_readable(one)
    return needed


def _require_readable(backup: Backup) -> None:
    version = ".".join(map(str, backup.version or ("?",)))
    if backup.maker != "MariaDB":
        raise MissingMeans(
            "version_unsupported", program="mysqld", version=version, package="mysql-server"
        )
    if backup.compressed:
        raise MissingMeans(
            "version_unsupported", program="qpress", version=version, package="qpress"
        )
    if backup.encrypted:
        raise MissingMeans("tables_encrypted")
    if backup.partial:
        raise MissingMeans("partial_copy")


def place_of(backup: Backup) -> PurePosixPath:
    """Return where a backup lies."""
    return BACKUPS / str(backup.number)


def _read(trial: Trial, number: int) -> Backup:
    def first(*names: str) -> bytes:
        for name in names:
            try:
                return trial.sandbox.read(BACKUPS / str(number) / name, _TEXT_BYTES)
            except FileNotFoundError:
                continue
        return b""

    return read(number, first(*CHECKPOINTS), first(*INFOS), first(OPTIONS))


def _facts(said: bytes) -> dict[str, str]:
    lines = said.decode("ascii", "replace").splitlines()
    return {match[1]: match[2] for line in lines if (match := _FACT.match(line))}


def _run(trial: Trial, argv: list[str]) -> bytes:
    done = trial.sandbox.run(
        argv,
        scratch=True,
        environment=environment(),
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
    )
    if done.returncode == _NO_SPACE:
        raise MissingMeans("no_disk")
    if done.oom:
        raise MissingMeans("no_memory")
    if done.returncode != 0 or done.truncated:
        raise Misunderstood("unknown_exit", program="sh", status=done.returncode)
    return done.stdout
