"""How long ago the secrets of technical accounts were last written, and which of them are one.

Only times and equality leave this place. A systemd credential is a copy made when the service starts,
so the age of the secret itself is not to be seen. A file that was written again with the same secret
looks young: what is seen is the file.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from backupguard.contracts import SecretReference
from backupguard.errors import BackupGuardError
from backupguard.model import SITE, Fact, Json, Observation, to_us
from backupguard.runs import TaskContext
from backupguard.settings import Settings
from backupguard.settings.secrets import place_of, read_secret

#: What is seen is recorded when it differs, and once a day.
EVERY = timedelta(days=1)
_READS, _WRITES = ("reader", "backend"), "writer-for-probe"


def references(settings: Settings) -> Iterator[tuple[str, str, SecretReference]]:
    """Yield each secret that opens a repository: repository, use, reference.

    A key that lies in escrow is no account's.
    """
    for name, repository in settings.repositories.items():
        given = repository.credentials
        for use, reference in (
            ("reader", given.reader),
            ("backend", given.backend),
            (_WRITES, given.writer_for_probe),
        ):
            if reference is not None:
                yield name, use, reference


def news(task: TaskContext) -> tuple[Observation, ...]:
    """Return what is seen of the secrets, unless the same was recorded within a day."""
    now = task.context.now()
    data = seen(task.settings, os.environ)
    before = task.context.known.latest("secrets.seen", SITE)
    if before is not None and _same(before, data, now):
        return ()
    return (
        Observation(
            kind="secrets.seen",
            subject=SITE,
            observed_at=now,
            data=data,
            key=f"{task.run.id}/secrets.seen",
        ),
    )


def seen(settings: Settings, environ: Mapping[str, str]) -> dict[str, Json]:
    """Return what is seen of every secret: when its file was written, and who shares it."""
    found = list(references(settings))
    return {
        "secrets": [
            {
                "repository": name,
                "use": use,
                "written_at": _written_at(reference),
                "code": _code(reference, environ),
            }
            for name, use, reference in found
        ],
        "shared": [name for name in settings.repositories if _shared(settings, name, environ)],
    }


def _written_at(reference: SecretReference) -> int | None:
    if reference.file is None:
        return None
    try:
        return reference.file.stat().st_mtime_ns // 1000
    except OSError:
        return None


def _code(reference: SecretReference, environ: Mapping[str, str]) -> str | None:
    """Return why a secret cannot be used here, as a code; None when it can."""
    if place_of(reference, environ) is None:
        return "secret_missing"
    try:
        read_secret(reference, environ)
    except BackupGuardError as error:
        return error.code
    return None


def _shared(settings: Settings, repository: str, environ: Mapping[str, str]) -> bool:
    """Tell whether a repository is read with the very secret that the backup writer uses."""
    values: dict[str, bytes] = {}
    for name, use, reference in references(settings):
        if name == repository:
            try:
                values[use] = read_secret(reference, environ).reveal()
            except BackupGuardError:
                continue
    writer = values.get(_WRITES)
    return writer is not None and any(
        hmac.compare_digest(values[use], writer) for use in _READS if use in values
    )


def _same(before: Fact, data: Mapping[str, Json], now: datetime) -> bool:
    at = to_us(before.observation.observed_at)
    return bool(before.observation.data == data) and 0 <= to_us(now) - at < EVERY // timedelta(
        microseconds=1
    )
