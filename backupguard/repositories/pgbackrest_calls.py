"""Every call of pgBackRest that BackupGuard can make, and no other: an allow-list of verbs and options.

A call that is not on the list cannot be expressed. None of the verbs writes into a repository:
`restore` and `archive-get` write where they are told, `verify` and `info` only read (pgBackRest's
command reference). All paths of pgBackRest's own (log, lock, spool) lie in the run's directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from backupguard.contracts import Command, Completed, Context, LineSink, Secret
from backupguard.errors import MissingMeans, TimedOut, Unreachable
from backupguard.model import Message
from backupguard.outputs import require_not_killed
from backupguard.repositories.pgbackrest_config import REMOTE, configuration, place_of
from backupguard.repositories.pgbackrest_settings import PgBackRestSettings

Version = tuple[int, int]

#: The JSON of `info` has had today's shape since multiple repositories; 3.0 is unknown.
OLDEST: Version = (2, 40)
BEYOND: Version = (3, 0)

#: Verb → the options it may carry.
OPTIONS: Mapping[str, frozenset[str]] = {
    "version": frozenset(),
    "info": frozenset({"--stanza", "--output"}),
    "repo-ls": frozenset({"--output", "--recurse"}),
    "repo-get": frozenset(),
    "verify": frozenset({"--stanza", "--output", "--verbose"}),
    "restore": frozenset(
        {
            *("--stanza", "--set", "--pg1-path", "--type", "--target", "--target-action"),
            *("--target-timeline", "--archive-mode", "--recovery-option", "--tablespace-map-all"),
            "--process-max",
        }
    ),
    "archive-get": frozenset({"--stanza", "--pg1-path"}),
}
_WRITING = frozenset({"restore", "archive-get"})
STANZA = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\Z")
LABEL = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?\Z")
_STANZA = STANZA.pattern[:-2]
_ARCHIVE_ID = r"[0-9.]{1,8}-\d{1,9}"
#: Verb → what its arguments must look like.
_ARGUMENTS: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "repo-ls": (re.compile(rf"(archive|backup)/{_STANZA}(/{_ARCHIVE_ID})?\Z"),),
    "repo-get": (
        re.compile(rf"archive/{_STANZA}/(archive\.info|{_ARCHIVE_ID}/[0-9A-F]{{8}}\.history)\Z"),
    ),
    "archive-get": (re.compile(r"/.+\Z"), re.compile(r"[0-9A-F]{24}( [0-9A-F]{24}){0,511}\Z")),
}
_VALUES: Mapping[str, re.Pattern[str]] = {
    "--stanza": STANZA,
    "--set": LABEL,
    "--output": re.compile(r"(json|text)\Z"),
    "--recurse": re.compile(r"y\Z"),
    "--verbose": re.compile(r"y\Z"),
    "--type": re.compile(r"(immediate|time)\Z"),
    "--target-action": re.compile(r"promote\Z"),
    "--target-timeline": re.compile(r"(current|\d{1,10})\Z"),
    "--target": re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00\Z"),
    "--archive-mode": re.compile(r"off\Z"),
    "--recovery-option": re.compile(r'restore_command=cp \.\./wal/%f "%p"\Z'),
    "--pg1-path": re.compile(r"/"),
    "--process-max": re.compile(r"[1-9]\d{0,2}\Z"),
    "--tablespace-map-all": re.compile(r"/"),
}
#: `archive-get` brings one segment: this calls it for each, as many at a time as told, in one jail.
#: What did not end well is named with its status.
_EACH = r"""
place=$1 names=$2 jobs=$3 program=$4; shift 4
printf '%s\n' $names | xargs -P "$jobs" -n 1 sh -c '
  "$1" "$2" "$3" archive-get "$4" "$0/$4" || echo "ended $? $4"
' "$place" "$program" "$@"
"""
_ENDED = re.compile(rb"^ended (\d{1,3}) ([0-9A-F]{24})$", re.MULTILINE)
_MOST_JOBS = 16
_VERSION = re.compile(rb"^pgBackRest (\d+)\.(\d+)", re.MULTILINE)

_probed: dict[tuple[Path, int, int, int], str] = {}
_probing = Lock()


class Refused(ValueError):
    """A call of pgBackRest that is not on the allow-list; a mistake in this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: a verb of `OPTIONS`, its options and arguments, checked when it is made."""

    verb: str
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    write: tuple[Path, ...] = ()
    sink: Path | LineSink | None = None
    timeout_s: int = 600

    def __post_init__(self) -> None:
        if self.verb not in OPTIONS:
            raise Refused(f"pgbackrest {self.verb} is not on the list")
        for name, value in self.options:
            if name not in OPTIONS[self.verb] or not _VALUES[name].match(value):
                raise Refused(f"pgbackrest {self.verb} {name} is not on the list")
        patterns = _ARGUMENTS.get(self.verb, ())
        if len(patterns) != len(self.arguments) or not all(
            pattern.match(argument) and ".." not in argument
            for pattern, argument in zip(patterns, self.arguments, strict=True)
        ):
            raise Refused(f"pgbackrest {self.verb}: these arguments are not on the list")
        if self.write and self.verb not in _WRITING:
            raise Refused(f"pgbackrest {self.verb} writes nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PgBackRestProgram:
    """pgBackRest, bound to one repository with its secrets; made once per open by `open_program`."""

    identifier: str
    settings: PgBackRestSettings
    context: Context
    executable: str
    version_text: str  # "2.45"
    work: Path  # its log, lock and spool directory
    place: Mapping[str, str] = field(repr=False)
    configuration: Secret = field(repr=False)

    @property
    def remote(self) -> bool:
        """Whether the repository is read through the network."""
        return self.place.get("type") in REMOTE

    @property
    def root(self) -> Path | None:
        """The repository's directory on this host, None for one elsewhere."""
        return None if self.remote else Path(self.place["path"])

    @property
    def encrypted(self) -> bool:
        """Whether it is opened with a cipher."""
        return self.place.get("cipher-type", "none") != "none"

    @property
    def refresh_timeout_s(self) -> int:
        """The limit of a call that only lists."""
        return int(self.settings.refresh_timeout.total_seconds())

    def run(self, call: Call) -> Completed:
        """Run one call to its end in the jail and return how it ended, whatever its status.

        Raises Unreachable (timeout) where a repository elsewhere did not answer within the limit,
        TimedOut for one on this host, MissingMeans and Cancelled.
        """
        argv = (self.executable, *(f"{name}={value}" for name, value in call.options))
        if call.verb == "archive-get":
            place, names = call.arguments
            argv = ("/bin/sh", "-c", _EACH, "sh", place, names, str(processors()), *argv)
        else:
            argv = (*argv, call.verb, *call.arguments)
        own = (self.work,) if call.verb in _WRITING else ()
        root = self.root
        try:
            return self.context.tools.run(
                Command(
                    argv=argv,
                    read=(root,) if root is not None else (),
                    write=own + call.write,
                    network=self.remote,
                    secrets={"PGBACKREST_CONFIG": self.configuration},
                    timeout_s=call.timeout_s,
                    sink=call.sink,
                )
            )
        except TimedOut as error:
            if self.remote and error.code == "phase_limit" and call.verb in {"info", "repo-ls"}:
                raise Unreachable("timeout", repository=self.identifier) from error
            raise


def processors() -> int:
    """Return how many processes pgBackRest may use here: one per processor that this one may use."""
    return min(len(os.sched_getaffinity(0)), _MOST_JOBS)


def not_brought(done: Completed) -> tuple[str, int] | None:
    """Return the first segment that `archive-get` did not bring, with its status; None for none."""
    found = sorted((name.decode(), int(status)) for status, name in _ENDED.findall(done.stdout))
    return found[0] if found else None


def open_program(
    identifier: str, settings: PgBackRestSettings, context: Context
) -> PgBackRestProgram:
    """Find pgBackRest, check its version, read the secrets, and return it bound to one repository.

    Raises MissingMeans (program_missing, version_unsupported, secret_missing), AccessRefused,
    ConfigurationError.
    """
    executable = settings.program or context.tools.which("pgbackrest")
    if executable is None or not executable.is_file():
        raise MissingMeans(
            "program_missing",
            Message(
                id="repositories.pgbackrest-missing",
                values={"program": str(executable or "pgbackrest")},
            ),
            Message(id="repositories.pgbackrest-missing.remedy"),
        )
    version = probe_version(executable, context)
    work = context.work / f"pgbackrest-{identifier}"
    work.mkdir(mode=0o700, exist_ok=True)
    place = place_of(identifier, settings, context)
    return PgBackRestProgram(
        identifier=identifier,
        settings=settings,
        context=context,
        executable=str(executable),
        version_text=version,
        work=work,
        place=place,
        configuration=configuration(place, work),
    )


def probe_version(executable: Path, context: Context) -> str:
    """Return pgBackRest's version ("2.45"), asking the program once per process and file.

    Raises MissingMeans (version_unsupported), also when it does not say what it is.
    """
    status = executable.stat()
    key = (executable, status.st_ino, status.st_size, status.st_mtime_ns)
    with _probing:
        version = _probed.get(key)
        if version is None:
            done = context.tools.run(Command(argv=(str(executable), "version"), timeout_s=30))
            match = _VERSION.search(done.stdout)
            if match is None:
                require_not_killed(done, "pgbackrest")
                raise _unsupported("?")
            version = f"{match[1].decode()}.{match[2].decode()}"
            _probed[key] = version
    major, minor = (int(part) for part in version.split("."))
    if not OLDEST <= (major, minor) < BEYOND:
        raise _unsupported(version)
    return version


def _unsupported(found: str) -> MissingMeans:
    bounds = {"oldest": ".".join(map(str, OLDEST)), "beyond": ".".join(map(str, BEYOND))}
    return MissingMeans(
        "version_unsupported",
        Message(id="repositories.pgbackrest-version", values={"found": found, **bounds}),
        Message(id="repositories.pgbackrest-version.remedy", values=bounds),
    )
