"""Every call of borg that BackupGuard can make, and no other: an allow-list of verbs and options.

A call that is not on the list cannot be expressed: `BorgProgram.run` refuses it before a process
exists. Each carries `--bypass-lock`, so that no lock is written. `check` is not among them: it writes
into the repository even when it repairs nothing, its configuration or its nonce (borg 1.2 to 1.4). A
repository of this host is read-only in the jail; one behind ssh is what the account there makes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from backupguard.contracts import Command, Completed, Context, LineSink, Secret
from backupguard.errors import Busy, MissingMeans, TimedOut, Unreachable
from backupguard.model import Message
from backupguard.outputs import require_not_killed
from backupguard.repositories.borg_errors import Version
from backupguard.repositories.borg_settings import BorgSettings
from backupguard.repositories.ssh import SSH_KEY, ssh_words

OLDEST: Version = (1, 2)
NEWEST: Version = (1, 4)

#: Verb → the options it may carry, besides those of `_ALWAYS`.
OPTIONS: Mapping[str, frozenset[str]] = {
    "list": frozenset({"--json", "--json-lines", "--consider-checkpoints"}),
    "info": frozenset({"--json", "--last", "--sort-by"}),
    "extract": frozenset({"--dry-run", "--numeric-ids", "--noacls", "--noxattrs", "--noflags"}),
}
_ALWAYS = ("--bypass-lock", "--log-json")
_OPTION_VALUES: Mapping[str, re.Pattern[str]] = {
    "--last": re.compile(r"[1-9]\d{0,6}\Z"),
    "--sort-by": re.compile(r"timestamp\Z"),
}
_PASSPHRASE = "BACKUPGUARD_BORG_PASSPHRASE"  # noqa: S105 - the name of a variable
_VERSION = re.compile(rb"^borg\S* (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)
_CACHE_WAIT_S = 600

_probed: dict[tuple[Path, int, int, int], str] = {}
_probing = Lock()


class Refused(ValueError):
    """A call of borg that is not on the allow-list; a mistake in this program, never of a site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: a verb of `OPTIONS`, its options, an archive and paths, checked when it is made.

    `into` is where `extract` writes: the directory it starts in.
    """

    verb: str
    archive: str | None = None
    paths: tuple[str, ...] = ()
    options: tuple[tuple[str, str | None], ...] = ()
    into: Path | None = None
    sink: Path | LineSink | None = None
    timeout_s: int = 600

    def __post_init__(self) -> None:
        if self.verb not in OPTIONS:
            raise Refused(f"borg {self.verb} is not on the list")
        for name, value in self.options:
            pattern = _OPTION_VALUES.get(name)
            wrong = pattern is not None and not pattern.match(value or "")
            if name not in OPTIONS[self.verb] or wrong or (pattern is None and value is not None):
                raise Refused(f"borg {self.verb} {name} is not on the list")
        names = {name for name, _ in self.options}
        if self.paths and self.archive is None:
            raise Refused("paths lie in an archive")
        writes = self.verb == "extract" and "--dry-run" not in names
        if writes != (self.into is not None):
            raise Refused(f"borg {self.verb}: only extract writes, and into a directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class BorgProgram:
    """borg, bound to one repository with its secrets; made once per open by `open_program`."""

    identifier: str
    settings: BorgSettings
    context: Context
    executable: str
    version_text: str  # "1.2.4"
    memory: Path
    secrets: Mapping[str, Secret] = field(repr=False)

    @property
    def version(self) -> Version:
        """Major and minor version."""
        major, minor = self.version_text.split(".")[:2]
        return int(major), int(minor)

    @property
    def base(self) -> Path:
        """borg's own directory: its cache, and what it remembers of repositories; ours alone."""
        return self.memory / "base"

    def run(self, call: Call) -> Completed:
        """Run one call to its end in the jail and return how it ended, whatever its status.

        Raises Unreachable (timeout) where a remote repository did not answer within the limit,
        TimedOut for a local one, MissingMeans and Cancelled.
        """
        settings = self.settings
        remote = settings.path is None
        argv: tuple[str, ...] = (self.executable, call.verb, *_ALWAYS)
        argv += tuple(name if value is None else f"{name}={value}" for name, value in call.options)
        place = settings.url if call.archive is None else f"{settings.url}::{literal(call.archive)}"
        argv += ("--", place, *(f"pp:{path}" for path in call.paths))
        if call.into is not None:
            argv = ("env", f"--chdir={call.into}", *argv)
        needed = (settings.path, settings.known_hosts, Path(self.executable))
        try:
            return self.context.tools.run(
                Command(
                    argv=argv,
                    read=tuple(path for path in needed if path is not None),
                    write=(self.base, *((call.into,) if call.into else ())),
                    network=remote,
                    secrets=self.secrets,
                    environment=self._environment(call.verb),
                    timeout_s=call.timeout_s,
                    sink=call.sink,
                )
            )
        except TimedOut as error:
            if remote and error.code == "phase_limit" and call.verb in {"list", "info"}:
                raise Unreachable("timeout", repository=self.identifier) from error
            raise

    def _environment(self, verb: str) -> Mapping[str, str]:
        settings = self.settings
        environment = {
            "BORG_BASE_DIR": str(self.base),
            # every call looks for a cache and locks it; only `info` needs one, and has it to itself
            **({} if verb == "info" else {"BORG_CACHE_DIR": "/tmp/borg"}),  # noqa: S108 - private
            "BORG_EXIT_CODES": "modern",  # 1.4 and later
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
            "BORG_DISPLAY_PASSPHRASE": "no",
            "TZ": "UTC",  # borg prints local times without a zone
        }
        if _PASSPHRASE in self.secrets:
            environment["BORG_PASSCOMMAND"] = f"sh -c 'cat \"${_PASSPHRASE}\"'"
        else:
            # Nothing is ever sent there, so a repository without a key may be read as it is; where
            # a passphrase is configured, one that asks for none is not the repository meant.
            environment["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        if settings.path is None:
            words = ssh_words(settings.known_hosts, None, own_key=SSH_KEY in self.secrets)
            environment["BORG_RSH"] = " ".join(words)
            if settings.remote_program is not None:
                environment["BORG_REMOTE_PATH"] = str(settings.remote_program)
        return environment

    @contextmanager
    def cache(self) -> Iterator[None]:
        """Hold borg's cache, which two calls of `info` cannot use at once; a dead one's lock goes.

        In the jail all borgs have one process number, so that each takes another's lock for its own
        and a dead one's for a living one's; here the kernel tells. Raises Busy (already_running) after
        ten minutes, Cancelled.
        """
        descriptor = os.open(
            self.memory / "cache.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            for _ in range(_CACHE_WAIT_S):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self.context.cancel.wait(1.0)
                    self.context.cancel.raise_if_set()
            else:
                raise Busy("already_running", repository=self.identifier)
            for lock in (self.base / ".cache" / "borg").glob("*/lock.*"):
                if lock.is_dir():
                    shutil.rmtree(lock, ignore_errors=True)
                else:
                    lock.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)


def literal(archive: str) -> str:
    """Given an archive's name, return what borg takes for it: it puts values into braces."""
    return archive.replace("{", "{{").replace("}", "}}")


def find_program(settings: BorgSettings, context: Context) -> Path:
    """Return where borg is; raises MissingMeans (program_missing)."""
    executable = settings.program or context.tools.which("borg")
    if executable is None or not executable.is_file():
        raise MissingMeans(
            "program_missing",
            Message(id="repositories.borg-missing", values={"program": str(executable or "borg")}),
            Message(id="repositories.borg-missing.remedy"),
        )
    return executable


def open_program(identifier: str, settings: BorgSettings, context: Context) -> BorgProgram:
    """Find borg, check its version, read the secrets, and return it bound to one repository.

    Raises MissingMeans (program_missing, version_unsupported, secret_missing), AccessRefused.
    """
    executable = find_program(settings, context)
    secrets = {}
    for name, reference in (
        (_PASSPHRASE, settings.credentials.reader),
        (SSH_KEY, settings.credentials.backend),
        ("BORG_KEY_FILE", settings.key_file),
    ):
        if reference is not None:
            secrets[name] = context.secret(reference)
    program = BorgProgram(
        identifier=identifier,
        settings=settings,
        context=context,
        executable=str(executable),
        version_text=probe_version(executable, context),
        memory=context.remember(f"borg-{identifier}"),
        secrets=secrets,
    )
    program.base.mkdir(mode=0o700, exist_ok=True)
    return program


def probe_version(executable: Path, context: Context) -> str:
    """Return borg's version ("1.2.4"), asking the program once per process and file.

    Raises MissingMeans (version_unsupported), also when it does not say what it is.
    """
    status = executable.stat()
    key = (executable, status.st_ino, status.st_size, status.st_mtime_ns)
    with _probing:
        version = _probed.get(key)
        if version is None:
            done = context.tools.run(Command(argv=(str(executable), "--version"), timeout_s=60))
            match = _VERSION.search(done.stdout)
            if match is None:
                require_not_killed(done, "borg")
                raise _unsupported("?")
            version = ".".join(part.decode() for part in match.groups(b"0"))
            _probed[key] = version
    major, minor = (int(part) for part in version.split(".")[:2])
    if not OLDEST <= (major, minor) <= NEWEST:
        raise _unsupported(version)
    return version


def _unsupported(found: str) -> MissingMeans:
    bounds = {"oldest": ".".join(map(str, OLDEST)), "newest": ".".join(map(str, NEWEST))}
    return MissingMeans(
        "version_unsupported",
        Message(id="repositories.borg-version", values={"found": found, **bounds}),
        Message(id="repositories.borg-version.remedy", values=bounds),
    )
