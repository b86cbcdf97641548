"""The restore-test engine of what no sandbox here can run: a scratch server that the site gives.

It is asked only where the site names it. What keeps production safe is `instance_guard`; how each kind
of server loads and checks a backup is in the module of its kind.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import structlog

from backupguard.contracts import (
    EngineSettings,
    GivenInstance,
    Match,
    Requirements,
    Sample,
    Trial,
)
from backupguard.errors import BackupGuardError, MissingMeans
from backupguard.model import CheckResult, Fingerprint
from restore_tests import instance_guard, instance_mssql, instance_postgresql, postgresql_archive
from restore_tests.settings import InstanceTestSettings

ENGINE = "instance"
_MIB = 1 << 20
_KINDS: Mapping[str, ModuleType] = {"postgresql": instance_postgresql, "mssql": instance_mssql}
_ARCHIVES = frozenset({"custom", "directory", "tar", instance_mssql.FORMAT})
#: What the engine remembers of a trial.
_SERVER, _NAME = "scratch-server", "scratch-name"

log = structlog.get_logger(__name__)


class Instance:
    """`contracts.Engine` for scratch servers."""

    name = ENGINE
    settings: type[EngineSettings] = InstanceTestSettings
    only_when_named = True  # nothing is ever sent to a server that nobody named

    def recognise(self, sample: Sample) -> Match | None:
        """Say whether this artifact is one that a kind of scratch server reads."""
        found = postgresql_archive.recognise(sample)
        kind = "postgresql"
        if found is None:
            found, kind = instance_mssql.recognise(sample), "mssql"
        if found is None:
            return None
        return Match(
            engine=ENGINE,
            certainty=found.certainty,
            format=found.format,
            version=found.version,
            compression=found.compression,
            extra={**(found.extra or {}), "kind": kind},
        )

    def requirements(self, match: Match, artifact_bytes: int) -> Requirements:  # noqa: ARG002
        """Say what the restore needs here: the data themselves are on the scratch server.

        Raises MissingMeans (unrecognised_artifact) for a plain script, which a client would have to run
        with its commands, and for one that was compressed once more.
        """
        wrapped = match.compression is not None and match.format != "directory"
        if match.format not in _ARCHIVES or wrapped:
            raise MissingMeans("unrecognised_artifact")
        return Requirements(programs=(), disk_bytes=16 * _MIB, memory_bytes=128 * _MIB)

    def prepare(self, trial: Trial) -> None:
        """Look at the artifact, then at the server; leave both alone where anything forbids it.

        Raises MissingMeans (instance_*), Busy while another test holds the server.
        """
        given, kind = _given(trial), _kind(trial)
        if given.settings.max_bytes is not None:
            size = trial.memory.get("artifact_bytes", 0)
            if size > given.settings.max_bytes:
                raise MissingMeans(
                    "instance_too_small",
                    name=given.name,
                    needed=size,
                    free=given.settings.max_bytes,
                )
        trial.memory["scanned"] = kind.scan(trial)
        sources = [str(one) for one in (trial.memory.get("source_host"),) if one]
        server = instance_guard.open_server(given, trial.context.secret, sources)
        trial.memory[_SERVER] = server
        here = socket.gethostname()
        identity = instance_guard.admit(given, server, sources, here)
        # What the backup itself says of its source, where only the server can read it.
        instance_guard.refuse_identity(given, identity, kind.sources(trial), here)
        instance_guard.hold(given, server)
        for left in instance_guard.drop_leftovers(server):
            log.warning("instance.leftover_dropped", instance=given.name, database=left)
        trial.memory["tools"] = {given.settings.kind: identity.version[:20]}

    def load(self, trial: Trial) -> None:
        """Restore under a name made here, recorded on the server before anything is made."""
        server = trial.memory[_SERVER]
        name = instance_guard.new_name(_given(trial), server, trial.context.now())
        trial.memory[_NAME] = name
        _kind(trial).load(trial, server, name)

    def open(self, trial: Trial) -> None:
        """Have the restored database answer."""
        _kind(trial).open_database(trial)

    def verify(self, trial: Trial, level: int) -> Iterator[CheckResult]:
        """Yield what its kind checks; one that was never seen alive ends in an open check."""
        given = _given(trial)
        yield from _kind(trial).verify(trial, level)
        if instance_guard.needs_confirmation(given, trial.memory["tools"][given.settings.kind]):
            yield instance_guard.unproven_check()

    def fingerprint(self, trial: Trial) -> Fingerprint | None:
        """Return the shape of what was restored."""
        found: Fingerprint | None = _kind(trial).fingerprint(trial)
        return found

    def close(self, trial: Trial) -> None:
        """Drop what was made and disconnect. What could not be dropped is told by the phase."""
        server = trial.memory.get(_SERVER)
        if server is None:
            return
        try:
            name = trial.memory.get(_NAME)
            if name is not None:
                server.reconnect()
                instance_guard.discard(server, name)
        except Exception as error:  # noqa: BLE001 - whatever it was, restored data may stand there
            reason = error.code if isinstance(error, BackupGuardError) else type(error).__name__
            log.error("instance.not_dropped", database=trial.memory.get(_NAME), reason=reason)
            trial.memory["left_behind"] = MissingMeans(
                "instance_not_dropped", name=_given(trial).name, database=str(name)
            )
        finally:
            server.close()
            _remove_copy(trial)


def _remove_copy(trial: Trial) -> None:
    """Remove what was laid where the server reads; what stays is told by the phase."""
    try:
        _kind(trial).close(trial)
    except OSError:
        name = _given(trial).name
        trial.memory["left_behind"] = MissingMeans("instance_not_dropped", name=name, database="—")


def _given(trial: Trial) -> GivenInstance:
    given = trial.memory.get("instance")
    if not isinstance(given, GivenInstance):
        raise MissingMeans("instance_unknown")
    return given


def _kind(trial: Trial) -> Any:
    given, extra = _given(trial), trial.match.extra or {}
    if given.settings.kind != extra.get("kind"):
        raise MissingMeans("instance_kind", name=given.name, kind=given.settings.kind)
    return _KINDS[given.settings.kind]


INSTANCE = Instance()
