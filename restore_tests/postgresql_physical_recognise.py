"""Recognises the data directory of a PostgreSQL server, as files or as pg_basebackup's tars."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from backupguard.contracts import Match, Sample, SampledFile
from backupguard.errors import MissingMeans

ENGINE = "postgresql-physical"
DIRECTORY, TAR = "directory", "tar"

_VERSION = re.compile(rb"(1\d|[2-9]\d)\n\Z")
_BASE_TAR = re.compile(r"base\.tar(\.(gz|lz4|zst|xz))?\Z")
_LZ4 = b"\x04\x22\x4d\x18"
#: Files that stand beside PG_VERSION at the top of a data directory, and in none of its databases.
_BESIDE = frozenset(
    {
        *("backup_label", "backup_manifest", "global/pg_control", "postgresql.auto.conf"),
        *("postgresql.conf", "pg_hba.conf", "tablespace_map", "recovery.signal", "standby.signal"),
    }
)
#: What pg_basebackup puts first into its tar.
_FIRST = (b"backup_label", b"tablespace_map", b"pg_wal/", b"PG_VERSION", b"./", b"global/")


def recognise(sample: Sample) -> Match | None:
    """Return where the data directory lies in a sample; None when there is none.

    Raises MissingMeans (ambiguous_artifact) when there are several.
    """
    if not sample.is_directory:
        return None
    found = [match for file in sample.files if (match := _directory(file, sample))]
    found += [match for file in sample.files if (match := _tar(file, sample))]
    if len(found) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    return found[0] if found else None


def _directory(file: SampledFile, sample: Sample) -> Match | None:
    version = _VERSION.match(file.head) if file.path.name == "PG_VERSION" else None
    if version is None or file.compression:
        return None
    top = file.path.parent
    names = {str(one.path.relative_to(top)) for one in sample.files if one.path.is_relative_to(top)}
    if not names & _BESIDE:
        return None
    return Match(
        engine=ENGINE,
        certainty=100,
        format=DIRECTORY,
        version=version[1].decode(),
        extra={"path": str(top)},
    )


def _tar(file: SampledFile, sample: Sample) -> Match | None:
    if not _BASE_TAR.match(file.path.name):
        return None
    packed = file.path.suffix == ".lz4" and file.head.startswith(_LZ4)
    first = file.head[257:262] == b"ustar" and file.head.startswith(_FIRST)
    # cut so early that nothing of it can be opened, it is still what its manifest speaks of
    manifest = any(
        one.path == PurePosixPath(file.path.parent, "backup_manifest") for one in sample.files
    )
    if not (packed or first or (manifest and file.compression)):
        return None
    return Match(
        engine=ENGINE,
        certainty=95,
        format=TAR,
        version=None,  # it lies somewhere in the tar
        compression=file.compression or ("lz4" if packed else None),
        extra={"path": str(file.path)},
    )
