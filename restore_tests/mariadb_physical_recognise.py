"""Recognises what mariadb-backup wrote: directories, alone or with their incrementals, and streams."""

from __future__ import annotations

import re

from backupguard.contracts import Match, Sample, SampledFile
from backupguard.errors import MissingMeans

ENGINE = "mariadb-physical"
DIRECTORY, STREAM = "directory", "stream"
#: Its own records; the second name of each is that of MariaDB 11.
CHECKPOINTS = ("xtrabackup_checkpoints", "mariadb_backup_checkpoints")
INFOS = ("xtrabackup_info", "mariadb_backup_info")
OPTIONS = "backup-my.cnf"
#: How each piece of a stream begins (mbstream).
MAGIC = b"XBSTCK01"

_OF_INNODB = frozenset({"ibdata1", "ibdata1.delta", "ib_logfile0"})
_SERVER_VERSION = re.compile(
    rb"^server_version = (\d{1,2})\.(\d{1,2})[.\d]*([^\n]*)$", re.MULTILINE
)
#: A tree of more streams than this is no chain of one server.
_MOST_STREAMS = 40


def recognise(sample: Sample) -> Match | None:
    """Return what of mariadb-backup's lies in a sample; None when there is nothing.

    Raises MissingMeans (ambiguous_artifact) for streams and directories beside each other.
    """
    streams = [file for file in sample.files if file.head.startswith(MAGIC)]
    tops = {file.path.parent for file in sample.files if file.path.name in {*CHECKPOINTS, *INFOS}}
    tops |= {file.path.parent for file in sample.files if _begun(file, sample)}
    if not sample.is_directory:
        tops.clear()
    if not tops and not streams:
        return None
    if (tops and streams) or len(streams) > _MOST_STREAMS:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    version, maker = _server(sample)
    return Match(
        engine=ENGINE,
        certainty=100,
        format=STREAM if streams else DIRECTORY,
        version=version,
        compression=next((file.compression for file in streams if file.compression), None),
        extra={
            "maker": maker,
            "streams": [[str(file.path), file.compression or "none"] for file in streams],
        },
    )


def _begun(file: SampledFile, sample: Sample) -> bool:
    """Tell whether a file is what mariadb-backup writes first; it says little else when broken off."""
    if file.path.name != OPTIONS or b"innodb" not in file.head:
        return False
    beside = {one.path.name for one in sample.files if one.path.parent == file.path.parent}
    return bool(beside & _OF_INNODB)


def _server(sample: Sample) -> tuple[str | None, str]:
    """Return version and maker of the newest server of which a backup speaks."""
    found = [
        match
        for file in sample.files
        if file.path.name in INFOS and (match := _SERVER_VERSION.search(file.head))
    ]
    if not found:
        return None, "MariaDB"
    newest = max(found, key=lambda match: (int(match[1]), int(match[2])))
    maker = "MariaDB" if b"MariaDB" in newest[3] else "MySQL"
    return f"{int(newest[1])}.{int(newest[2])}", maker
