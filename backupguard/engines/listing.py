"""Which engines this host has, its own and the added ones, and whether they start."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupguard.contracts import Command, Tools
from backupguard.engines import described
from backupguard.errors import BackupGuardError
from backupguard.model import Message
from backupguard.processes import Cancellation, Jail
from restore_tests.postgresql_server import NEWEST, OLDEST


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """An engine that can be added: its program, where the system has it, who uses it."""

    program: str  # below the engine's directory
    system: tuple[str, ...]  # patterns below /
    argument: str
    restore_tests: tuple[str, ...] = ()
    newest_first: bool = False  # one that was added goes before the system's


_KINDS = {
    "postgresql": _Kind(
        program="bin/postgres",
        system=("usr/lib/postgresql/*/bin/postgres",),
        argument="--version",
        restore_tests=("postgresql", "postgresql-physical"),
    ),
    "mariadb": _Kind(
        program="sbin/mariadbd",
        system=("usr/sbin/mariadbd",),
        argument="--version",
        restore_tests=("mariadb", "mariadb-physical"),
        newest_first=True,
    ),
    "restic": _Kind(
        program="bin/restic",
        system=("usr/local/bin/restic", "usr/bin/restic"),
        argument="version",
    ),
}
_VERSION = re.compile(r"\b\d+(?:\.\d+){1,2}|\b\d+(?=(?:beta|rc|devel))")
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An engine on this host.

    `version` is what its program says, or the directory's name where it says nothing; `origin` is
    "system", "added", or "by-hand" for a directory that no archive of ours made. `problem` says why it
    cannot be used; `hidden` that another one of the same version is used in its place.
    """

    engine: str
    version: str
    origin: str
    place: Path
    release: str | None = None
    problem: Message | None = None
    hidden: bool = False
    restore_tests: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Tell whether restore tests, or repositories, can use it."""
        return self.problem is None


def found(root: Path, system: Path = Path("/")) -> Sequence[Found]:
    """Return the engines below `root` and those of the system, by name and version.

    Each is started once in the jail of backup tools, to say its version.
    """
    with tempfile.TemporaryDirectory(prefix="backupguard-engines-") as work:
        jail = Jail(Path(work), Cancellation(), cache=None)
        engines = [*_of_system(system, jail), *_unpacked(root, jail)]
    ordered = sorted(engines, key=lambda one: (one.engine, _numbers(one.version), one.origin))
    return tuple(_hidden(one, ordered) for one in ordered)


def _of_system(system: Path, tools: Tools) -> Iterator[Found]:
    for engine, kind in _KINDS.items():
        for pattern in kind.system:
            for program in sorted(system.glob(pattern)):
                place = program.parent.parent
                named = place.name if place.name[:1].isdigit() else ""
                yield _asked(engine, named, "system", place, program, tools)


def _unpacked(root: Path, tools: Tools) -> Iterator[Found]:
    for place in sorted(root.glob("[a-z]*/*")):
        engine, version = place.parent.name, place.name
        if not described.is_name(engine, version) or not place.is_dir():
            continue
        description, kind = described.of(place), _KINDS.get(engine)
        origin = "by-hand" if description is None else "added"
        if kind is None:
            message = Message(id="engines.unused", values={"engine": engine})
            yield Found(engine=engine, version=version, origin=origin, place=place, problem=message)
            continue
        yield _asked(engine, version, origin, place, place / kind.program, tools)


def _asked(engine: str, named: str, origin: str, place: Path, program: Path, tools: Tools) -> Found:
    description = described.of(place) if origin == "added" else None
    said, problem = _version(program, _KINDS[engine].argument, tools)
    if description is not None and description.architecture != described.this_architecture():
        values = {"found": description.architecture, "host": described.this_architecture()}
        problem = Message(id="engines.other-architecture", values=values)
    elif problem is None and named and not f"{said}.".startswith(f"{named}."):
        values = {"found": said, "expected": named}
        problem = Message(id="engines.other-version", values=values)
    major = named or said.partition(".")[0]
    if engine == "postgresql" and not (major.isdecimal() and OLDEST <= int(major) <= NEWEST):
        values = {"oldest": str(OLDEST), "newest": str(NEWEST)}
        problem = problem or Message(id="engines.outside", values=values)
    return Found(
        engine=engine,
        version=said or named or "?",
        origin=origin,
        place=place,
        release=description.release if description is not None else None,
        problem=problem,
        restore_tests=_KINDS[engine].restore_tests,
    )


def _version(program: Path, argument: str, tools: Tools) -> tuple[str, Message | None]:
    """Return what a program says its version is, and why it does not."""
    if not program.is_file():
        return "", Message(id="engines.no-program", values={"file": str(program)})
    why = ""
    try:
        done = tools.run(Command(argv=(str(program), argument), timeout_s=_TIMEOUT_S))
    except BackupGuardError as error:
        why = error.code
    else:
        # MariaDB begins with its own path, and our directories have numbers
        said = done.stdout.decode("utf-8", "replace").replace(str(program), "")
        match = _VERSION.search(said)
        if done.returncode == 0 and match is not None:
            return match[0], None
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1][:200] if lines else str(done.returncode)
    return "", Message(id="engines.does-not-start", values={"file": str(program), "why": why})


def _hidden(one: Found, ordered: Sequence[Found]) -> Found:
    """Mark an engine in whose place a restore test takes another one of the same major version."""
    kind = _KINDS.get(one.engine)
    if kind is None or not one.usable or not kind.restore_tests:
        return one
    preferred = "added" if kind.newest_first else "system"

    def rank(other: Found) -> bool:
        return (other.origin == "system") == (preferred == "system")

    others = [
        other
        for other in ordered
        if other is not one and other.usable and other.engine == one.engine
        and _series(other) == _series(one)
    ]  # fmt: skip
    if rank(one) or not any(map(rank, others)):
        return one
    return Found(
        engine=one.engine,
        version=one.version,
        origin=one.origin,
        place=one.place,
        release=one.release,
        hidden=True,
        restore_tests=one.restore_tests,
    )


def _series(one: Found) -> tuple[int, ...]:
    return _numbers(one.version)[: 1 if one.engine == "postgresql" else 2]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
