"""Reads a pgBackRest repository and says which parts of it are as they were written.

Four units per stanza. Cheap, each time: `STANZA/structure` (every backup that is listed is there, with
all it needs) and `STANZA/continuity` (no segment of the log is missing), which pgBackRest's own
`verify` does not look at. By `verify`, which reads a whole stanza and nothing less: `STANZA/backups`
and `STANZA/log`. How much each run may read is saved up until it is enough for a stanza.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import VerifiedUnit, VerifyPlan
from backupguard.errors import Changing, Misunderstood
from backupguard.model import Verdict
from backupguard.repositories.pgbackrest_calls import Call, PgBackRestProgram
from backupguard.repositories.pgbackrest_errors import failure
from backupguard.repositories.pgbackrest_info import stanza_of
from backupguard.repositories.pgbackrest_points import Seen, see

_PARTS = ("structure", "continuity", "log", "backups")
_STATUS = re.compile(r"^status: (ok|error)$", re.MULTILINE)
_LOG = re.compile(
    r"^  archiveId: (?P<id>\S+), total WAL checked: (?P<checked>\d+), total valid WAL: (?P<valid>\d+)"
    r"(?:\n    (?P<faults>(?:missing|checksum invalid|size invalid|other): .*))?$",
    re.MULTILINE,
)
_BACKUP = re.compile(
    r"^  backup: (?P<label>\S+), status: (?P<status>[a-z -]+), total files checked: (?P<checked>\d+), "
    r"total valid files: (?P<valid>\d+)"
    r"(?:\n    (?P<faults>(?:missing|checksum invalid|size invalid|other): .*))?$",
    re.MULTILINE,
)
_FAULT = re.compile(r"(missing|checksum invalid|size invalid|other): (\d+)")
#: What `verify` says instead of results.
_NOTHING_READ = re.compile(r"No usable (?:backup|archive)\.info file|No (?:archives|backups) exist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `verify` said: per unit the code of the worst fault (None = none) and what it is in."""

    log: str | None
    backups: str | None
    damaged: tuple[str, ...]


def parse_report(text: str, labels: Sequence[str]) -> Report | None:
    """Given what `verify` printed as verbose text, return what it found; None if it read nothing.

    `labels` are the backups that stand: each must be named, or one is missing. Raise ValueError for
    text that this does not know: never a pass.
    """
    status = _STATUS.search(text)
    if status is None:
        raise ValueError("no status")
    if _NOTHING_READ.search(text):
        return None
    logs, backups = list(_LOG.finditer(text)), list(_BACKUP.finditer(text))
    log = _worst(match["faults"] for match in logs)
    if log is None and any(match["checked"] != match["valid"] for match in logs):
        log = "corrupt"
    faults: dict[str, str] = {}
    for match in backups:
        code = _worst([match["faults"]])
        if match["status"] not in {"valid", "in-progress"} or match["checked"] != match["valid"]:
            code = code or "corrupt"
        if code is not None:
            faults[match["label"]] = code
    for label in {*labels} - {match["label"] for match in backups}:
        faults[label] = "missing_object"
    if (status[1] == "ok") != (log is None and not faults):
        raise ValueError("status and results contradict one another")
    if not logs and not backups:
        raise ValueError("no results")
    codes = set(faults.values())
    return Report(
        log=log,
        backups="corrupt" if "corrupt" in codes else next(iter(codes), None),
        damaged=tuple(sorted(faults)),
    )


def _worst(said: Iterable[str | None]) -> str | None:
    """Given lines of faults, return the code of the worst: damaged before missing."""
    found = {name for line in said if line for name, count in _FAULT.findall(line) if int(count)}
    if found - {"missing"}:
        return "corrupt"
    return "missing_object" if found else None


class PgBackRestVerifier:
    """Verifies the stanzas of a plan."""

    def __init__(self, program: PgBackRestProgram) -> None:
        self._program = program
        memory = program.context.remember(f"pgbackrest-{program.identifier}")
        self._saved = memory / "saved.json"

    @staticmethod
    def units(names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all units of some stanzas."""
        return tuple(f"{name}/{part}" for name in names for part in _PARTS)

    def verify(self, plan: VerifyPlan, names: Sequence[str]) -> Iterator[VerifiedUnit]:
        """Yield the units of the plan, stanza by stanza."""
        left = plan.max_bytes
        total = len(self.units(names))
        for done, name in enumerate(names):
            self._program.context.progress(done, len(names), "stanzas")
            seen = see(self._program, name)
            if plan.structure:
                yield from self._cheap(seen, total)
            size = sum(one.stored or 0 for one in seen.stanza.backups)
            if plan.data_percent > 0 and self._may_read(name, size, plan.data_percent, left):
                yield from self._read(seen, size, total)
                left = None if left is None else max(0, left - size)

    def _cheap(self, seen: Seen, total: int) -> Iterator[VerifiedUnit]:
        name = seen.stanza.name
        yield _unit(
            f"{name}/structure",
            "missing_object" if seen.gone else None,
            total,
            objects=tuple(sorted(seen.gone)),
        )
        gaps = [
            f"{one.gap['first']}-{one.gap['last'] or ''}"
            for one in seen.covered.values()
            if one.gap is not None
        ]
        yield _unit(
            f"{name}/continuity",
            "wal_gap" if gaps else None,
            total,
            objects=tuple(sorted(set(gaps))),
        )

    def _read(self, seen: Seen, size: int, total: int) -> Iterator[VerifiedUnit]:
        report = self._look(seen)
        if report is not None and (report.log or report.backups):
            # An expiry meanwhile takes away what was to be read: only what is found twice counts.
            before = {one.label for one in seen.stanza.backups}
            self._program.context.cancel.raise_if_set()
            again = stanza_of(self._program, seen.stanza.name)
            if not before <= {one.label for one in again.backups}:
                raise Changing("repository_changed", repository=self._program.identifier)
            report = self._look(seen)
        if report is None:
            return
        name = seen.stanza.name
        yield _unit(f"{name}/log", report.log, total)
        yield _unit(f"{name}/backups", report.backups, total, size=size, objects=report.damaged)

    def _look(self, seen: Seen) -> Report | None:
        program = self._program
        done = program.run(
            Call(
                verb="verify",
                options=(
                    ("--stanza", seen.stanza.name),
                    ("--output", "text"),
                    ("--verbose", "y"),
                ),
                timeout_s=int(program.settings.verify_timeout.total_seconds()),
            )
        )
        if done.returncode != 0:
            raise failure(done, program.identifier)
        try:
            return parse_report(
                done.stdout.decode("utf-8", "replace"),
                [one.label for one in seen.stanza.backups if one.label not in seen.gone],
            )
        except ValueError as error:
            raise Misunderstood("output_unparsable", repository=program.identifier) from error

    # ---- what may be read

    def _may_read(self, name: str, size: int, percent: int, left: int | None) -> bool:
        """Tell whether a stanza may be read now, and keep what is saved up for it."""
        known = self._program.context.known.coverage(self._program.identifier)
        saved = dict(_load(self._saved))
        share = size * min(percent, 100) // 100
        available = saved.get(name, 0) + (share if left is None else min(share, left))
        never = f"{name}/backups" not in known and name not in saved and left is None
        due = never or available >= size
        saved[name] = 0 if due else available
        temporary = self._saved.with_suffix(".new")
        temporary.write_text(json.dumps(saved), encoding="ascii")
        temporary.replace(self._saved)
        return due


def _load(path: Path) -> Mapping[str, int]:
    try:
        return {str(name): int(count) for name, count in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # a cache: it may be emptied at any time


def _unit(
    unit: str, code: str | None, total: int, *, size: int = 0, objects: Sequence[str] = ()
) -> VerifiedUnit:
    return VerifiedUnit(
        unit=unit,
        verdict=Verdict.FAILED if code else Verdict.PASSED,
        bytes=size,
        code=code,
        units_total=total,
        objects=tuple(objects)[:20],
    )
