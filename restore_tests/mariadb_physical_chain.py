"""What backups of mariadb-backup say of themselves, and which of them are needed to restore one.

An incremental begins (`from_lsn`) where its base ended (`to_lsn`). Everything here is text that came
with the backup: it is matched against what the tool writes, and nothing else of it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from backupguard.errors import BackupDefect, MissingMeans

#: Which settings of the source's the server needs to read its files, and how their values look.
#: Anything else that stands in backup-my.cnf is left where it is.
_ALLOWED = {
    "innodb_page_size": re.compile(r"\d{4,5}"),
    "innodb_data_file_path": re.compile(
        r"[\w.-]{1,64}:\d{1,9}[KMG]?(;[\w.-]{1,64}:\d{1,9}[KMG]?){0,50}(:autoextend)?", re.ASCII
    ),
    "innodb_undo_tablespaces": re.compile(r"\d{1,3}"),
    "innodb_checksum_algorithm": re.compile(r"(strict_)?(full_)?crc32"),
}
_ON = frozenset({"1", "ON", "FORCE"})
_KEYS = re.compile(r"key_management|hashicorp")
_VERSION = re.compile(r"(\d{1,2})\.(\d{1,2})\.\d+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup: the directory with this number, and what it says of itself."""

    number: int
    finished: bool
    incremental: bool = False
    from_lsn: int = 0
    to_lsn: int = 0
    last_lsn: int = 0
    version: tuple[int, int] | None = None
    maker: str = "MariaDB"
    ended: str = ""  # local time of the source; such times sort
    partial: bool = False
    compressed: bool = False
    encrypted: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def age(self) -> tuple[str, int, int]:
        """What later ones of a server have more of."""
        return self.ended, self.last_lsn, self.to_lsn


def read(number: int, checkpoints: bytes, info: bytes, options: bytes) -> Backup:
    """Return what a backup's own three files say; an empty one is not there."""
    said, told, asked = _pairs(checkpoints), _pairs(info), _pairs(options)
    server = told.get("server_version", "")
    version = _VERSION.match(server)
    tool = told.get("tool_version", "MariaDB")
    ended = told.get("end_time", "")
    return Backup(
        number=number,
        finished=bool(said.get("backup_type")) and "to_lsn" in said,
        incremental=said.get("backup_type") == "incremental",
        from_lsn=_number(said.get("from_lsn")),
        to_lsn=_number(said.get("to_lsn")),
        last_lsn=_number(said.get("last_lsn")),
        version=(int(version[1]), int(version[2])) if version else None,
        maker="MariaDB" if "MariaDB" in tool and (not server or "MariaDB" in server) else "MySQL",
        ended=ended if _TIME.match(ended) else "",
        partial=told.get("partial") == "Y",
        compressed=told.get("compressed", "N") != "N",
        encrypted=bool(
            _KEYS.search(asked.get("plugin_load", ""))
            or {asked.get("innodb_encrypt_tables"), asked.get("innodb_encrypt_log")} & _ON
        ),
        options={
            name: asked[name]
            for name, pattern in _ALLOWED.items()
            if name in asked and pattern.fullmatch(asked[name])
        },
    )


def _pairs(content: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in content.decode("utf-8", "replace").splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,20}", text) else 0


def chain(backups: Iterable[Backup], *, whole: bool = True) -> Sequence[Backup]:
    """Return the newest backup with all that it needs, its full one first.

    Raises BackupDefect (truncated: none is finished; base_missing: what it begins with is not there or
    ended elsewhere) and MissingMeans (ambiguous_artifact: backups of several servers; base_elsewhere
    instead of base_missing where `whole` is False: more may lie where this came from).
    """
    finished = sorted((one for one in backups if one.finished), key=lambda one: one.age)
    if not finished:
        raise BackupDefect("truncated")
    if any(a.last_lsn > b.last_lsn for a, b in pairwise(finished)):
        raise MissingMeans("ambiguous_artifact", engines="mariadb-physical")
    found = [finished[-1]]
    while found[0].incremental:
        first = found[0]
        bases = [
            one
            for one in finished
            if one.to_lsn == first.from_lsn and one.last_lsn <= first.last_lsn and one not in found
        ]
        if not bases:
            raise BackupDefect("base_missing") if whole else MissingMeans("base_elsewhere")
        # where nothing was written in between several fit, and a full one needs no other
        found.insert(0, max(bases, key=lambda one: (not one.incremental, one.age)))
    return found
