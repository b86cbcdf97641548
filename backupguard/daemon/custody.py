"""The register of offline media as people use it: where each one is, and who took it where."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from backupguard import media as moving
from backupguard.assess import media
from backupguard.assess.views import subjects
from backupguard.controls import offline
from backupguard.daemon.requests import author
from backupguard.errors import UsageError
from backupguard.model import Fact, Json, Message, medium_subject

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.settings import Settings

_US = 1_000_000


def register(store: Store, settings: Settings, now: datetime) -> list[dict[str, Json]]:
    """Return every medium: what `assess.media.entry` says of it, where it stands, when it is due.

    `where` is a value of `controls.offline.Where`; `may_leave` None where nothing was read on it yet,
    `due_at` None where no rotation is planned or it was never here.
    """
    known = store.latest(
        {*subjects(settings), *(medium_subject(name) for name in settings.media)},
        ("medium.seen", "medium.copy", "medium.moved"),
    )
    found, looked = [], media.looked_at(store)
    for name in settings.media:
        row = media.entry(settings, name, known, looked)
        every, here = row["every_s"], row["here_at"]
        leave = [copy["may_leave"] for copy in row["copies"]]
        found.append(
            {
                **row,
                "where": offline.where(row, now).value,
                "may_leave": all(leave) if leave else None,
                "due_at": here + every * _US if every is not None and here is not None else None,
            }
        )
    return found


def move(
    store: Store,
    settings: Settings,
    *,
    medium: str,
    direction: str,
    holder: str,
    place: str,
    seal: str | None,
    at: datetime | None,
    uid: int,
    now: datetime,
) -> dict[str, Json]:
    """Record that a medium went out or came in, under the account that says so.

    Returns the medium's row of the register, before the next look. Raises UsageError for a medium
    that is in no register, and for what cannot be said.
    """
    if medium not in settings.media:
        message = Message(id="media.unknown", values={"medium": medium})
        raise UsageError("unknown_subject", message)
    moment = at or now

    def latest(kind: str, subject: str) -> Fact | None:
        return store.latest([subject], [kind]).get(subject, {}).get(kind)

    head, _ = store.head()
    observation = moving.movement(
        medium,
        direction,
        holder=holder,
        place=place,
        seal=seal,
        at=moment,
        now=now,
        content_of=moving.content_of(settings, medium, latest),
        key=str(head),
    )
    store.append([observation], author=author(uid))
    store.seal()
    return next(row for row in register(store, settings, now) if row["medium"] == medium)
