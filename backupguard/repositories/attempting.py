"""What attackers share: an attempt is told before it is made, and its outcome afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime

from backupguard.contracts import AttackOutcome, Attempt, Context, Credentials
from backupguard.errors import MissingMeans
from backupguard.model import Message

#: The beginning of every canary's name.
CANARY = "backupguard-canary"
#: A server whose clock differs from ours by more proves nothing: locks are a matter of time.
CLOCKS_AGREE_S = 60


@dataclass(frozen=True, slots=True)
class Came:
    """What came of an attempt: `code` in the server's own word."""

    outcome: AttackOutcome
    code: str | None = None
    request_id: str | None = None


def refused(code: str | None = None, request_id: str | None = None) -> Came:
    """Return that what was asked did not happen."""
    return Came(AttackOutcome.REFUSED, code, request_id)


def worked(code: str | None = None, request_id: str | None = None) -> Came:
    """Return that it happened."""
    return Came(AttackOutcome.WORKED, code, request_id)


def untried(code: str, request_id: str | None = None) -> Came:
    """Return that it could not be tried, or that nobody can tell what came of it."""
    return Came(AttackOutcome.UNTRIED, code, request_id)


def attempted(
    name: str, target: str, act: Callable[[], Came], *, destructive: bool = True
) -> Iterator[Attempt]:
    """Yield the intent; when asked for more, act and yield the result."""
    intent = Attempt(name=name, target=target, destructive=destructive)
    yield intent
    came = act()
    yield replace(intent, outcome=came.outcome, code=came.code, request_id=came.request_id)


def writer_missing(identifier: str) -> MissingMeans:
    """Return the error for a repository whose writer's credentials nobody gave."""
    return MissingMeans(
        "writer_missing", remedy=Message(id="remedy.writer_missing"), repository=identifier
    )


def notes_on(credentials: Credentials, context: Context) -> tuple[str, ...]:
    """Return what a person should know of the writer's credentials: readers have the same ones."""
    writer, reader = credentials.writer_for_probe, credentials.backend
    if writer is None or reader is None:
        return ()
    same = context.secret(writer).reveal().strip() == context.secret(reader).reveal().strip()
    return ("same_as_reader",) if same else ()


def clock_skew(date: str | None, now: datetime) -> bool | None:
    """Given a server's `Date`, tell whether its clock is another; None where it says none."""
    try:
        server = parsedate_to_datetime(date or "")
        return abs((server - now).total_seconds()) > CLOCKS_AGREE_S
    except (ValueError, TypeError):
        return None
