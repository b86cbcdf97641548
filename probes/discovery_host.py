"""What runs on this host: processes, the sockets they listen on, files they hold open."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running program. Its arguments may hold secrets: they are looked at, never shown."""

    pid: int
    name: str
    argv: tuple[str, ...]

    def option(self, *names: str) -> str | None:
        """Return the value of an option: "-D DIR", "-DDIR", "--datadir=DIR", "-c key=value"."""
        for position, argument in enumerate(self.argv[1:], 1):
            for name in names:
                if argument == name:
                    return self.argv[position + 1] if position + 1 < len(self.argv) else None
                if argument.startswith(f"{name}=") or (
                    len(name) == 2 and name[0] == "-" and argument.startswith(name)
                ):
                    return argument.removeprefix(name).removeprefix("=")
        return None


def is_gone(path: Path) -> bool:
    """Tell whether nothing is at a path; what we may not look at is there, and is asked."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as it was seen. `open_files` yields the files that visible processes hold open.

    `sees_all` is False where other users' processes are hidden (hidepid, ProtectProc).
    """

    name: str
    processes: tuple[Process, ...] = ()
    sockets: tuple[str, ...] = ()
    sees_all: bool = True
    open_files: Callable[[], Iterator[Path]] = lambda: iter(())


def look() -> Host:
    """Return this host as this process may see it."""
    processes, sees_all = [], False
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        argv = process.info["cmdline"]
        # The first process is somebody else's, and always there for who may see it.
        sees_all = sees_all or (process.info["pid"] == 1 and argv is not None)
        if argv:
            processes.append(
                Process(pid=process.info["pid"], name=process.info["name"] or "", argv=tuple(argv))
            )
    sockets = dict.fromkeys(
        str(one.laddr)
        for one in psutil.net_connections(kind="unix")
        if isinstance(one.laddr, str) and one.laddr.startswith("/")
    )
    return Host(
        name=socket.gethostname(),
        processes=tuple(processes),
        sockets=tuple(sockets),
        sees_all=sees_all,
        open_files=_open_files,
    )


def _open_files() -> Iterator[Path]:
    """Yield files that processes hold open; those of other users show only to who may see them."""
    seen: set[str] = set()
    for process in psutil.process_iter():
        try:
            files = process.open_files()
        except (psutil.Error, OSError):
            continue
        for file in files:
            if file.path not in seen:
                seen.add(file.path)
                yield Path(file.path)
