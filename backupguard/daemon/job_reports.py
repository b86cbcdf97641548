"""`POST /api/v1/runs`: a backup job reports its own run, and shows the token of that job.

The daemon opens no repository: it checks the token and lays the report into the spool, where the next
inventory finds it. What it answers tells a stranger nothing: not which jobs there are.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from backupguard.errors import BackupGuardError, Misunderstood
from backupguard.job_reports import JobReport, read_report, too_far_ahead, write_report
from backupguard.model import require_utc
from backupguard.repositories.reported import ReportedSettings
from backupguard.settings import Settings
from backupguard.settings.secrets import read_secret

events = structlog.get_logger(__name__)

#: Reports of one job in a minute, and of all who show no right token together.
PER_MINUTE = 120
_TOO_MANY = (429, "too many reports, try again in a minute")
#: A report of a run older than this is refused: whoever took down an old one cannot use it later.
OLDEST = timedelta(days=7)


class JobReports:
    """Takes reports over HTTP for the settings that hold now."""

    def __init__(self, settings: Callable[[], Settings], now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._minute = 0
        self._seen: Counter[str] = Counter()

    def take(self, token: str | None, body: bytes) -> tuple[int, str]:
        """Given the bearer token and the body of a request, return the status and one line.

        201 laid into the spool · 200 known already · 400 no report · 401 token missing, wrong, or of
        another job · 409 another report of that run stands · 422 its times cannot be · 429 too many ·
        503 the spool or the token's file cannot be used.
        """
        try:
            report = read_report(body)
        except Misunderstood as error:
            return 400, f"no report: {error.message.values.get('program', '')}"
        settings = self._of(report)
        known = self._token(settings, report.job) if settings is not None else b""
        if known is None:
            return 503, "the token of this job cannot be read"
        # Compared also where there is none: an answer takes as long for a job that does not exist.
        if not hmac.compare_digest((token or "").encode(), known) or not known or settings is None:
            if self._too_many(""):
                return _TOO_MANY
            events.warning("job-report.refused", code="authentication")
            return 401, "not a report of this token's job"
        # Counted by job, once it has shown its token: no stranger can use up what is a job's.
        if self._too_many(report.job):
            return _TOO_MANY
        now = require_utc(self._now())
        if too_far_ahead(report, now) or require_utc(report.started_at) < now - OLDEST:
            return 422, "the run's times are in the future or too long ago"
        try:
            is_new = not (settings.spool / report.job / f"{report.id}.json").exists()
            write_report(settings.spool, report)
        except FileExistsError:
            return 409, "another report of this run stands"
        except OSError as error:
            events.warning("job-report.spool", job=report.job, error=error.strerror)
            return 503, "the spool cannot be written"
        events.info("job-report.taken", job=report.job, state=report.state.value)
        return (201, "taken") if is_new else (200, "known")

    def _of(self, report: JobReport) -> ReportedSettings | None:
        """Return the settings of the repository that this job reports to, None when there is none."""
        application, _, job = report.job.partition(".")
        owner = self._settings().applications.get(application)
        backup = owner.backups.get(job) if owner is not None else None
        if backup is None:
            return None
        found = self._settings().repositories[backup.repository]
        return found if isinstance(found, ReportedSettings) else None

    def _token(self, settings: ReportedSettings, job: str) -> bytes | None:
        """Return a job's token, empty where it has none; None when its file cannot be used."""
        reference = settings.tokens.get(job)
        if reference is None:
            return b""
        try:
            return read_secret(reference).reveal()
        except BackupGuardError as error:
            events.warning("job-report.token", job=job, code=error.code)
            return None

    def _too_many(self, who: str) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._seen = minute, Counter()
        self._seen[who] += 1
        return self._seen[who] > PER_MINUTE
