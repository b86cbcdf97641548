"""A MariaDB server on the data that a backup brought, with nothing of the source's own life in it.

It starts without its accounts, plug-ins, functions of libraries and events: `--skip-grant-tables`
reads none of those tables. Then one account of the test's is made, and accounts count again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backupguard.errors import BackupDefect, BackupGuardError, MissingMeans
from restore_tests.mariadb_server import MariadbServer, directories

_MIB = 1 << 20
_DAMAGED = re.compile(
    rb"\[ERROR\][^\n]*([Cc]orrupt|checksum mismatch|is missing|should be at least)"
)
_FULL = re.compile(rb"No space left|Disk is full|Errcode: 28|OS error: 28")
_LOG_BYTES = 1 << 18


def programs_for(version: tuple[int, int] | None) -> Path:
    """Return where a server of a backup's version is; that of any other where there is none."""
    return directories(version)[0]


@dataclass(slots=True, kw_only=True)
class PhysicalServer(MariadbServer):
    """The server of one trial; `options` are those of the source's that its files need."""

    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def tools(self) -> Path:
        """Where mariadb-backup and innochecksum of this server are."""
        return self.programs.parent / "bin"

    @property
    def buffers_mib(self) -> int:
        """How much memory (MiB) preparing may hold pages in."""
        budget = self.memory or psutil.virtual_memory().available // 2
        return max(64, min(2048, budget // 2 // _MIB))

    def data_options(self) -> list[str]:
        """Return how InnoDB finds and reads its files."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]

    def settings_file(self) -> str:
        """Return the text of a settings file that says the same, and nothing else."""
        return "[mysqld]\n" + "".join(f"{name}={value}\n" for name, value in self.options.items())

    def start(self, *more: str) -> None:
        """Start on the data as they lie, then let accounts count, with one more.

        Raises BackupDefect (corrupt) where the server's own words accuse the data.
        """
        try:
            MariadbServer.start(
                self,
                *self.data_options(),
                *("--skip-grant-tables", "--loose-innodb-log-file-size=48M", *more),
                # what is damaged is told, not repaired
                *("--aria-recover-options=OFF", "--myisam-recover-options=OFF"),
            )
        except MissingMeans as error:
            raise self._blamed(error) from error
        name = "backupguard_" + secrets.token_hex(6)
        self.query(
            "set sql_log_bin = 0; flush privileges;"
            f" create user {name}@localhost identified via mysql_native_password using '';"
            f" grant all on *.* to {name}@localhost with grant option"
        )
        self.superuser = name

    def _blamed(self, error: MissingMeans) -> BackupGuardError:
        said = self.sandbox.log("mariadb", _LOG_BYTES)
        if _FULL.search(said):
            return MissingMeans("no_disk")
        return BackupDefect("corrupt") if _DAMAGED.search(said) else error
