"""Prepares a chain of backups with mariadb-backup, and checks the pages that come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from backupguard.contracts import Completed, Trial
from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans, Misunderstood
from backupguard.model import CheckResult
from restore_tests import inside, shape
from restore_tests.mariadb_physical_chain import Backup
from restore_tests.mariadb_physical_place import BACKUPS, place_of
from restore_tests.mariadb_physical_server import PhysicalServer
from restore_tests.mariadb_server import DATA, environment

#: Its own words stay inside. The backup-my.cnf that it reads is ours: it would load any library that is
#: named there, whatever options are given.
_PREPARE = r"""
program=$1 settings=$2 base=$3 increment=$4; shift 4
for place in "$base" "${increment:-$base}"; do
  rm -rf "$place/backup-my.cnf" && printf '%s' "$settings" >"$place/backup-my.cnf" || exit 91
done
[ -e "${increment:-$base}/ib_logfile0" ] || { echo "word no_log"; exit 0; }
{ "$@" 2>&1; echo $? >/tmp/status; } | LC_ALL=C awk "$program"
echo "status $(cat /tmp/status)"
"""
_SETTLE = 'mv -T -- "$1" "$2" && rm -rf -- "$3" && mkdir -p /scratch/none /scratch/tmp'
_WORD = re.compile(r"(word|ended|status) ([a-z_]{1,20}|\d{1,20})\Z")
_COUNT = re.compile(r"(files|damaged|short|unknown) (\d{1,12})\Z")
#: What mariadb-backup says, worst for us first: those of this host, then those of the backup.
_MEANS = {"no_disk": "no_disk", "no_memory": "no_memory", "key": "tables_encrypted"}
_DEFECTS = {
    "unfit": "base_missing",
    "unfinished": "truncated",
    "no_log": "missing_object",
    "cut_log": "truncated",
    "cut_file": "truncated",
    "bad_log": "corrupt",
    "corrupt": "corrupt",
}
#: From this version on the log is said to end where the backup said, to the byte.
_EXACT_SINCE = (10, 8)
_SYSTEM = "ibdata1"
_NO_SPACE = 91


def prepare(trial: Trial, server: PhysicalServer, backups: Sequence[Backup]) -> None:
    """Apply the log of each backup in turn, and put the result where a server can run on it.

    Raises BackupDefect (base_missing, truncated, corrupt, missing_object), MissingMeans.
    """
    base = backups[0]
    for one in backups:
        more = [] if one is base else [f"--incremental-dir={place_of(one)}"]
        argv = [
            *(str(server.tools / "mariadb-backup"), "--no-defaults", "--prepare"),
            *(f"--target-dir={place_of(base)}", *more, f"--use-memory={server.buffers_mib}M"),
            *("--tmpdir=/scratch/tmp", *server.data_options()),
        ]
        increment = str(place_of(one)) if more else ""
        arguments = [inside.text("mariadb_prepare.awk"), server.settings_file()]
        arguments += [str(place_of(base)), increment]
        done = _run(trial, ["/bin/sh", "-c", _PREPARE, "sh", *arguments, *argv])
        error = concluded(done.stdout, one, server.version)
        if done.oom or done.returncode == _NO_SPACE:
            error = MissingMeans("no_memory" if done.oom else "no_disk")
        if error is not None:
            raise error
    done = _run(
        trial, ["/bin/sh", "-c", _SETTLE, "sh", str(place_of(base)), str(DATA), str(BACKUPS)]
    )
    if done.returncode != 0:
        raise Misunderstood("unknown_exit", program="sh", status=done.returncode)


def concluded(said: bytes, backup: Backup, version: tuple[int, int]) -> BackupGuardError | None:
    """Return what the words of one preparation amount to; None where all of its log was applied."""
    words: set[str] = set()
    facts: dict[str, int] = {}
    for line in said.decode("ascii", "replace").splitlines():
        if (match := _WORD.match(line)) is not None:
            if match[1] == "word":
                words.add(match[2])
            elif match[2].isdigit():
                facts[match[1]] = int(match[2])
    for word, code in _MEANS.items():
        if word in words:
            return MissingMeans(code)
    if "version" in words:
        return version_unsupported(backup)
    for word, code in _DEFECTS.items():
        if word in words:
            return _defect(code, word)
    if facts.get("status") != 0 or "done" not in words:
        return Misunderstood(
            "unknown_exit", program="mariadb-backup", status=facts.get("status", -1)
        )
    if version >= _EXACT_SINCE and facts.get("ended", backup.last_lsn) < backup.last_lsn:
        return BackupDefect("truncated")
    return None


def _defect(code: str, word: str) -> BackupDefect:
    return BackupDefect(code, objects="ib_logfile0") if word == "no_log" else BackupDefect(code)


def version_unsupported(backup: Backup) -> MissingMeans:
    """Return the error for a backup whose log needs programs of its own version."""
    version = ".".join(map(str, backup.version or ("?",)))
    return MissingMeans(
        "version_unsupported", program="mariadb-backup", version=version, package="mariadb-backup"
    )


def pages(trial: Trial, server: PhysicalServer) -> CheckResult:
    """Verify the checksum of every page of InnoDB's files.

    Raises BackupDefect (corrupt, truncated) where one is wrong or missing.
    """
    listed = server.options.get("innodb_data_file_path", _SYSTEM)
    system = [part.partition(":")[0] for part in listed.split(";")]
    done = _run(
        trial,
        [
            *("/bin/sh", "-c", inside.text("mariadb_pages.sh"), "sh"),
            *(str(server.tools / "innochecksum"), str(DATA), *system),
        ],
    )
    lines = done.stdout.decode("ascii", "replace").splitlines()
    counts: Mapping[str, int] = {
        match[1]: int(match[2]) for line in lines if (match := _COUNT.match(line))
    }
    if done.oom:
        raise MissingMeans("no_memory")
    if counts.get("damaged"):
        raise BackupDefect("corrupt", count=counts["damaged"])
    if counts.get("short"):
        raise BackupDefect("truncated", count=counts["short"])
    if done.returncode != 0 or counts.get("unknown") != 0:
        raise Misunderstood("unknown_exit", program="innochecksum", status=done.returncode)
    return shape.result(
        "page-checksums", shape.OK, wrong=False, numbers={"files": counts.get("files", 0)}
    )


def _run(trial: Trial, argv: Sequence[str]) -> Completed:
    return trial.sandbox.run(
        argv,
        scratch=True,
        environment=environment(),
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
    )
