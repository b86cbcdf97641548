"""Every call of restic that BackupGuard can make, and no other: an allow-list of verbs and options.

A call that is not on the list cannot be expressed: `ResticProgram.call` refuses it before a process
exists. None of the verbs changes a repository, and each carries `--no-lock`, so that not even a lock
file is written (restic 0.14 to 0.19).
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from backupguard.contracts import Command, Completed, Context, LineSink, Secret
from backupguard.errors import MissingMeans, TimedOut, Unreachable
from backupguard.model import Message
from backupguard.outputs import require_not_killed
from backupguard.repositories.restic_errors import Version
from backupguard.repositories.restic_settings import (
    Backend,
    ResticSettings,
    bytes_per_second,
    ssh_target,
)
from backupguard.repositories.ssh import SSH_KEY, ssh_words

OLDEST: Version = (0, 14)
NEWEST: Version = (0, 19)

#: Verb → the options it may carry, besides those `_global_options` adds to every call.
OPTIONS: Mapping[str, frozenset[str]] = {
    "version": frozenset(),
    "snapshots": frozenset(),
    "cat": frozenset(),
    "list": frozenset(),
    "ls": frozenset({"--recursive"}),
    "stats": frozenset({"--mode"}),
    "check": frozenset({"--read-data-subset"}),
    "restore": frozenset({"--target", "--include", "--exclude-xattr", "--verify"}),
}
#: Verb → what its first argument must be, where that decides what the call does.
OBJECTS: Mapping[str, frozenset[str]] = {
    # A blob may be a tree or a piece of a file; what is asked for is always a tree (restic_needs).
    "cat": frozenset({"config", "lock", "index", "blob"}),
    "list": frozenset({"locks", "index", "snapshots"}),
}
_WITHOUT_ARGUMENTS = frozenset({"version", "snapshots", "check", "stats"})
_OPTION_VALUES: Mapping[str, re.Pattern[str]] = {
    "--recursive": re.compile(r"true\Z"),
    "--verify": re.compile(r"true\Z"),
    "--mode": re.compile(r"raw-data\Z"),
    "--read-data-subset": re.compile(r"\d{1,3}/\d{1,3}\Z"),
}
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+\Z")
_SSH_LOG_LIMIT = 64 << 10
_VERSION = re.compile(rb"^restic (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)

_probed: dict[tuple[Path, int, int, int], str] = {}
_probing = Lock()


class Refused(ValueError):
    """A call of restic that is not on the allow-list; a mistake in this program, never of a site."""


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
            raise Refused(f"restic {self.verb} is not on the list")
        for name, value in self.options:
            pattern = _OPTION_VALUES.get(name)
            if name not in OPTIONS[self.verb] or (pattern and not pattern.match(value)):
                raise Refused(f"restic {self.verb} {name} is not on the list")
        if self.verb in _WITHOUT_ARGUMENTS and self.arguments:
            raise Refused(f"restic {self.verb} takes no arguments here")
        wanted = OBJECTS.get(self.verb)
        if wanted is not None and (not self.arguments or self.arguments[0] not in wanted):
            raise Refused(f"restic {self.verb} is allowed for {sorted(wanted)} only")
        if self.write and self.verb != "restore":
            raise Refused(f"restic {self.verb} writes nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResticProgram:
    """restic, bound to one repository with its secrets; made once per open by `open_program`."""

    identifier: str
    settings: ResticSettings
    context: Context
    executable: str
    version_text: str  # "0.18.0"
    cache: Path
    secrets: Mapping[str, Secret] = field(repr=False)

    @property
    def version(self) -> Version:
        """Major and minor version."""
        major, minor = self.version_text.split(".")[:2]
        return int(major), int(minor)

    def run(self, call: Call) -> Completed:
        """Run one call to its end in the jail and return how it ended, whatever its status.

        Raises Unreachable (timeout) where a remote repository did not answer within the limit,
        TimedOut for a local one, MissingMeans and Cancelled.
        """
        ssh_said = self._ssh_log()
        argv = (self.executable, *self._global_options(ssh_said), call.verb)
        argv += tuple(f"{name}={value}" for name, value in call.options)
        argv += ("--", *call.arguments) if call.arguments else ()
        settings = self.settings
        remote = settings.backend is not Backend.LOCAL
        needed = (settings.path, settings.ca_certificate, settings.known_hosts)
        try:
            done = self.context.tools.run(
                Command(
                    argv=argv,
                    read=tuple(path for path in needed if path is not None),
                    write=((self.cache,) if remote else ()) + call.write,
                    network=remote,
                    secrets=self.secrets,
                    environment=self._environment(),
                    timeout_s=call.timeout_s,
                    sink=call.sink,
                )
            )
        except TimedOut as error:
            if remote and error.code == "phase_limit" and call.verb not in {"restore", "check"}:
                raise Unreachable("timeout", repository=self.identifier) from error
            raise
        else:
            return done if ssh_said is None else _with_words_of_ssh(done, ssh_said)
        finally:
            if ssh_said is not None:
                ssh_said.unlink(missing_ok=True)

    def _ssh_log(self) -> Path | None:
        """Return the file into which ssh says why it ended; restic may end before it has read that.

        None where there is no ssh, or the cache's path is none that restic would hand on unbroken.
        """
        path = self.cache / f"ssh-{uuid4().hex}.log"
        if self.settings.backend is not Backend.SFTP or not _PLAIN_PATH.match(str(path)):
            return None
        return path

    def _global_options(self, ssh_log: Path | None) -> tuple[str, ...]:
        settings = self.settings
        options = ["--json", "--no-lock"]
        # A local repository is read as fast without a cache, and then nothing at all is written.
        if settings.backend is Backend.LOCAL:
            options.append("--no-cache")
        else:
            options.append(f"--cache-dir={self.cache}")
        if "RESTIC_REPOSITORY_FILE" not in self.secrets:
            options.append(f"--repo={settings.url}")
        if settings.limits.bandwidth is not None:
            kibibytes = max(1, bytes_per_second(settings.limits.bandwidth) // 1024)
            options.append(f"--limit-download={kibibytes}")
        if settings.ca_certificate is not None:
            options.append(f"--cacert={settings.ca_certificate}")
        if settings.backend is Backend.SFTP:
            options.append(f"--option=sftp.command={self._ssh(ssh_log)}")
        return tuple(options)

    def _ssh(self, ssh_log: Path | None) -> str:
        """Return the ssh call for `sftp.command`; the key's path is filled in by ssh itself.

        restic reads it as one field of CSV and then splits it at blanks: the settings let neither
        quotes nor blanks nor commas into what stands here.
        """
        user_host, port = ssh_target(self.settings.url)
        words = ssh_words(self.settings.known_hosts, port, own_key=SSH_KEY in self.secrets)
        words += ["-E", str(ssh_log)] if ssh_log is not None else []
        return " ".join([*words, user_host, "-s", "sftp"])

    def _environment(self) -> Mapping[str, str]:
        region = self.settings.region
        environment = {"RESTIC_PROGRESS_FPS": "1"}
        return environment | ({"AWS_DEFAULT_REGION": region} if region else {})

    def authorization(self) -> Mapping[str, str]:
        """Return the HTTP headers that authenticate against a `rest:` repository."""
        if self.settings.credentials.backend is None:
            return {}
        user_password = self.context.secret(self.settings.credentials.backend).reveal().strip()
        return {"Authorization": "Basic " + base64.b64encode(user_password).decode("ascii")}


def _with_words_of_ssh(done: Completed, log: Path) -> Completed:
    """Return how restic ended, with what ssh said among its errors when it did not end well."""
    if done.returncode == 0 or not log.is_file():
        return done
    with log.open("rb") as file:
        return replace(done, stderr=done.stderr + b"\n" + file.read(_SSH_LOG_LIMIT))


def with_credentials(url: str, user_password: str) -> str:
    """Given a `rest:` URL and "user:password", return the URL that carries both, quoted."""
    user, _, password = user_password.partition(":")
    parts = urlsplit(url.removeprefix("rest:"))
    place = f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"
    return "rest:" + urlunsplit(parts._replace(netloc=place))


def open_program(identifier: str, settings: ResticSettings, context: Context) -> ResticProgram:
    """Find restic, check its version, read the secrets, and return it bound to one repository.

    Raises MissingMeans (program_missing, version_unsupported, secret_missing), AccessRefused.
    """
    executable = settings.program or context.tools.which("restic")
    if executable is None or not executable.is_file():
        raise MissingMeans(
            "program_missing",
            Message(
                id="repositories.restic-missing", values={"program": str(executable or "restic")}
            ),
            Message(id="repositories.restic-missing.remedy"),
        )
    version = probe_version(executable, context)
    return ResticProgram(
        identifier=identifier,
        settings=settings,
        context=context,
        executable=str(executable),
        version_text=version,
        cache=context.remember(f"restic-{identifier}"),
        secrets=_secrets(settings, context),
    )


def _secrets(settings: ResticSettings, context: Context) -> Mapping[str, Secret]:
    if settings.credentials.reader is None:
        raise MissingMeans("secret_missing", name="credentials.reader")
    secrets = {"RESTIC_PASSWORD_FILE": context.secret(settings.credentials.reader)}
    if settings.credentials.backend is None:
        return secrets
    backend = context.secret(settings.credentials.backend)
    if settings.backend is Backend.REST:
        url = with_credentials(settings.url, backend.reveal().decode("utf-8").strip())
        secrets["RESTIC_REPOSITORY_FILE"] = Secret(backend.name, url.encode())
    elif settings.backend is Backend.S3:
        secrets["AWS_SHARED_CREDENTIALS_FILE"] = backend
    elif settings.backend is Backend.SFTP:
        secrets[SSH_KEY] = backend
    return secrets


def probe_version(executable: Path, context: Context) -> str:
    """Return restic's version ("0.18.0"), asking the program once per process and file.

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
                require_not_killed(done, "restic")
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
        Message(id="repositories.restic-version", values={"found": found, **bounds}),
        Message(id="repositories.restic-version.remedy", values=bounds),
    )


def this_host() -> str:
    """Return this host's name, as restic writes it into locks and snapshots."""
    return socket.gethostname()
