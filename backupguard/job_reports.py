"""What a backup job says of its own run: the form of a report, and the spool it is laid into.

A job that no other repository type knows reports itself: by `backupguard report-run`, by a JSON file
that it drops into the spool, or over HTTP. All three end as one file `SPOOL/JOB/ID.json`. Who may
write into `SPOOL/JOB` speaks for that job; nothing in a file is believed beyond its own job.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from backupguard.errors import Misunderstood
from backupguard.model import PointState, require_utc

#: Where reports are laid when no other place is configured.
SPOOL = Path("/var/spool/backupguard")
#: Bytes a report may have; a real one has three hundred.
REPORT_LIMIT = 16 * 1024
#: Files of one job that are looked at in one refresh.
FILES_LIMIT = 10_000
#: A clock of another host may be ahead by this much.
CLOCK_TOLERANCE = timedelta(minutes=10)

_SUFFIX = ".json"
_LARGEST = 2**53 - 1

_Count = Annotated[int, Field(ge=0, le=_LARGEST)]


class JobReport(BaseModel):
    """One run of a backup job, as the job itself tells it.

    `id` names the run for ever among its job's runs; times carry a zone; `bytes` and `files` are of
    what the run copied. `running` says that it began; the report of its end has the same `id`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    job: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,126}$")]
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
    state: PointState
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = None
    bytes: _Count | None = None
    files: _Count | None = None
    host: Annotated[str, StringConstraints(max_length=253, pattern=r"^[\x21-\x7e]+$")] | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ended = self.state is not PointState.RUNNING
        if ended != (self.ended_at is not None):
            raise ValueError("ended_at is given exactly when the run has ended")
        if self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError("the run ended before it began")
        if self.state is PointState.COMPLETE and self.exit_code not in (None, 0):
            raise ValueError("a run that is complete has the exit code 0")
        return self

    def replaces(self, other: JobReport) -> bool:
        """Tell whether this may take the place of another report of the same run: its end may."""
        return other.state is PointState.RUNNING and self.state is not PointState.RUNNING


def read_report(text: bytes) -> JobReport:
    """Return the report that `text` is. Raises Misunderstood (output_unparsable) with what is wrong."""
    if len(text) > REPORT_LIMIT:
        raise Misunderstood("output_unparsable", program=f"{len(text)} bytes")
    try:
        return JobReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        # Never the value: a hostile file must not write into messages.
        raise Misunderstood("output_unparsable", program=f"{where}: {first['type']}") from None


def write_report(spool: Path, report: JobReport, *, mode: int = 0o640) -> Path:
    """Lay a report into the spool, whole or not at all, and return its file.

    A report of the same run that stands is replaced by the report of its end only. Raises OSError;
    FileExistsError when a different report of that run stands.
    """
    directory = spool / report.job
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    place = directory / (report.id + _SUFFIX)
    body = report.model_dump_json(exclude_none=True).encode() + b"\n"
    standing = _standing(place)
    if standing == report:
        return place
    if standing is not None and not report.replaces(standing):
        raise FileExistsError(str(place))
    # A name with a dot in front is no report: a half-written file is never read.
    temporary = directory / f".{report.id}.{os.getpid()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return place


def _standing(place: Path) -> JobReport | None:
    try:
        handle = os.open(place, _OPEN)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        try:
            return read_report(file.read(REPORT_LIMIT + 1))
        except Misunderstood:
            raise FileExistsError(str(place)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file of the spool: the report in it, or (`report` None) that it was refused."""

    path: Path
    report: JobReport | None


_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenToAll(PermissionError):
    """A job's directory into which anybody may write; its argument is the path."""


def spooled(spool: Path, job: str) -> Iterator[Found]:
    """Yield what lies in a job's own directory, in order of names; nothing when it has none.

    Every file is hostile: only regular files with one name, owned by the directory's owner, by us or
    by root, of a bounded size, whose content names this job and their own id, are reports. Raises
    OSError when the directory cannot be read, OpenToAll when anybody may write into it.
    """
    try:
        directory = os.open(
            spool / job, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except FileNotFoundError:
        return
    try:
        status = os.fstat(directory)
        if status.st_mode & stat.S_IWOTH:
            raise OpenToAll(str(spool / job))
        trusted = {0, os.geteuid(), status.st_uid}
        with os.scandir(directory) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")
            )
        for name in names[:FILES_LIMIT]:
            report = _trusted_report(directory, name, trusted, job)
            yield Found(path=spool / job / name, report=report)
        for name in names[FILES_LIMIT:]:
            yield Found(path=spool / job / name, report=None)
    finally:
        os.close(directory)


def _trusted_report(directory: int, name: str, trusted: set[int], job: str) -> JobReport | None:
    try:
        handle = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        if status.st_uid not in trusted or status.st_size > REPORT_LIMIT:
            return None
        report = read_report(os.read(handle, REPORT_LIMIT + 1))
    except (OSError, Misunderstood):
        return None
    finally:
        os.close(handle)
    return report if report.job == job and report.id + _SUFFIX == name else None


def too_far_ahead(report: JobReport, now: datetime) -> bool:
    """Tell whether a report speaks of the future, beyond what a wrong clock explains."""
    latest = report.ended_at or report.started_at
    return require_utc(latest) > require_utc(now) + CLOCK_TOLERANCE
