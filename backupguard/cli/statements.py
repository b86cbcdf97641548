"""What `attest` and `waive` share: through the daemon or in this process, days, who spoke."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from backupguard.cli import common
from backupguard.contracts import parse_duration
from backupguard.errors import UsageError
from backupguard.model import Message, from_us

if TYPE_CHECKING:
    from backupguard.daemon.statements import Statements
    from backupguard.language import Words
    from backupguard.model import Json
    from backupguard.settings import Settings

T = TypeVar("T")


def do(
    settings: Settings,
    asked: Callable[[], T],
    done: Callable[[Statements, int], T],
    *,
    changes: bool = True,
) -> T:
    """Return what the living daemon answers to `asked`, or else what `done` gives in this process.

    `done` is handed the account this command was started by, before it became the store's owner.
    """
    from backupguard.daemon import client

    if client.daemon_alive(settings):
        return asked()
    uid = os.getuid()
    with _in_process(settings, changes=changes) as statements:
        return done(statements, uid)


@contextmanager
def _in_process(settings: Settings, *, changes: bool) -> Iterator[Statements]:
    from backupguard.cli.acting import judge
    from backupguard.controls import catalogue_of
    from backupguard.daemon.log import configure
    from backupguard.daemon.statements import Statements

    configure(quiet=not common.options().verbose)
    with closing(common.store(settings)) as store:
        yield Statements(store, settings, catalogue_of(settings))
        if changes:
            judge(settings, store)


def last_day(settings: Settings, until: str | None, lasting: str | None) -> date:
    """Return the last day of something: a day that is given, or so many days from today at the site.

    Raises UsageError unless exactly one of both is given.
    """
    from zoneinfo import ZoneInfo

    if (until is None) == (lasting is None):
        raise UsageError("usage", Message(id="statements.one-end"))
    try:
        if until is not None:
            return date.fromisoformat(until)
        duration = parse_duration(lasting)
        if not isinstance(duration, timedelta):
            raise ValueError(lasting)
        today = datetime.now(UTC).astimezone(ZoneInfo(settings.site.timezone)).date()
        return today + duration
    except (ValueError, OverflowError) as error:
        given = str(until if until is not None else lasting)[:80]
        raise UsageError(
            "usage", Message(id="statements.no-day", values={"given": given})
        ) from error


def when(words: Words, microseconds: int) -> str:
    """Return a time in words."""
    return words.time(from_us(microseconds))


def until(words: Words, microseconds: int) -> str:
    """Return the last day of the site on which something holds that ends at a midnight."""
    return words.day(from_us(microseconds - 1).astimezone(words.timezone).date())


def authenticated(words: Words, key: Json) -> str:
    """Return whether a statement was signed, and with which key."""
    if key is None:
        return words.text("statements.not-authenticated")
    return words.text("statements.signed", key=str(key))
