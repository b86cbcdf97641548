"""Attacks a borg repository behind ssh, with the key the backup client has (borg 1.2 to 1.4).

Three things are tried, and the repository itself is never opened:

- does the key give a shell: a `printf` whose output does not stand in the command. Whoever has a
  shell there deletes what the account may write.
- may the account write: an archive of nothing in a repository of our own, `backupguard-canary-ID`,
  beside the one that is attacked; it is made where it is not there yet.
- `borg delete` of that whole repository. `borg serve --append-only` refuses it in so many words,
  whatever repository it is (`Repository.destroy`); without, the repository is gone.

What append-only does not refuse is no attempt: an archive deleted there can be brought back until
somebody with other rights compacts the repository (borg's manual, "Append-only mode").
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from backupguard.contracts import (
    Attacker,
    AttackerKind,
    Attempt,
    Bearing,
    CanaryPlace,
    Command,
    Completed,
    Context,
    Secret,
)
from backupguard.errors import AccessRefused, BackupGuardError, TimedOut, Unreachable
from backupguard.repositories import files_attack
from backupguard.repositories.attempting import (
    CANARY,
    Came,
    attempted,
    notes_on,
    refused,
    untried,
    worked,
    writer_missing,
)
from backupguard.repositories.borg_calls import find_program, probe_version
from backupguard.repositories.borg_errors import failure, messages
from backupguard.repositories.borg_settings import BorgSettings
from backupguard.repositories.ssh import SSH_KEY, ssh_words

_TIMEOUT_S = 120
_OURS = "backupguard-"
_HALVES = ("backupguard", "shell")

#: Every call an attacker of borg makes, before the place: nothing else can be expressed.
CALLS: Mapping[str, tuple[str, ...]] = {
    "init": ("--encryption=none",),
    "create": ("--stdin-name=canary",),
    "list": ("--json",),
    "delete": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryProgram:
    """borg, bound to a canary repository and the writer's key; it can name no other repository."""

    identifier: str
    settings: BorgSettings
    context: Context
    executable: Path
    version_text: str
    key: Secret
    memory: Path

    @property
    def canary(self) -> str:
        """The URL of the canary repository: beside the one that is attacked."""
        above = self.settings.url.rstrip("/").rpartition("/")[0]
        return f"{above}/{CANARY}-{self.identifier}"

    @property
    def shown(self) -> str:
        """The path of the canary repository, for records."""
        return urlsplit(self.canary).path

    def run(self, verb: str, archive: str | None = None) -> Completed:
        """Run one of `CALLS` on the canary repository. Raises Unreachable (timeout)."""
        place = self.canary if archive is None else f"{self.canary}::{archive}"
        words = (str(self.executable), "--log-json", "--lock-wait=10", verb, *CALLS[verb], place)
        return self._run(words if verb != "create" else (*words, "-"))

    def shell(self) -> Completed:
        """Ask for two words that a shell joins; nothing is changed by that."""
        parts = urlsplit(self.settings.url)
        user = f"{parts.username}@" if parts.username else ""
        port = str(parts.port) if parts.port else None
        words = ssh_words(self.settings.known_hosts, port, own_key=True)
        return self._run((*words, f"{user}{parts.hostname}", "printf", "%s-%s", *_HALVES))

    def error(self, done: Completed) -> BackupGuardError:
        """Return what a call that did not end well means."""
        major, minor = self.version_text.split(".")[:2]
        return failure(done, (int(major), int(minor)), self.identifier)

    def _run(self, argv: tuple[str, ...]) -> Completed:
        settings = self.settings
        environment = {
            "BORG_BASE_DIR": str(self.memory),
            "BORG_EXIT_CODES": "modern",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
            "BORG_RSH": " ".join(ssh_words(settings.known_hosts, None, own_key=True)),
        }
        if settings.remote_program is not None:
            environment["BORG_REMOTE_PATH"] = str(settings.remote_program)
        try:
            return self.context.tools.run(
                Command(
                    argv=argv,
                    read=(self.executable, *filter(None, (settings.known_hosts,))),
                    write=(self.memory,),
                    network=True,
                    secrets={SSH_KEY: self.key},
                    environment=environment,
                    timeout_s=_TIMEOUT_S,
                )
            )
        except TimedOut as error:
            if error.code != "phase_limit":
                raise
            raise Unreachable("timeout", repository=self.identifier) from error


class BorgAttacker(Attacker):
    """Tries what is said above, once each."""

    kind = AttackerKind.BACKUP_WRITER

    def __init__(self, program: CanaryProgram) -> None:
        self._program = program
        self._put = False
        self._shell = False
        self._code: str | None = None

    def attempts(self, canary: CanaryPlace) -> Iterator[Attempt]:
        """Yield intents and results. Raises Unreachable, AccessRefused (authentication)."""
        shown = self._program.shown
        yield from attempted(
            "shell", urlsplit(self._program.settings.url).hostname or "", self._ask
        )
        archive = f"{_OURS}{canary.token}"
        yield from attempted("put-canary", shown, lambda: self._write(archive), destructive=False)
        yield from attempted("delete-repository", shown, self._delete)

    def bearing(self) -> Bearing:
        """Return that one forced command holds for every repository of the key."""
        root = self._shell and urlsplit(self._program.settings.url).username == "root"
        credentials = "administrator" if root else "writer" if self._put else "unknown"
        return Bearing(
            reaches_data=True,
            credentials=credentials,
            code=self._code,
            notes=notes_on(self._program.settings.credentials, self._program.context),
        )

    def _ask(self) -> Came:
        done = self._program.shell()
        if "-".join(_HALVES).encode() in done.stdout:
            self._shell = True
            return worked("shell")
        if done.returncode == 255:  # ssh's own: the server was not reached, or let nobody in
            error = self._program.error(done)
            if isinstance(error, Unreachable) or error.code == "authentication":
                raise error
        return refused(f"exit {done.returncode}")

    def _write(self, archive: str) -> Came:
        done = self._program.run("create", archive)
        new = done.returncode != 0 and self._program.error(done).code == "not_found"
        if new:
            done = self._program.run("init")
            if done.returncode == 0:
                done = self._program.run("create", archive)
        if done.returncode != 0:
            self._code = "canary_refused"
            return self._refusal(done)
        if new:
            self._put = True
            return worked()
        listed = self._program.run("list")
        names = _archives(listed.stdout) if listed.returncode == 0 else None
        if names is None or archive not in names:
            self._code = "canary_unreadable"
            return untried(self._code)
        if any(not name.startswith(_OURS) for name in names):
            self._code = "canary_not_ours"
            return untried(self._code)
        self._put = True
        return worked()

    def _delete(self) -> Came:
        if not self._put:
            return untried(self._code or "canary_refused")
        done = self._program.run("delete")
        said = messages(done)
        if any("is in append-only mode" in one.text for one in said):
            return refused("append-only")
        left = self._program.run("list")
        if left.returncode == 0:
            return untried(_kind(done) or f"exit {done.returncode}")
        error = self._program.error(left)
        return worked() if error.code == "not_found" else untried(error.code)

    def _refusal(self, done: Completed) -> Came:
        """Return what refused a canary; raises what lies between us and the server."""
        error = self._program.error(done)
        if isinstance(error, Unreachable) or (
            isinstance(error, AccessRefused) and error.code == "authentication"
        ):
            raise error
        return refused(_kind(done) or error.code)


def _archives(output: bytes) -> list[str] | None:
    try:
        return [str(archive["name"]) for archive in json.loads(output)["archives"]]
    except (ValueError, TypeError, KeyError):
        return None


def _kind(done: Completed) -> str | None:
    """Return the name of the error that borg gave, without where it is defined."""
    kinds = [one.kind for one in messages(done) if one.level in {"ERROR", "CRITICAL"} and one.kind]
    return kinds[0].rpartition(".")[2] if kinds else None


def attack(
    identifier: str, settings: BorgSettings, context: Context
) -> AbstractContextManager[Attacker] | None:
    """Return the attacker of a repository: files of this host, or behind ssh.

    Raises MissingMeans (writer_missing, program_missing, version_unsupported, secret_missing).
    """
    if settings.path is not None:
        return files_attack.attack(identifier, settings.path, settings.backup_user, context)
    if settings.credentials.writer_for_probe is None:
        raise writer_missing(identifier)
    executable = find_program(settings, context)
    program = CanaryProgram(
        identifier=identifier,
        settings=settings,
        context=context,
        executable=executable,
        version_text=probe_version(executable, context),
        key=context.secret(settings.credentials.writer_for_probe),
        memory=context.remember(f"borg-canary-{identifier}"),
    )
    return nullcontext(BorgAttacker(program))
