"""Puts the data directory of a backup where a server can run on it, and checks its manifest.

Nothing of it is opened outside the sandbox. A link of the source's is never followed to what it named:
a tablespace is looked for in the artifact itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.model import CheckResult
from restore_tests import inside, shape
from restore_tests.postgresql_physical_recognise import TAR
from restore_tests.postgresql_server import DATA, ENVIRONMENT

_TAKEN = PurePosixPath("/scratch/taken")
_NO_SPACE = 91
_PACKAGES = {"xz": "xz-utils"}
_FACT = re.compile(r"([a-z]{2,20}) ([A-Za-z0-9_.-]{1,63})\Z")
_SEGMENT = re.compile(r"[0-9A-F]{24}\Z")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history\Z")
_START = re.compile(
    rb"^START WAL LOCATION: ([0-9A-F]{1,8})/([0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)$", re.MULTILINE
)

#: What pg_verifybackup says, counted: mismatches, files that are missing, files that are too many, the
#: manifest itself, anything else.
_VERIFY = r"""
said=$("$@" 2>&1); status=$?
count() { printf '%s\n' "$said" | grep -cE -e "$1"; }
echo "mismatch $(count 'checksum mismatch for file|has size .* on disk')"
echo "missing $(count 'in the manifest but not on disk')"
echo "extra $(count 'on disk but not in the manifest')"
echo "manifest $(count 'parse(ing)? backup manifest|manifest (checksum|ended|has no)')"
echo "system $(count 'system identifier')"
echo "status $status"
"""


@dataclass(slots=True, kw_only=True)
class Placed:
    """What lies in the data directory, before a server has seen it."""

    version: str
    label: bytes | None  # backup_label
    manifest: bool
    archive: bool  # the log came beside the data directory, from an archive
    log: frozenset[str] = field(default_factory=frozenset)  # segments and histories
    missing: bool = False  # a tablespace is not in the artifact

    @property
    def start(self) -> str | None:
        """The segment from which on the log is needed; None without a label."""
        found = _START.search(self.label or b"")
        return found[3].decode() if found else None


def put(trial: Trial) -> None:
    """Bring the data directory to `/scratch/data`; raises BackupDefect (truncated, corrupt, …)."""
    extra, form = trial.match.extra or {}, trial.match.format
    if not trial.sandbox.take(trial.artifact, _TAKEN):
        _run(trial, ["cp", "-R", "--no-dereference", "--", str(trial.artifact), str(_TAKEN)])
    facts = _facts(trial, "postgresql_place.sh", str(_TAKEN), str(extra["path"]), form)
    if "program" in facts:
        name = facts["program"][0]
        raise MissingMeans("program_missing", program=name, package=_PACKAGES.get(name, name))
    defects = [one for one in facts.get("defect", []) if one != "missing_object"]
    if defects:
        raise BackupDefect("truncated" if "truncated" in defects else "corrupt")
    if "version" not in facts:
        raise BackupDefect("missing_object" if form == TAR else "corrupt", objects="PG_VERSION")
    trial.memory["placed"] = Placed(
        version=facts["version"][0],
        label=_read(trial, "backup_label") if "label" in facts else None,
        manifest="manifest" in facts,
        archive="archive" in facts,
        missing="defect" in facts,
    )


def of(trial: Trial) -> Placed:
    """Return what was put into the data directory."""
    placed: Placed = trial.memory["placed"]
    return placed


def verify_manifest(trial: Trial, programs: Path) -> CheckResult | None:
    """Compare the files with the manifest; None where the tool that made the copy writes none.

    Raises BackupDefect (corrupt, missing_object): a file that differs from its own record is damaged.
    """
    placed = of(trial)
    if placed.missing:
        raise BackupDefect("missing_object", objects="tablespace")
    if not placed.manifest:
        # pgBackRest compares what it restores with its own manifest.
        if b"\nLABEL: pgBackRest" in (placed.label or b""):
            return None
        return shape.result("manifest", "no_manifest", wrong=True)
    argv = [str(programs / "pg_verifybackup"), "-n", DATA]
    done = trial.sandbox.run(
        ["/bin/sh", "-c", _VERIFY, "sh", *argv],
        scratch=True,
        environment=ENVIRONMENT,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
    )
    counts = {
        name: int(number)
        for name, _, number in (line.partition(" ") for line in done.stdout.decode().splitlines())
        if number.isdigit()
    }
    if counts.get("mismatch") or counts.get("manifest") or counts.get("system"):
        raise BackupDefect("corrupt", count=counts["mismatch"])
    if counts.get("missing"):
        raise BackupDefect("missing_object", count=counts["missing"])
    if counts.get("status") != 0 and not counts.get("extra"):
        raise Misunderstood("unclassified_stderr", program="pg_verifybackup")
    return shape.result("manifest", "manifest_extra", wrong=counts["extra"] > 0)


def settle(trial: Trial) -> None:
    """Take out what belongs to the source server's own life, and note which log there is."""
    done = _run(trial, ["/bin/sh", "-c", inside.text("postgresql_settle.sh"), "sh", DATA])
    names = done.decode("ascii", "replace").split()
    of(trial).log = frozenset(n for n in names if _SEGMENT.match(n) or _HISTORY.match(n))


def _read(trial: Trial, name: str) -> bytes:
    return trial.sandbox.read(PurePosixPath(DATA) / name, 1 << 16)


def _facts(trial: Trial, program: str, *arguments: str) -> dict[str, list[str]]:
    said = _run(trial, ["/bin/sh", "-c", inside.text(program), "sh", *arguments])
    facts: dict[str, list[str]] = {}
    for line in said.decode("ascii", "replace").splitlines():
        if match := _FACT.match(line):
            facts.setdefault(match[1], []).append(match[2])
    return facts


def _run(trial: Trial, argv: list[str]) -> bytes:
    done = trial.sandbox.run(
        argv,
        scratch=True,
        environment=ENVIRONMENT,
        timeout_s=int(trial.memory.get("timeout_s", 3600)),
        output_limit=64 << 20,
    )
    if done.returncode == _NO_SPACE:
        raise MissingMeans("no_disk")
    if done.returncode != 0 or done.truncated:
        raise Misunderstood("unknown_exit", program="sh", status=done.returncode)
    return done.stdout
