"""What `doctor` and `config check` tell of the certificate of the daemon's port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.cli.doctor_needs import Result
from backupguard.errors import ConfigurationError
from backupguard.model import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupguard.settings import Settings

#: How long before its end a certificate is worth a word.
SOON = timedelta(days=14)


def ends_at(settings: Settings) -> datetime | None:
    """Return when the certificate ends; None without TLS, or for whom may not read its files."""
    if settings.http.web_config is None:
        return None
    from backupguard.settings.web_config import read

    try:
        return read(settings.http.web_config).expires_at
    except ConfigurationError:
        return None


def certificate(settings: Settings) -> Iterator[Result]:
    """Tell when the certificate ends, if there is one."""
    end = ends_at(settings)
    if end is None:
        return
    left = end - datetime.now(UTC)
    state = "bad" if left <= timedelta(0) else "note" if left < SOON else "ok"
    remedy = Message(id="cli.doctor.do.certificate") if state != "ok" else None
    yield Result(check="certificate", state=state, found=common.words().time(end), remedy=remedy)


def say(settings: Settings) -> None:
    """Say that the certificate has ended, or soon will."""
    end = ends_at(settings)
    if end is None or end - datetime.now(UTC) >= SOON:
        return
    word = "expired" if end <= datetime.now(UTC) else "soon"
    common.say(f"cli.config.certificate.{word}", end=common.words().time(end))
