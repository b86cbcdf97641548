"""Copies of a small server that the real mariadb-backup made: a full one, and incrementals upon it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.integration.restore_tests.test_mariadb import NEWEST, SCHEMA
from tests.mariadb import MariaDB


def backup(server: MariaDB, into: Path, *options: str) -> Path:
    """Copy a running server into a directory that is not there yet."""
    # Without it a server that has little to do ends one copy where it began another.
    server.run(
        "set global innodb_max_dirty_pages_pct_lwm = 0, global innodb_max_dirty_pages_pct = 0"
    )
    dirty = "show global status like 'Innodb_buffer_pool_pages_dirty'"
    deadline = time.monotonic() + 20
    while server.run(dirty).split()[1] != "0" and time.monotonic() < deadline:
        time.sleep(0.02)
    subprocess.run(
        [
            *("mariadb-backup", "--no-defaults", "--backup", "--user=root", f"--target-dir={into}"),
            *(f"--socket={server.socket}", f"--datadir={server.directory}", *options),
        ],
        check=True,
        capture_output=True,
    )
    return into


def stream(server: MariaDB, into: Path) -> Path:
    """Stream a full copy of a running server into a file."""
    with into.open("wb") as file:
        subprocess.run(
            [
                *(
                    "mariadb-backup",
                    "--no-defaults",
                    "--backup",
                    "--user=root",
                    "--stream=mbstream",
                ),
                *(f"--socket={server.socket}", f"--datadir={server.directory}"),
            ],
            check=True,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    return into


class Copies:
    """Full copies and incrementals of one server, by name; each test changes copies of its own."""

    def __init__(self, server: MariaDB, directory: Path) -> None:
        self.server, self.directory = server, directory

    def __getitem__(self, name: str) -> Path:
        return self.directory / name

    def full(self, name: str) -> None:
        """Copy the whole server."""
        backup(self.server, self[name])

    def incremental(self, name: str, base: str) -> None:
        """Copy what changed since the copy `base`."""
        backup(self.server, self[name], f"--incremental-basedir={self[base]}")

    def fill(self, *statements: str) -> None:
        """Make the clinic's database, then run statements on it."""
        local = NEWEST.astimezone(ZoneInfo("Europe/Paris"))
        self.server.run("set global time_zone = '+01:00'")
        self.change(SCHEMA.format(name="clinic", newest=f"{local:%Y-%m-%d %H:%M:%S}"), *statements)

    def change(self, *statements: str) -> None:
        """Run statements on the clinic's database."""
        first, *more = statements
        text = first if "create database" in first else f"use clinic; {first}"
        self.server.run(";\n".join([text, *more]))

    def tree(self, into: Path, names: Iterable[str]) -> Path:
        """Lay copies side by side, as a directory of backups has them."""
        for name in names:
            shutil.copytree(self[name], into / name)
        return into
