"""What the configured repositories need of this host, and how they were found last time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli import common, repository_notes
from backupguard.cli.acting import sentence
from backupguard.errors import BackupGuardError
from backupguard.model import Message, repository_subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backupguard.contracts import RepositorySettings
    from backupguard.model import Fact
    from backupguard.settings import Settings

#: Type → the program that reads its repositories, and how that says its version.
_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "bareos": ("psql", "--version"),
    "borg": ("borg", "--version"),
    "pgbackrest": ("pgbackrest", "version"),
    "restic": ("restic", "version"),
}
#: Type of a repository, or kind of a scratch server → its library's module, and the extra that
#: installs it.
_LIBRARIES: Mapping[str, tuple[str, str]] = {
    "mssql": ("pytds", "mssql"),
    "postgresql": ("psycopg", "postgresql"),
    "rman": ("oracledb", "oracle"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One thing looked at. `state` is "ok", "note", "missing", "bad" or "unproven".

    The last three ask for work.
    """

    check: str  # a program's name, or an id below `cli.doctor.check.`
    state: str
    found: str = ""
    remedy: Message | None = None

    @property
    def well(self) -> bool:
        """Tell whether nothing needs to be done."""
        return self.state in {"ok", "note"}


def program(name: str, *version: str) -> Result:
    """Look for a program: a name on the fixed path, or an absolute path."""
    from backupguard.processes import find_program
    from backupguard.processes.programs import package_of

    path = find_program(name)
    if path is None:
        return missing(name, package_of(name.rpartition("/")[2]))
    return Result(check=name, state="ok", found=_version(path, version or ("--version",)))


def missing(check: str, package: str) -> Result:
    """Return what is said of a program that is not here, with the Debian package that has it."""
    remedy = Message(id="cli.doctor.do.install", values={"package": package})
    return Result(check=check, state="missing", remedy=remedy)


def _version(path: Path, arguments: tuple[str, ...]) -> str:
    """Return what the program says of itself; where it cannot be run here, where it is."""
    from backupguard.contracts import Command
    from backupguard.processes import Cancellation, Jail

    with tempfile.TemporaryDirectory(prefix="backupguard-doctor-") as work:
        jail = Jail(Path(work), Cancellation(), cache=None)
        try:
            done = jail.run(Command(argv=(str(path), *arguments), timeout_s=20))
        except BackupGuardError:
            return str(path)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return lines[0][:60] if done.returncode == 0 and lines else str(path)


def tools(settings: Settings | None) -> Iterator[Result]:
    """Look for each program and library that a configured repository is read with, once."""
    if settings is None:
        yield program("restic", "version")
        return
    wanted = {found for place in settings.repositories.values() for found in _wanted(place)}
    for name, version in sorted(wanted):
        yield program(name, version)
    kinds = {place.type for place in settings.repositories.values()}
    kinds |= {instance.kind for instance in settings.instances.values()}
    for kind in sorted(kinds & set(_LIBRARIES)):
        module, extra = _LIBRARIES[kind]
        if find_spec(module) is not None:
            yield Result(check=module, state="ok")
        else:
            remedy = Message(id="cli.doctor.do.extra", values={"extra": extra})
            yield Result(check=module, state="missing", remedy=remedy)


def _wanted(place: RepositorySettings) -> Iterator[tuple[str, str]]:
    """Yield the programs one repository needs: its own where it names one."""
    if place.type not in _PROGRAMS or (place.type == "bareos" and getattr(place, "path", None)):
        return  # a catalogue in a file needs none
    usual, version = _PROGRAMS[place.type]
    yield str(getattr(place, "program", None) or usual), version
    if str(getattr(place, "url", "")).startswith(("ssh:", "sftp:")):
        yield "ssh", "-V"


def repositories(settings: Settings) -> Iterator[Result]:
    """Tell which repositories could not be read, or not as they should be, when last asked."""
    from backupguard.assess.unproven import unconfirmed

    try:
        with closing(common.store(settings, replace_corrupt=False)) as store:
            latest = store.latest(kinds=["repository.inspected", "repository.confirmed"])
    except BackupGuardError:  # what is wrong with the state is said above
        latest = {}
    for name in sorted(settings.repositories):
        yield from _state(
            name, latest.get(repository_subject(name), {}).get("repository.inspected")
        )
    for name in sorted(unconfirmed(settings, latest)):
        remedy = Message(id="next.confirm", values={"repository": name})
        found = settings.repositories[name].type
        yield Result(check=f"repository/{name}", state="unproven", found=found, remedy=remedy)


def _state(name: str, fact: Fact | None) -> Iterator[Result]:
    if fact is None or fact.observation.data is None:  # never asked, or pruned
        return
    data, check = fact.observation.data, f"repository/{name}"
    if data["code"] is not None:
        found, remedy = repository_notes.trouble(data), repository_notes.remedy_of(data)
        yield Result(check=check, state="bad", found=found, remedy=remedy)
    for code in data.get("warnings", ()):
        remedy = Message(id="cli.doctor.do.repository", values={"type": data["type"]})
        yield Result(check=check, state="bad", found=sentence(code), remedy=remedy)
