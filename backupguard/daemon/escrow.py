"""Restore tests with the key as it lies in escrow, and with no other.

A key that a person brings is never written down: the control socket hands it to the daemon, the daemon
to the one runner that needs it, through an anonymous pipe. It is in no file, argument, environment,
log or record; whatever is killed, it is gone with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from secrets import token_hex

from backupguard.contracts import RepositorySettings, Secret, SecretReference
from backupguard.errors import Busy, MissingMeans, UsageError
from backupguard.model import Json, Message, Run
from backupguard.runs import RunContext, TaskContext

#: What a run's option `key` says, and a result's.
ESCROW, READER = "escrow", "reader"
#: The option that says that a person brought the key: the name under which the daemon holds it.
HANDED = "handed"
#: A pipe holds this much without anybody reading; no password or exported key is nearly as long.
KEY_LIMIT = 16 * 1024
MOST_KEYS = 16


def is_asked(options: Mapping[str, Json]) -> bool:
    """Tell whether a run is to use the escrowed key."""
    return options.get("key") == ESCROW


class HandedKeys:
    """The keys that persons brought, each until its run has ended. For one thread."""

    def __init__(self) -> None:
        self._pipes: dict[str, int] = {}

    def put(self, key: bytes) -> str:
        """Keep a key and return its name, which says nothing of it. Raises Busy, UsageError."""
        if not key or len(key) > KEY_LIMIT:
            raise UsageError("usage")
        if len(self._pipes) >= MOST_KEYS:
            raise Busy("already_running")
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(writing, key)
        finally:
            os.close(writing)
        name = token_hex(8)
        self._pipes[name] = reading
        return name

    def of(self, run: Run) -> int | None:
        """Return the descriptor that a run's key can be read from, once; None without one."""
        return self._pipes.get(str(run.request.options.get(HANDED)))

    def forget(self, run: Run) -> None:
        """Drop the key of a run that has ended; one that nobody read goes with its pipe."""
        pipe = self._pipes.pop(str(run.request.options.get(HANDED)), None)
        if pipe is not None:
            os.close(pipe)


def read_key(descriptor: int) -> Secret:
    """Read a handed key to its end; raises MissingMeans (secret_missing) where there is none."""
    value = b""
    with suppress(OSError):
        while part := os.read(descriptor, KEY_LIMIT):
            value += part
    return _secret(value)


def _secret(value: bytes) -> Secret:
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value or len(value) > KEY_LIMIT:
        raise MissingMeans("secret_missing", name="escrow")
    return Secret("escrow", value)


@dataclass(slots=True, kw_only=True)
class EscrowContext(RunContext):
    """A run's context in which the repository's own key is the escrowed one, and nothing is cached."""

    reader: SecretReference
    backend: SecretReference | None
    key: Secret

    def secret(self, reference: SecretReference) -> Secret:
        """Return the escrowed key for the repository's; what else reaches the place is as ever.

        Any other key on this host is refused, since the test would stand on it as well.
        """
        if reference == self.reader:
            return self.key
        if reference == self.backend:
            return RunContext.secret(self, reference)
        raise MissingMeans("secret_missing", Message(id="escrow.other_key"))

    def remember(self, name: str) -> Path:
        """Return an empty directory of this run: no cache of a tool may stand in for the key."""
        directory = self.work / "fresh" / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory


def usable(place: RepositorySettings | None) -> bool:
    """Tell whether an escrowed key of a repository can be tried at all."""
    return place is not None and place.reader_is_key and place.credentials.reader is not None


def with_escrowed_key(task: TaskContext, handed: Secret | None) -> TaskContext:
    """Return the task as it sees the world with the escrowed key of the repository it names.

    `handed` is the key a person brought; without one it is what `credentials.escrow` names. Raises
    UsageError where no such key can be tried, MissingMeans (secret_missing) where it was not brought.
    """
    options = task.run.request.options
    place = task.settings.repositories.get(str(options.get("repository")))
    if place is None or place.credentials.reader is None or not usable(place):
        raise UsageError("usage", Message(id="escrow.not_usable"))
    key = handed
    if key is None:
        reference = place.credentials.escrow
        if reference is None or options.get(HANDED):
            raise MissingMeans("secret_missing", Message(id="escrow.not_brought"))
        key = task.context.secret(reference)
    given = {one.name: getattr(task.context, one.name) for one in fields(RunContext)}
    context = EscrowContext(
        **given, reader=place.credentials.reader, backend=place.credentials.backend, key=key
    )
    return replace(task, context=context)
