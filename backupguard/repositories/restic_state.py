"""What a restic repository is: identity, format, locks, room, and how rarely that is asked.

Every call of restic that opens a repository costs about 0.4 s of key derivation. The inventory pays
that once, for its snapshots; what is in here is therefore read where no key is needed (names of
files, also over HTTP), and remembered where one is: the configuration of a repository is decrypted
again only when its bytes differ from those remembered, or, where they cannot be seen, once a day.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backupguard.contracts import LockSeen, RepositoryState
from backupguard.errors import AccessRefused, Misunderstood, Unreachable
from backupguard.model import repository_subject
from backupguard.outputs import last_json
from backupguard.repositories.devices import (
    device_of_bucket,
    device_of_host,
    device_of_path,
)
from backupguard.repositories.restic_calls import Call, ResticProgram, this_host
from backupguard.repositories.restic_errors import failure
from backupguard.repositories.restic_settings import Backend, ssh_target
from backupguard.repositories.restic_snapshots import parse_time

#: How long what could not be compared is believed.
BELIEVED = timedelta(hours=24)
_HTTP_TIMEOUT_S = 15
_NAME = re.compile(r"[0-9a-f]{64}\Z")
_LOCKS_READ = 5
_KIND_DIRECTORIES = frozenset({"locks", "index", "snapshots"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A repository's own id and format version, as `cat config` says."""

    repository_id: str
    format_version: str


class ResticState:
    """Looks at one repository from outside (names, bytes) and, where it must, through restic."""

    def __init__(self, program: ResticProgram) -> None:
        self._program = program
        self._config: bytes | None = None

    # ---- reachability

    def reach(self) -> None:
        """Raise unless the repository's `config` can be read; nothing for sftp and s3.

        restic itself repeats a refused connection for 15 minutes; this asks once.
        """
        settings = self._program.settings
        path = settings.path
        if path is not None:
            self._config = self._read_local(path / "config")
        elif self._can_use_http:
            self._config = self._http("config")

    @property
    def _can_use_http(self) -> bool:
        settings = self._program.settings
        # An own certificate authority is restic's business: plug-ins' HTTP knows the system's only.
        return settings.backend is Backend.REST and settings.ca_certificate is None

    def _read_local(self, path: Path) -> bytes:
        identifier = self._program.identifier
        try:
            with path.open("rb") as file:
                return file.read(1 << 16)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Unreachable("not_found", repository=identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=identifier) from error
        except OSError as error:
            raise Unreachable("refused", repository=identifier) from error

    def _http(self, name: str) -> bytes:
        program = self._program
        status, body = program.context.http.get(
            program.settings.http_url + name,
            headers={**program.authorization(), "Accept": "application/vnd.x.restic.rest.v1"},
            timeout_s=_HTTP_TIMEOUT_S,
        )
        if status in {401, 403}:
            raise AccessRefused("authentication", repository=program.identifier)
        if status == 404:
            raise Unreachable("not_found", repository=program.identifier)
        if status >= 500:
            raise Unreachable("http_5xx", repository=program.identifier)
        if status != 200:
            raise Misunderstood("output_unparsable", repository=program.identifier)
        return body

    # ---- names

    def names(self, kind: str, *, cheap: bool = False) -> frozenset[str] | None:
        """Return the names of all files of a kind ("locks", "index", "snapshots").

        With `cheap`, return None rather than open the repository with its key.
        """
        if kind not in _KIND_DIRECTORIES:
            raise ValueError(kind)
        path = self._program.settings.path
        if path is not None:
            try:
                return frozenset(name for name in os.listdir(path / kind) if _NAME.match(name))  # noqa: PTH208
            except FileNotFoundError:
                return frozenset()
            except OSError as error:
                raise AccessRefused("permission", repository=self._program.identifier) from error
        if self._can_use_http:
            body = self._http(f"{kind}/")
            if body.strip() in {b"", b"null"}:  # how some servers write an empty list
                return frozenset()
            listed = last_json(body, program="rest-server")
            return frozenset(name for name in listed if isinstance(name, str) and _NAME.match(name))
        if cheap:
            return None
        done = self._run(Call(verb="list", arguments=(kind,), timeout_s=self._timeout_s))
        lines = done.decode("ascii", "replace").split()
        return frozenset(name for name in lines if _NAME.match(name))

    @property
    def _timeout_s(self) -> int:
        return int(self._program.settings.refresh_timeout.total_seconds())

    def _run(self, call: Call) -> bytes:
        done = self._program.run(call)
        if done.returncode != 0:
            raise failure(done, self._program.version, self._program.identifier)
        return done.stdout

    # ---- identity

    def identity(self) -> tuple[Identity, bool]:
        """Return the repository's identity, and whether restic opened it just now to say so."""
        seal = hashlib.sha256(self._config).hexdigest() if self._config is not None else None
        remembered = self._remembered(seal)
        if remembered is not None:
            return remembered, False
        config = last_json(
            self._run(Call(verb="cat", arguments=("config",), timeout_s=self._timeout_s)),
            program="restic",
        )
        try:
            found = Identity(repository_id=str(config["id"]), format_version=str(config["version"]))
        except (KeyError, TypeError) as error:
            raise Misunderstood("output_unparsable", program="restic") from error
        self._remember(found, seal)
        return found, True

    @property
    def _memory(self) -> Path:
        return self._program.cache / "identity.json"

    def _remembered(self, seal: str | None) -> Identity | None:
        try:
            kept = json.loads(self._memory.read_bytes())
            until = datetime.fromtimestamp(kept["at"], UTC) + BELIEVED
            if kept["url"] != self._program.settings.url or kept["config_sha256"] != seal:
                return None
            if seal is None and not until - BELIEVED <= self._program.context.now() < until:
                return None
            return Identity(
                repository_id=kept["repository_id"], format_version=kept["format_version"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, found: Identity, seal: str | None) -> None:
        kept = {
            "url": self._program.settings.url,
            "config_sha256": seal,
            "at": int(self._program.context.now().timestamp()),
            "repository_id": found.repository_id,
            "format_version": found.format_version,
        }
        temporary = self._memory.with_suffix(".new")
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        temporary.replace(self._memory)

    # ---- locks

    def locks(self, *, cheap: bool) -> tuple[LockSeen, ...]:
        """Return the locks that stand, who holds them and since when; none is ever broken.

        At most five are decrypted (0.4 s each); of the others only the existence is told. With
        `cheap`, where names cannot be seen without the key, what was last recorded is repeated.
        """
        names = self.names("locks", cheap=cheap)
        if names is None:
            return self._recorded_locks()
        seen: list[LockSeen] = []
        for number, name in enumerate(sorted(names)):
            if number < _LOCKS_READ:
                lock = self._lock(name)
                if lock is not None:
                    seen.append(lock)
            else:
                seen.append(
                    LockSeen(
                        holder_host=None, holder_pid=None, since=None, exclusive=False, alive=None
                    )
                )
        return tuple(seen)

    def _lock(self, name: str) -> LockSeen | None:
        done = self._program.run(
            Call(verb="cat", arguments=("lock", name), timeout_s=self._timeout_s)
        )
        if done.returncode != 0:
            # Released between listing and reading: that is no lock any more.
            if name not in (self.names("locks") or ()):
                return None
            raise failure(done, self._program.version, self._program.identifier)
        lock = last_json(done.stdout, program="restic")
        try:
            host, pid = str(lock["hostname"]), int(lock["pid"])
            since, exclusive = parse_time(lock["time"]), bool(lock["exclusive"])
        except (KeyError, TypeError, ValueError) as error:
            raise Misunderstood("output_unparsable", program="restic") from error
        return LockSeen(
            holder_host=host,
            holder_pid=pid,
            since=since,
            exclusive=exclusive,
            alive=Path(f"/proc/{pid}").exists() if host == this_host() else None,
        )

    def _recorded_locks(self) -> tuple[LockSeen, ...]:
        fact = self._program.context.known.latest(
            "repository.inspected", repository_subject(self._program.identifier)
        )
        return tuple(_lock_of(lock) for lock in fact.observation.data["locks"]) if fact else ()

    # ---- all of it

    def state(self, *, opened: bool) -> RepositoryState:
        """Return the whole state; `opened` says that restic has opened the repository already.

        When it has not, this does: a state that nobody proved is not returned.
        """
        if not opened:
            self.reach()
        found, asked = self.identity()
        if not opened and not asked:
            self._run(Call(verb="cat", arguments=("config",), timeout_s=self._timeout_s))
        # A fresh identity once a day is also the occasion for the locks of remote repositories.
        locks = self.locks(cheap=opened and not asked)
        return RepositoryState(
            tool="restic",
            tool_version=self._program.version_text,
            repository_id=found.repository_id,
            format_version=found.format_version,
            encrypted=True,
            locks=locks,
            free_bytes=self._free_bytes(),
            device=self._device(),
        )

    def _free_bytes(self) -> int | None:
        path = self._program.settings.path
        if path is None:
            return None
        numbers = os.statvfs(path)
        return numbers.f_bavail * numbers.f_frsize

    def _device(self) -> str | None:
        settings = self._program.settings
        if settings.path is not None:
            return device_of_path(settings.path)
        if settings.backend is Backend.SFTP and not settings.url.startswith("sftp://"):
            return device_of_host(ssh_target(settings.url)[0].rpartition("@")[2])
        address = (
            settings.url.partition(":")[2] if settings.backend is not Backend.SFTP else settings.url
        )
        parts = urlsplit(address if "//" in address else f"//{address}")
        if not parts.hostname:
            return None
        if settings.backend is Backend.S3:
            return device_of_bucket(parts.netloc, parts.path.strip("/").split("/", 1)[0])
        return device_of_host(parts.hostname)


def _lock_of(data: Any) -> LockSeen:
    since = data["since_at"]
    return LockSeen(
        holder_host=data["host"],
        holder_pid=data["pid"],
        since=datetime.fromtimestamp(since / 1_000_000, UTC) if since is not None else None,
        exclusive=data["exclusive"],
        alive=data["alive"],
    )


def unchanged(before: Sequence[str] | frozenset[str], after: frozenset[str]) -> bool:
    """Tell whether no index file of `before` has gone.

    A prune writes new indexes and removes old ones before it deletes packs, and a backup only adds
    some. So when all that stood still stands, nothing it names was taken away on purpose.
    """
    return set(before) <= after
