"""Opens what lies on offline media, and says what people do with these: custody.

While the medium that carries a repository is away, opening it raises Unreachable (medium_away): nobody
can look, and nothing is wrong with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backupguard.contracts import Context, Repository, RepositorySettings
from backupguard.errors import MEDIUM_AWAY, Unreachable, UsageError
from backupguard.helper.client import Helper
from backupguard.model import Fact, Json, Observation, Origin, medium_subject, to_us
from backupguard.plugins import repository_type
from backupguard.settings.media import CARRIED, root_of
from probes.offline_found import MediumPlan, Roots
from probes.offline_places import content, find

if TYPE_CHECKING:
    from backupguard.settings import Settings

_DAY_S = 86_400
_Entered = TypeVar("_Entered")


def medium_plan(settings: Settings, identifier: str) -> MediumPlan:
    """Return one medium as the probe needs to know it. Raises KeyError for an unknown one.

    Its newest point is recent enough to leave when it is younger than half of the rotation, a day
    where none is planned.
    """
    medium = settings.media[identifier]
    rotation = int(medium.every.total_seconds()) // 2 if medium.every is not None else _DAY_S
    return MediumPlan(
        id=identifier,
        kind=medium.kind,
        root=Path(root_of(identifier, medium.mount)),
        filesystem_uuid=medium.filesystem_uuid,
        luks_uuid=medium.luks_uuid,
        serial=medium.serial,
        image=medium.image,
        barcode=medium.barcode,
        library=medium.library,
        mount=medium.mount,
        repositories=tuple(
            name for name, place in settings.repositories.items() if place.medium == identifier
        ),
        fresh_s=max(rotation, _DAY_S),
    )


def opened(
    settings: Settings, identifier: str, context: Context
) -> AbstractContextManager[Repository]:
    """Open a repository for reading, wherever its medium is now.

    Raises Unreachable when it is entered: medium_away, medium_unmounted, medium_mismatch.
    """
    chosen = settings.repositories[identifier]
    kind = repository_type(chosen.type)
    return _on_its_medium(
        settings, chosen, context, lambda where: kind.open(identifier, where, context)
    )


@contextmanager
def _on_its_medium(
    settings: Settings,
    chosen: RepositorySettings,
    context: Context,
    enter: Callable[[RepositorySettings], AbstractContextManager[_Entered]],
) -> Iterator[_Entered]:
    plan = medium_plan(settings, chosen.medium or "")
    if plan.kind == "vault":
        try:
            with enter(chosen) as one:
                yield one
        except Unreachable as error:
            raise Unreachable(MEDIUM_AWAY, medium=plan.id) from error
    elif plan.kind in CARRIED:
        with (
            content(plan, context, Helper()) as directory,
            enter(moved(chosen, plan.root, directory)) as one,
        ):
            yield one
    else:  # what a tape holds is told by its tool, wherever the tape is
        with enter(chosen) as one:
            yield one


def moved(settings: RepositorySettings, root: Path, directory: Path) -> RepositorySettings:
    """Return settings with every path below `root` put below `directory` instead."""
    if root == directory:
        return settings
    changed: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, str | Path) and str(root) in str(value):
            changed[name] = type(value)(str(value).replace(str(root), str(directory)))
    return settings.model_copy(update=changed)


def lies_on_medium(settings: Settings, identifier: str) -> bool:
    """Tell whether a repository lies on a medium itself, and goes away with it."""
    chosen = settings.repositories[identifier]
    return chosen.medium is not None and settings.media[chosen.medium].kind in CARRIED


def is_away(settings: Settings, identifier: str, context: Context) -> bool:
    """Tell whether a repository lies on a medium that is not attached now."""
    medium = settings.repositories[identifier].medium
    if medium is None or not lies_on_medium(settings, identifier):
        return False
    look = find(medium_plan(settings, medium), context, Helper(), Roots())
    return look.code is None and not look.attached


def device_of(settings: Settings, identifier: str) -> str | None:
    """Return where a copy on an image file lies: on the file system inside, wherever it was read."""
    chosen = settings.repositories.get(identifier)
    if chosen is None or chosen.medium is None or settings.media[chosen.medium].image is None:
        return None
    medium = settings.media[chosen.medium]
    return f"fs:{(medium.filesystem_uuid or medium.luks_uuid or chosen.medium).lower()}"


# ------------------------------------------------------------------------------------------- custody

#: A clock of a person's may be ahead of ours by so much.
_TOLERANCE = timedelta(minutes=5)


def movement(
    medium: str,
    direction: str,
    *,
    holder: str,
    place: str,
    seal: str | None,
    at: datetime,
    now: datetime,
    content_of: Mapping[str, int | None],
    key: str,
) -> Observation:
    """Return the fact `medium.moved`: a person says that a medium went out, or came in.

    `content_of` is the newest point of each application that was seen on it. Raises UsageError for a
    direction or time that can't be, or without a holder or place.
    """
    if direction not in ("out", "in") or not holder.strip() or not place.strip():
        raise UsageError("usage")
    if at > now + _TOLERANCE:
        raise UsageError("usage")
    return Observation(
        kind="medium.moved",
        subject=medium_subject(medium),
        origin=Origin.ATTESTED,
        observed_at=now,
        data={
            "medium": medium,
            "direction": direction,
            "holder": holder.strip(),
            "place": place.strip(),
            "seal": seal.strip() if seal and seal.strip() else None,
            "at": to_us(min(at, now)),
            "content": dict(content_of),
        },
        key=f"medium.moved/{medium}/{key}",
    )


def content_of(
    settings: Settings, medium: str, latest: Callable[[str, str], Fact | None]
) -> dict[str, Json]:
    """Return the newest point of each application that was seen on a medium, over its repositories."""
    found: dict[str, Json] = {}
    for name, place in settings.repositories.items():
        if place.medium != medium:
            continue
        copy = latest("medium.copy", f"repository/{name}")
        data = copy.observation.data if copy is not None else None
        if isinstance(data, Mapping) and data.get("medium") == medium:
            found |= data["applications"]
    return found
