"""Jobs that report their own runs: what they laid into the spool, as points that they claim.

A report is a claim and nothing more: no byte of the copy has been seen. It says when a job ran and how
it ended; only a restore test of another repository proves what it left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from backupguard.contracts import (
    Context,
    Duration,
    JobSelector,
    RepositorySettings,
    RepositoryState,
    SecretReference,
)
from backupguard.errors import AccessRefused, Unreachable
from backupguard.job_reports import SPOOL, JobReport, OpenToAll, spooled, too_far_ahead
from backupguard.model import Message, Origin, PointKind, PointState, RecoveryPoint, require_utc
from backupguard.repositories.devices import device_of_record
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.opening import ReadingType

#: Code in `repository.inspected`: a file in the spool is no report of its job, or contradicts one.
REFUSED = "report_refused"


class ReportedSettings(RepositorySettings):
    """Jobs that report themselves.

    `tokens` maps a job ("dpi.nightly") to the secret it sends with a report over HTTP. A run that
    began and has not ended `abandoned-after` later has failed; reports older than `keep` are
    forgotten.
    """

    selects: ClassVar[frozenset[str]] = frozenset()

    type: Literal["reported"]
    spool: Path = SPOOL
    tokens: Mapping[str, SecretReference] = Field(default_factory=dict)
    abandoned_after: Duration = timedelta(hours=24)
    keep: Duration = timedelta(days=400)


class ReportedRepository(ListingOnly):
    """The reports of one repository's jobs: those in the spool, and those already recorded."""

    def __init__(self, identifier: str, settings: ReportedSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings
        self._refused = 0

    def inspect(self) -> RepositoryState:
        """Return where the spool lies; raises Unreachable (not_found), AccessRefused (permission)."""
        spool = self._settings.spool
        try:
            with os.scandir(spool):
                pass
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unreachable("not_found", repository=self._identifier) from error
        except OSError as error:
            raise AccessRefused("permission", repository=self._identifier) from error
        return RepositoryState(
            tool="reported",
            tool_version="1",
            device=device_of_record(self._identifier),
            warnings=(REFUSED,) if self._refused else (),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per reported run, failed and running ones included.

        What is recorded stays although its file is gone: the spool is a letter box, not an archive.
        """
        self.inspect()
        self._refused = 0
        oldest = self._context.now() - self._settings.keep
        for selector in jobs:
            known = self._context.known.points(selector.job, self._identifier)
            points = {point.native_id: point for point in known}
            for path, report in self._reports(selector.job):
                point = self._point(report)
                before = points.get(point.native_id)
                if before == point:
                    self._clear(path, point)
                elif before is None or before.ended_at is None:
                    points[point.native_id] = point
                else:  # the same run told in another way: what is recorded stays
                    self._refused += 1
            yield from (point for point in points.values() if point.at >= oldest)

    def _reports(self, job: str) -> Iterator[tuple[Path, JobReport]]:
        now = self._context.now()
        try:
            for found in spooled(self._settings.spool, job):
                self._context.cancel.raise_if_set()
                if found.report is None or too_far_ahead(found.report, now):
                    self._refused += 1
                else:
                    yield found.path, found.report
        except OpenToAll as error:
            values = {"path": str(error)}
            raise AccessRefused(
                "permission",
                Message(id="repositories.reported.everybody", values=values),
                Message(id="repositories.reported.close", values=values),
            ) from error
        except OSError as error:
            raise AccessRefused("permission", repository=self._identifier) from error

    def _point(self, report: JobReport) -> RecoveryPoint:
        started = require_utc(report.started_at)
        ended = require_utc(report.ended_at) if report.ended_at is not None else None
        state = report.state
        if state is PointState.RUNNING and self._abandoned(started):
            state = PointState.FAILED
        return RecoveryPoint(
            repository=self._identifier,
            job=report.job,
            native_id=report.id,
            at=started,
            covers_until=started,
            kind=PointKind.SNAPSHOT,
            state=state,
            started_at=started,
            ended_at=ended,
            bytes=report.bytes,
            files=report.files,
            source_host=report.host,
            extra={"exit_code": report.exit_code} if report.exit_code is not None else None,
        )

    def _abandoned(self, started: datetime) -> bool:
        return self._context.now() - started > self._settings.abandoned_after

    def _clear(self, path: Path, point: RecoveryPoint) -> None:
        """Take a report out of the letter box once it is recorded, where we may."""
        if point.ended_at is not None:
            with suppress(OSError):
                path.unlink()


#: The entry point `reported`.
REPORTED = ReadingType(
    "reported",
    ReportedSettings,
    ReportedRepository,
    capabilities=ReportedRepository.capabilities,
    origin=Origin.IMPORTED,
)
