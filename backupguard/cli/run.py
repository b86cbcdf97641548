"""`run`, `pause` and the hidden `perform`."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from backupguard.cli import common
from backupguard.contracts import parse_duration
from backupguard.daemon import client
from backupguard.errors import EXIT_CONFIGURATION, UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.settings import Settings


def run() -> int:
    """Run the daemon: schedule, prove, judge, publish; until SIGTERM."""
    path = common.options().config
    if _explain_missing(path):
        return EXIT_CONFIGURATION
    from backupguard.daemon.memory import without_ornaments

    without_ornaments()
    from backupguard.daemon.main import run_daemon

    return run_daemon(path, verbose=common.options().verbose)


def _explain_missing(path: Path | None) -> bool:
    """Say what to do where there is no configuration at all; False when there is one."""
    import os

    from backupguard.resources import shipped
    from backupguard.settings.loading import config_path
    from backupguard.settings.presence import says_nothing

    wanted = config_path(path, os.environ)
    if not says_nothing(wanted):
        return False
    try:
        example = str(shipped("backupguard.toml"))
    except FileNotFoundError:
        example = "backupguard.toml"
    words = common.words()
    common.complain(words.text("daemon.no-configuration", path=str(wanted), example=example))
    return True


def pause(
    reason: Annotated[
        str,
        typer.Option("--reason", help="Why, also with --end; it stands in the report. Required."),
    ] = "",
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="2026-03-05T18:00, 18:00 or 4h."),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End the pause that stands.")] = False,
) -> None:
    """Pause what the daemon starts by itself; people's own requests are still performed."""
    if not reason.strip():
        raise UsageError("usage", Message(id="error.pause-reason"))
    settings = common.settings()
    if end:
        ended = _end(settings, reason.strip())
        common.say("pause.ended" if ended else "pause.none")
        return
    moment = parse_until(until, settings.site.timezone, datetime.now(UTC)) if until else None
    _start(settings, moment, reason.strip())
    if moment is None:
        common.say("pause.started")
    else:
        common.say("pause.started-until", until=common.words().time(moment))
    common.say("pause.running-go-on")


def _start(settings: Settings, until: datetime | None, reason: str) -> None:
    if client.daemon_alive(settings):
        client.pause(settings, until=until, reason=reason)
        return
    from backupguard.daemon import pauses
    from backupguard.daemon.requests import author

    who, store = author(), common.store(settings)
    try:
        pauses.start(store, until=until, reason=reason, author=who, now=datetime.now(UTC))
    finally:
        store.close()


def _end(settings: Settings, reason: str) -> bool:
    if client.daemon_alive(settings):
        return client.end_pause(settings, reason=reason)
    from backupguard.daemon import pauses
    from backupguard.daemon.requests import author

    who, store = author(), common.store(settings)
    try:
        return pauses.end(store, reason=reason, author=who, now=datetime.now(UTC))
    finally:
        store.close()


def parse_until(text: str, timezone: str, now: datetime) -> datetime:
    """Given "2026-03-05T18:00", "18:00" (the next one) or "4h", return the time in UTC.

    Times without a zone are the site's. Raise UsageError when it is none of these, or is past.
    """
    zone = ZoneInfo(timezone)
    try:
        duration = parse_duration(text)
        assert isinstance(duration, timedelta)
        moment = now + duration
    except (ValueError, OverflowError):
        try:
            moment = _time(text, zone, now)
        except ValueError as error:
            raise _no_time(text) from error
    if moment <= now:
        raise _no_time(text)
    return moment.astimezone(UTC)


def _time(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    if len(text) <= 5:
        today = datetime.combine(now.astimezone(zone).date(), time.fromisoformat(text), zone)
        return today if today > now else today + timedelta(days=1)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _no_time(text: str) -> UsageError:
    return UsageError("usage", Message(id="error.pause-time", values={"text": text}))


def perform(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    settings: Annotated[Path, typer.Option("--settings", metavar="FILE")],
) -> int:
    """Perform one waiting run with the settings of a file that the daemon wrote."""
    from backupguard.daemon.runner import perform_run

    return perform_run(run, settings)
