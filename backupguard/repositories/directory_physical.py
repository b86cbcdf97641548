"""Physical backups in a directory: what mariadb-backup and pg_basebackup say of their own work.

Only small text files are read, no link is followed. mariadb-backup writes its checkpoints file last
(`xtrabackup_checkpoints`, from MariaDB 11 on `mariadb_backup_checkpoints`), pg_basebackup renames
`backup_manifest.tmp` last: what lacks them is not finished (both tools' manual pages).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from backupguard.model import PointKind

_CHECKPOINTS = ("xtrabackup_checkpoints", "mariadb_backup_checkpoints")
_INFOS = ("xtrabackup_info", "mariadb_backup_info")
#: Files of a server's own directory, which a copy of it has and a backup of mariadb-backup has not.
_SERVERS = frozenset({"ib_buffer_pool", "auto.cnf", "mysql_upgrade_info", "mariadb_upgrade_info"})
_BASE_TAR = re.compile(r"base\.tar(\.(gz|lz4|zst|xz))?\Z")
_DUMP_DATA = re.compile(r"\d+\.dat(\.(gz|lz4|zst))?\Z")
_LABEL_TIME = re.compile(
    rb'"Path": "backup_label",[^{}]*"Last-Modified": "(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT"'
)
_START_TIME = re.compile(
    rb"^START TIME: (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)$", re.MULTILINE
)
_WHOLE_MANIFEST = re.compile(rb'"Manifest-Checksum": "[0-9a-f]{64}"\s*}\s*\Z')
_HOST = re.compile(r"--host[= ]([\w.-]+)")
_HEAD, _TAIL = 1 << 20, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Physical:
    """What a backup says of itself; `finished` None where it cannot tell."""

    tool: str
    finished: bool | None
    kind: PointKind = PointKind.FULL
    started_at: datetime | None = None
    ended_at: datetime | None = None
    from_lsn: int | None = None  # of an incremental one: where its base ended
    to_lsn: int | None = None
    source_host: str | None = None

    @property
    def at(self) -> datetime | None:
        """The time its data is of: its end, or its beginning where only that is known."""
        return self.ended_at or self.started_at


def recognise(path: Path, names: Collection[str], zone: ZoneInfo | None) -> Physical | None:
    """Given a directory and the paths of the files below it, return what backup it is, or None.

    `zone` is the one mariadb-backup's local times are of; None: this host's.
    """
    top = {name for name in names if "/" not in name}
    if top & {*_CHECKPOINTS, *_INFOS}:
        return _mariadb(path, top, zone)
    if "backup_label" in top or any(_BASE_TAR.match(name) for name in top):
        return _postgresql(path, top)
    if top & {"ib_logfile0", "ibdata1", "ibdata1.delta"} and not top & _SERVERS:
        return Physical(tool="mariadb-backup", finished=False)
    if "toc.dat" not in top and any(_DUMP_DATA.match(name) for name in top):
        return Physical(tool="pg_dump", finished=False)
    return None


def _read(path: Path, start: int, length: int) -> bytes:
    """Return part of a file, from its end when `start` is negative; nothing of what is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        size = os.fstat(descriptor).st_size
        file.seek(max(0, size + start) if start < 0 else start)
        return file.read(length)


def _keys(path: Path, candidates: tuple[str, ...], top: Collection[str]) -> Mapping[str, str]:
    """Return the `key = value` lines of the first of these files that is there."""
    name = next((one for one in candidates if one in top), None)
    text = _read(path / name, 0, 1 << 16).decode("utf-8", "replace") if name else ""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _mariadb(path: Path, top: Collection[str], zone: ZoneInfo | None) -> Physical:
    checkpoints, info = _keys(path, _CHECKPOINTS, top), _keys(path, _INFOS, top)
    incremental = checkpoints.get("backup_type") == "incremental"
    host = _HOST.search(info.get("tool_command", ""))
    return Physical(
        tool="mariadb-backup",
        finished=bool(checkpoints.get("backup_type")) and "to_lsn" in checkpoints,
        kind=PointKind.INCREMENTAL if incremental else PointKind.FULL,
        started_at=_local(info.get("start_time"), zone, path),
        ended_at=_local(info.get("end_time"), zone, path),
        from_lsn=_number(checkpoints.get("from_lsn")) if incremental else None,
        to_lsn=_number(checkpoints.get("to_lsn")),
        source_host=host[1] if host else None,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _local(text: str | None, zone: ZoneInfo | None, path: Path) -> datetime | None:
    """Return a local time in UTC, None where it is none; `path` tells the hours that came twice."""
    try:
        naive = datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - local time
    except ValueError:
        return None
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return _nearest(naive, zone, changed)


def _nearest(naive: datetime, zone: ZoneInfo | None, to: datetime) -> datetime:
    """Return a local time in UTC; in an hour that came twice, the time nearer to `to`."""
    aware = [
        one.replace(tzinfo=zone) if zone is not None else one.astimezone()
        for one in (naive.replace(fold=0), naive.replace(fold=1))
    ]
    return min((one.astimezone(UTC) for one in aware), key=lambda one: abs(one - to))


def _postgresql(path: Path, top: Collection[str]) -> Physical:
    manifest = path / "backup_manifest"
    told = _LABEL_TIME.search(_read(manifest, 0, _HEAD))
    told = told or _START_TIME.search(_read(path / "backup_label", 0, _TAIL))
    started = _utc(told[1]) if told else None
    finished: bool | None = None
    if "backup_manifest" in top:
        finished = _WHOLE_MANIFEST.search(_read(manifest, -_TAIL, _TAIL)) is not None
    elif "backup_manifest.tmp" in top:
        finished = False
    return Physical(tool="pg_basebackup", finished=finished, started_at=started)


def _utc(text: bytes) -> datetime | None:
    try:
        naive = datetime.strptime(text.decode("ascii"), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None
    return naive.replace(tzinfo=UTC)


def base_of(own: str, physical: Physical, others: Mapping[str, Physical]) -> str | None:
    """Return the native id of an incremental backup's base, one that ended where it begins.

    A full one before any other, then the newest: where nothing was written meanwhile, several fit. None
    when no backup among `others` ended there, before it.
    """
    latest = physical.ended_at or datetime.max.replace(tzinfo=UTC)
    candidates = [
        (
            other.kind is PointKind.FULL,
            other.ended_at or datetime.min.replace(tzinfo=UTC),
            name,
        )
        for name, other in others.items()
        if name != own
        and other.tool == physical.tool
        and other.finished
        and other.to_lsn == physical.from_lsn
        and (other.ended_at or latest) < latest + timedelta(seconds=1)
    ]
    return max(candidates)[-1] if candidates else None


def bases_of(own: str, others: Mapping[str, Physical]) -> tuple[list[str], bool]:
    """Return the native ids of all that a backup among `others` builds on, the nearest first.

    And whether that leads to a full one.
    """
    found: list[str] = []
    one, name = others[own], own
    while one.from_lsn is not None:
        left = {key: other for key, other in others.items() if key not in found and key != own}
        base = base_of(name, one, left)
        if base is None:
            return found, False
        found.append(base)
        one, name = others[base], base
    return found, True
