"""Veeam Backup & Replication 12 and 13 through its REST interface: jobs, sessions, restore points.

Built against the interface's published description
(https://helpcenter.veeam.com/references/vbr/12/rest/) and never seen against a live server: `unproven`
until a person confirms it on the site. Nothing is ever asked but by GET, after one POST to log in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from backupguard.contracts import (
    Capability,
    Context,
    JobRun,
    JobSelector,
    Protection,
    ProtectionState,
    RepositoryState,
)
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.model import PointKind, PointState, RecoveryPoint
from backupguard.outputs import parse_version
from backupguard.repositories.devices import device_of_host
from backupguard.repositories.directory_names import percent
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.rest import Rest
from backupguard.repositories.rest_settings import RestSettings

#: Who says so: the product itself.
_VENDOR = "vendor"
_OLDEST, _NEWEST = (12,), (14,)
_PAGE = 500
#: Version 12 calls its restore points after the objects they are of.
_POINTS_12 = ("1.1-rev0", "/api/v1/objectRestorePoints")
_POINTS_13 = ("1.3-rev0", "/api/v1/restorePoints")
_RESULTS = {
    "Success": PointState.COMPLETE,
    "Warning": PointState.WARNING,
    "Failed": PointState.FAILED,
}


class VeeamSettings(RestSettings):
    """A backup server, normally https://HOST:9419.

    `user` logs in with the password of `credentials.reader`; the role Veeam Backup Viewer is enough.
    `select.name` chooses jobs, `select.host` machines, both as patterns.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["veeam"]
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Backup:
    """What is known of a backup (a chain): its job, and how long its repository keeps it immutable."""

    job: str
    immutable: timedelta


class VeeamRepository(ListingOnly):
    """One backup server."""

    capabilities = frozenset({Capability.RUNS, Capability.PROTECTION})

    def __init__(self, identifier: str, settings: VeeamSettings, context: Context) -> None:
        super().__init__(identifier, context)
        self._settings = settings
        self._rest = Rest(
            context=context,
            identifier=identifier,
            base=settings.base,
            timeout_s=settings.timeout_s,
            trust=settings.trust,
            headers={"accept": "application/json", "x-api-version": _POINTS_12[0]},
        )
        self._jobs: tuple[JobSelector, ...] = ()
        self._version = ""
        self._points_path = ""
        self._immutable: dict[str, timedelta] = {}

    # ---- contract

    def inspect(self) -> RepositoryState:
        """Return the server's version and what is wrong with the account's rights."""
        self._log_in()
        return RepositoryState(
            tool="veeam",
            tool_version=self._version,
            device=device_of_host(self._settings.talks_to),
            warnings=("administrator_credential",) if self._is_administrator() else (),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per restore point of each machine in the jobs that are named."""
        self._jobs = tuple(jobs)
        self._log_in()
        backups = self._backups()
        for found in self._rest.pages(self._points_path, _PAGE):
            backup = backups.get(str(found.get("backupId")))
            if backup is None:
                continue  # of a backup that was deleted between the two listings
            machine = self._rest.text(found, "name")
            for selector in jobs:
                if fnmatchcase(backup.job, selector.name or "*") and fnmatchcase(
                    machine, selector.host or "*"
                ):
                    point = self._point(selector, machine, found)
                    self._immutable[point.native_id] = backup.immutable
                    yield point

    def runs(self, since: datetime) -> Iterator[JobRun]:
        """Yield the sessions of the jobs that were listed."""
        asked = {"createdAfterFilter": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        for session in self._rest.pages("/api/v1/sessions", _PAGE, **asked) if self._jobs else ():
            if session.get("sessionType") not in ("BackupJob", "BackupCopyJob", "AgentBackupJob"):
                continue
            name = str(session.get("name") or "")
            for selector in self._jobs:
                if fnmatchcase(name, selector.name or "*"):
                    yield self._run(selector, session)

    def protection(self, points: Iterable[RecoveryPoint]) -> Iterator[Protection]:
        """Yield until when the server says that a point's repository keeps it immutable.

        It is the server's word, not a proof; one it does not list any more is not locked.
        """
        if not self._immutable:
            self._log_in()
            backups = self._backups()
            for found in self._rest.pages(self._points_path, _PAGE):
                backup = backups.get(str(found.get("backupId")))
                if backup is not None:
                    self._immutable[percent(self._rest.text(found, "id"))] = backup.immutable
        for point in points:
            days = self._immutable.get(point.native_id, timedelta())
            yield Protection(
                native_id=point.native_id,
                job=point.job,
                mechanism=_VENDOR if days else "none",
                locked_until=point.at + days if days else None,
                objects=1,
                unlocked=0 if days else 1,
            )

    def protection_state(self) -> ProtectionState:
        """Return for how many days the server says it keeps backups immutable, at least."""
        self._log_in()
        days = [backup.immutable for backup in self._backups().values()]
        least = min(days, default=timedelta())
        return ProtectionState(
            mechanism=_VENDOR if any(days) else "none",
            retention_s=int(least.total_seconds()) if least else None,
            settings={"immutable-days": least.days, "backups": len(days)},
        )

    # ---- logging in

    def _log_in(self) -> None:
        if "authorization" in self._rest.headers:
            return
        reference = self._settings.credentials.reader
        if reference is None:
            raise AccessRefused("authentication", repository=self._identifier)
        password = self._context.secret(reference).reveal().decode("utf-8", "replace")
        form = {
            "grant_type": "password",
            "username": self._settings.user,
            "password": password,
        }
        status, body = self._context.http.post(
            self._rest.base + "/api/oauth2/token",
            headers={**self._rest.headers, "content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            timeout_s=self._settings.timeout_s,
            trust=self._settings.trust,
        )
        if status == 400:
            raise AccessRefused("authentication", repository=self._identifier)
        answer = self._rest.understood(status, body)
        if not isinstance(answer, Mapping):
            raise self._rest.misunderstood()
        token = self._rest.text(answer, "access_token")
        self._rest.headers["authorization"] = f"Bearer {token}"
        self._look_at_version()

    def _look_at_version(self) -> None:
        found = self._rest.get("/api/v1/serverInfo")
        if not isinstance(found, Mapping):
            raise self._rest.misunderstood()
        self._version = self._rest.text(found, "buildVersion")
        known = parse_version(self._version)
        if not _OLDEST <= known < _NEWEST:
            raise MissingMeans("version_unsupported", repository=self._identifier)
        version, self._points_path = _POINTS_12 if known < (13,) else _POINTS_13
        self._rest.headers["x-api-version"] = version

    def _is_administrator(self) -> bool:
        """Tell whether the account may list stored credentials, which only administrators may."""
        try:
            self._rest.get("/api/v1/credentials", skip=0, limit=1)
        except (AccessRefused, Unreachable):
            return False
        return True

    # ---- what the server knows

    def _backups(self) -> dict[str, _Backup]:
        """Return every backup by its id, with its job and its repository's immutability."""
        days = {
            str(found.get("id")): timedelta(days=_immutable_days(found))
            for found in self._rest.pages("/api/v1/backupInfrastructure/repositories", _PAGE)
        }
        return {
            self._rest.text(found, "id"): _Backup(
                job=self._rest.text(found, "name"),
                immutable=days.get(str(found.get("repositoryId")), timedelta()),
            )
            for found in self._rest.pages("/api/v1/backups", _PAGE)
        }

    def _point(
        self, selector: JobSelector, machine: str, found: Mapping[str, Any]
    ) -> RecoveryPoint:
        at = self._rest.moment(found.get("creationTime"))
        kind = {"Full": PointKind.FULL, "Increment": PointKind.INCREMENTAL}.get(
            str(found.get("type")), PointKind.SNAPSHOT
        )
        infected = found.get("malwareStatus") in ("Infected", "Suspicious")
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=percent(self._rest.text(found, "id")),
            at=at,
            covers_until=at,
            kind=kind,
            # Veeam lists no restore point of a session that failed.
            state=PointState.WARNING if infected else PointState.COMPLETE,
            source_host=machine[:253],
            extra={"malware": str(found["malwareStatus"])} if infected else None,
        )

    def _run(self, selector: JobSelector, session: Mapping[str, Any]) -> JobRun:
        ended = session.get("endTime")
        result = session.get("result")
        said = result if isinstance(result, Mapping) else {}
        # A result that is not known is no failure that Veeam reports, nor a success.
        state = _RESULTS.get(str(said.get("result")), PointState.WARNING)
        if ended is None or session.get("state") not in ("Stopped", None):
            state, ended = PointState.RUNNING, None
        elif said.get("isCanceled"):
            state = PointState.FAILED
        return JobRun(
            job=selector.job,
            native_id=percent(self._rest.text(session, "id")),
            started_at=self._rest.moment(session.get("creationTime")),
            ended_at=self._rest.moment(ended) if ended is not None else None,
            state=state.value,
        )


def _immutable_days(repository: Mapping[str, Any]) -> int:
    """Return for how many days a repository says it keeps backups immutable; 0 where it says nothing.

    It stands in `repository` for hardened Linux ones, in `bucket.immutability` for object storage.
    """
    kept = repository.get("repository")
    bucket = repository.get("bucket")
    found = kept.get("makeRecentBackupsImmutableDays") if isinstance(kept, Mapping) else None
    if found is None and isinstance(bucket, Mapping):
        lock = bucket.get("immutability")
        if isinstance(lock, Mapping) and lock.get("isEnabled"):
            found = lock.get("daysCount")
    if not isinstance(found, int) or isinstance(found, bool):
        return 0
    return min(max(found, 0), 36500)


#: The entry point `veeam`.
VEEAM = ReadingType(
    "veeam",
    VeeamSettings,
    VeeamRepository,
    capabilities=VeeamRepository.capabilities,
    unproven=True,
)
