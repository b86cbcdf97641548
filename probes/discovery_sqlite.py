"""SQLite databases of this host: the files that the configuration names, and those held open.

Source: "Database File Format", §1.3: a database begins with sixteen known bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from probes.discovery_found import Database, Found, clean
from probes.discovery_host import Host

ENGINE = "sqlite"
_MAGIC = b"SQLite format 3\0"
_LIMIT = 10_000
#: What the system itself keeps in SQLite: nobody's data.
_OF_THE_SYSTEM = (
    *("/proc/", "/dev/", "/sys/", "/tmp/", "/var/tmp/", "/var/cache/", "/usr/"),  # noqa: S108
    *("/var/lib/PackageKit/", "/var/lib/fwupd/", "/var/lib/rpm/"),
)


def look(
    globs: Iterable[str],
    host: Host,
    own: Path | None,
    found: Found,
    also: Iterable[str] = (),
) -> None:
    """Add the databases that a glob names, and those that visible processes hold open.

    A glob whose directory is not there is noted; `also` are globs that need not lead anywhere.
    """
    paths: dict[Path, None] = {}
    for glob in globs:
        before = len(found.lacking)
        named = list(_expand(glob, found))
        if not named and len(found.lacking) == before and not _exists(_prefix(glob)):
            found.lack(f"{ENGINE}/{glob}", "not_found", _prefix(glob), "databases")
        paths.update(dict.fromkeys(named))
    for glob in also:
        paths.update(dict.fromkeys(_expand(glob, found)))
    held = [path for path in host.open_files() if not str(path).startswith(_OF_THE_SYSTEM)]
    paths.update(dict.fromkeys(held))
    known: dict[str, int] = {}
    for path in paths:
        if own is not None and path.is_relative_to(own):
            continue
        size = _size(path, found)
        if size is not None:
            known.setdefault(str(path), size)
    found.databases += [
        Database(
            engine=ENGINE,
            host=found.host,
            port=None,
            server=clean(str(Path(path).parent)),
            name=clean(path),
            bytes=size,
        )
        for path, size in sorted(known.items())
    ]


def _prefix(glob: str) -> Path:
    """Return the directory before the first wildcard."""
    plain = re.split(r"[*?\[]", glob, maxsplit=1)[0]
    return Path(plain if plain == glob else plain.rpartition("/")[0] or "/")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _expand(glob: str, found: Found) -> Iterator[Path]:
    """Yield what a glob names; a directory that may not be listed is noted. `**` is any depth."""
    wanted = glob.strip("/").split("/")
    waiting: list[tuple[Path, list[str]]] = [(Path("/"), wanted)]
    looked = 0
    while waiting:
        directory, parts = waiting.pop()
        looked += 1
        if looked > _LIMIT:
            found.lack(f"{ENGINE}/{glob}", "too_many", glob, "databases")
            return
        part, rest = parts[0], parts[1:]
        if not re.search(r"[*?\[]", part):
            path = directory / part
            if rest:
                waiting.append((path, rest))
            elif os.path.lexists(path) or not os.access(directory, os.X_OK):
                yield path
            continue
        for entry in _listed(directory, glob, found):
            path, is_directory = Path(entry.path), entry.is_dir(follow_symlinks=False)
            if part == "**" and is_directory:
                waiting.append((path, parts))
            wild = rest if part == "**" else parts  # `**` may stand for no directory at all
            if wild and fnmatchcase(entry.name, wild[0]):
                if len(wild) == 1:
                    yield path
                elif is_directory:
                    waiting.append((path, wild[1:]))


def _listed(directory: Path, glob: str, found: Found) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        found.lack(f"{ENGINE}/{glob}", "permission", directory, "databases")
        return []


def _size(path: Path, found: Found) -> int | None:
    """Return the size of a SQLite database; None for any other file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except PermissionError:
        found.lack(f"{ENGINE}/{path}", "permission", path, "databases")
        return None
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or file.read(len(_MAGIC)) != _MAGIC:
            return None
        return status.st_size
