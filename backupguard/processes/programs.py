"""Where programs are looked for, and which Debian package brings them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from backupguard.errors import MissingMeans
from backupguard.model import Message

#: The only directories in which a program is looked up by name, whatever PATH says.
PROGRAM_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/usr/sbin")
PROGRAM_PATH = ":".join(PROGRAM_DIRECTORIES)
#: After them: tools that were added beside the system (`backupguard engines add`), by their own name.
_ENGINES = Path("/opt/backupguard/engines")

_PACKAGES = {
    "barman": "barman",
    "borg": "borgbackup",
    "bwrap": "bubblewrap",
    "bzip2": "bzip2",
    "gbak": "firebird3.0-utils",
    "gpg": "gpg",
    "gzip": "gzip",
    "innochecksum": "mariadb-server-core",
    "lz4": "lz4",
    "mariadb": "mariadb-client",
    "mariadb-backup": "mariadb-backup",
    "mariadbd": "mariadb-server",
    "mbstream": "mariadb-backup",
    "mysql": "mariadb-client",
    "pg_amcheck": "postgresql",
    "pg_dump": "postgresql-client",
    "pg_restore": "postgresql-client",
    "pgbackrest": "pgbackrest",
    "postgres": "postgresql",
    "psql": "postgresql-client",
    "rclone": "rclone",
    "restic": "restic",
    "samba-tool": "samba-common-bin",
    "slapadd": "slapd",
    "slapd": "slapd",
    "sqlite3": "sqlite3",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "tar": "tar",
    "unzip": "unzip",
    "xz": "xz-utils",
    "zstd": "zstd",
}


def package_of(program: str) -> str:
    """Return the Debian package that brings a program, by its name without directory.

    A program we know nothing of is most often in a package of its own name.
    """
    return _PACKAGES.get(program, program)


def find_program(program: str) -> Path | None:
    """Return where an executable is: an absolute path itself, a name on the fixed path, or None.

    A tool that only an added engine has is found there, its newest version first.
    """
    if program.startswith("/"):
        places = [Path(program)]
    else:
        places = [
            Path(directory, program) for directory in PROGRAM_DIRECTORIES if "/" not in program
        ]
        places += _added(program) if "/" not in program else []
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    return None


def _added(program: str) -> list[Path]:
    found = _ENGINES.glob(f"{glob.escape(program)}/*/bin/{glob.escape(program)}")
    return sorted(
        found,
        key=lambda place: [int(number) for number in re.findall(r"\d+", place.parts[-3])],
        reverse=True,
    )


def program_missing(program: str) -> MissingMeans:
    """Return the error that names a missing program and the Debian package that brings it."""
    name = program.rsplit("/", maxsplit=1)[-1]
    package = package_of(name)
    return MissingMeans(
        "program_missing",
        Message(id="processes.program_missing", values={"program": name, "package": package}),
        Message(id="remedy.install_package", values={"package": package}),
    )


def require_program(program: str) -> Path:
    """Return where an executable is; raises MissingMeans (program_missing) with its package."""
    found = find_program(program)
    if found is None:
        raise program_missing(program)
    return found
