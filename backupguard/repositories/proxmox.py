"""Proxmox Backup Server 2 and 3 through its REST interface: snapshots, its own tasks; only GET.

Built against the interface's published description (https://pbs.proxmox.com/docs/api-viewer/) and
never seen against a live server: `unproven` until a person confirms it on the site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from backupguard.contracts import (
    Capability,
    Context,
    JobRun,
    JobSelector,
    RepositoryState,
    refused_setting,
)
from backupguard.errors import AccessRefused, MissingMeans, Unreachable
from backupguard.model import PointKind, PointState, RecoveryPoint
from backupguard.outputs import parse_version
from backupguard.repositories.devices import device_of_host
from backupguard.repositories.directory_names import percent
from backupguard.repositories.listing_only import ListingOnly
from backupguard.repositories.opening import ReadingType
from backupguard.repositories.rest import Rest, path_part
from backupguard.repositories.rest_settings import RestSettings

_API = "/api2/json"
_OLDEST, _NEWEST = (2,), (5,)
#: Rights with which copies can be removed or others be given rights.
_ADMINISTRATOR = frozenset(
    {"Datastore.Modify", "Datastore.Prune", "Permissions.Modify", "Sys.Modify"}
)
_TASKS = 500


class ProxmoxSettings(RestSettings):
    """A datastore of a Proxmox Backup Server.

    `credentials.reader` is an API token, `USER@REALM!NAME:SECRET`, with the role DatastoreAudit on the
    datastore. `select.name` chooses groups, as patterns: "vm/100", "host/srv-dpi", "ct/*".
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["proxmox"]
    datastore: str
    namespace: str = ""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not self.datastore:
            raise refused_setting("missing", "datastore")
        return self


class ProxmoxRepository(ListingOnly):
    """One datastore, one namespace."""

    capabilities = frozenset({Capability.RUNS})

    def __init__(self, identifier: str, settings: ProxmoxSettings, context: Context) -> None:
        if settings.credentials.reader is None:
            raise AccessRefused("authentication", repository=identifier)
        super().__init__(identifier, context)
        self._settings = settings
        token = context.secret(settings.credentials.reader).reveal().decode("utf-8", "replace")
        self._rest = Rest(
            context=context,
            identifier=identifier,
            base=settings.base + _API,
            timeout_s=settings.timeout_s,
            trust=settings.trust,
            headers={"authorization": f"PBSAPIToken={token}", "accept": "application/json"},
        )
        self._jobs: tuple[JobSelector, ...] = ()

    def inspect(self) -> RepositoryState:
        """Return version, room and what is wrong with the token's rights."""
        data = self._one("/version")
        version = f"{data.get('version', '')}"
        known = parse_version(version)
        if not _OLDEST <= known < _NEWEST:
            raise MissingMeans("version_unsupported", repository=self._identifier)
        room = self._one(f"/admin/datastore/{path_part(self._settings.datastore)}/status")
        free = room.get("avail")
        return RepositoryState(
            tool="proxmox-backup-server",
            tool_version=version,
            free_bytes=free if isinstance(free, int) else None,
            device=device_of_host(self._settings.talks_to),
            warnings=("administrator_credential",) if self._is_administrator() else (),
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per snapshot of the groups that a job names."""
        self._jobs = tuple(jobs)
        asked = {"ns": self._settings.namespace} if self._settings.namespace else {}
        store = path_part(self._settings.datastore)
        answer = self._rest.get(f"/admin/datastore/{store}/snapshots", **asked)
        for snapshot in self._rest.list_at(answer):
            group = self._group(snapshot)
            for selector in jobs:
                if fnmatchcase(group, selector.name or "*"):
                    yield self._point(selector, group, snapshot)

    def runs(self, since: datetime) -> Iterator[JobRun]:
        """Yield the server's backup tasks of the jobs that were listed, those under way included."""
        start = 0
        while self._jobs:
            answer = self._rest.get(
                "/nodes/localhost/tasks",
                typefilter="backup",
                store=self._settings.datastore,
                since=int(since.timestamp()),
                start=start,
                limit=_TASKS,
            )
            found = self._rest.list_at(answer)
            for task in found:
                yield from self._runs_of(task)
            if len(found) < _TASKS:
                return
            start += len(found)

    # ---- details

    def _one(self, path: str) -> Mapping[str, Any]:
        answer = self._rest.get(path)
        data = answer.get("data") if isinstance(answer, Mapping) else None
        if not isinstance(data, Mapping):
            raise self._rest.misunderstood()
        return data

    def _is_administrator(self) -> bool:
        try:
            granted = self._one("/access/permissions")
        except (AccessRefused, Unreachable):
            return False  # less than an auditor may ask it
        return any(
            isinstance(rights, Mapping) and _ADMINISTRATOR & {str(name) for name in rights}
            for rights in granted.values()
        )

    def _group(self, snapshot: Mapping[str, Any]) -> str:
        kind, name = snapshot.get("backup-type"), snapshot.get("backup-id")
        if not isinstance(kind, str) or not isinstance(name, str) or not kind or not name:
            raise self._rest.misunderstood()
        return f"{kind}/{name}"

    def _point(
        self, selector: JobSelector, group: str, snapshot: Mapping[str, Any]
    ) -> RecoveryPoint:
        at = self._rest.moment(snapshot.get("backup-time"))
        size = snapshot.get("size")
        files = snapshot.get("files")
        check = snapshot.get("verification")
        verified = check.get("state") if isinstance(check, Mapping) else None
        state = PointState.COMPLETE
        if not isinstance(size, int):
            state = PointState.RUNNING  # it has no manifest yet
        elif verified == "failed" or size == 0:
            state = PointState.FAILED
        return RecoveryPoint(
            repository=self._identifier,
            job=selector.job,
            native_id=percent(f"{group}/{at:%Y-%m-%dT%H:%M:%SZ}"),
            at=at,
            covers_until=at,
            kind=PointKind.SNAPSHOT,
            state=state,
            started_at=at,
            bytes=size if isinstance(size, int) else None,
            source_host=str(snapshot.get("backup-id"))[:253],
            encrypted=_encrypted(files),
            extra={"verification": str(verified)} if verified in ("ok", "failed") else None,
        )

    def _runs_of(self, task: Mapping[str, Any]) -> Iterator[JobRun]:
        # "datastore:vm/100", or "datastore:namespace:vm/100"
        group = str(task.get("worker_id") or "").rpartition(":")[2]
        for selector in self._jobs:
            if not group or not fnmatchcase(group, selector.name or "*"):
                continue
            ended = task.get("endtime")
            yield JobRun(
                job=selector.job,
                native_id=percent(self._rest.text(task, "upid"))[:200],
                started_at=self._rest.moment(task.get("starttime")),
                ended_at=self._rest.moment(ended) if ended is not None else None,
                state=_state_of(task.get("status"), ended=ended is not None).value,
            )


def _state_of(status: object, *, ended: bool) -> PointState:
    """Return what a task's status means: "OK", "WARNINGS: 3", or the text of an error."""
    if not ended:
        return PointState.RUNNING
    if status == "OK":
        return PointState.COMPLETE
    if isinstance(status, str) and status.startswith("WARNINGS"):
        return PointState.WARNING
    return PointState.FAILED


def _encrypted(files: object) -> bool | None:
    """Tell whether all data of a snapshot are encrypted; its manifest is only ever signed."""
    if not isinstance(files, list):
        return None
    modes = [
        one.get("crypt-mode")
        for one in files
        if isinstance(one, Mapping) and one.get("filename") != "index.json.blob"
    ]
    return all(mode == "encrypt" for mode in modes) if modes else None


#: The entry point `proxmox`.
PROXMOX = ReadingType(
    "proxmox",
    ProxmoxSettings,
    ProxmoxRepository,
    capabilities=ProxmoxRepository.capabilities,
    unproven=True,
)
