"""The register of offline media: what may be taken away, how it is recognised, how long it may stay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, SettingsModel, refused_setting
from backupguard.model import Message, is_id
from backupguard.settings.files import Trouble

Positive = Annotated[Duration, Field(gt=timedelta(0))]

#: What stands for the place where a medium is readable, at the beginning of a repository's path.
PLACE = "{medium}"
#: Where that is while nobody said otherwise: a name that is put in place of it, not a directory.
NOWHERE = Path("/run/backupguard/media")
#: Kinds whose repositories lie on the medium itself: while it is away, there is nothing to open.
CARRIED = frozenset({"removable"})

_UUID = re.compile(r"[0-9A-Fa-f][0-9A-Fa-f-]{3,63}\Z")


class Medium(SettingsModel):
    """A disk, tape or vault. What is on it is said by the repositories that name it.

    A removable disk is recognised by `filesystem_uuid`, `luks_uuid` or `serial` (all that are given
    must be right), an image file by `image` and the UUID inside it, a tape by `barcode` in the
    `library` that it is read in. `mount` is where it is mounted, read-only, while it is attached; left
    out, wherever it is found mounted. A vault is there when one of its repositories answers. A virtual
    tape library (`vtl`) is never offline.
    """

    kind: Literal["removable", "tape", "vtl", "vault"]
    filesystem_uuid: str | None = None
    luks_uuid: str | None = None
    serial: str | None = None
    image: Path | None = None
    barcode: str | None = None
    library: str | None = None  # a changer device: "/dev/sg3"
    mount: Path | None = None
    may_stay: Positive = timedelta(hours=12)  # attached longer: a finding
    every: Positive | None = None  # the rotation: not seen for longer is a finding

    @model_validator(mode="after")
    def _recognisable(self) -> Self:
        known_by = {
            "removable": (self.filesystem_uuid, self.luks_uuid, self.serial),
            "tape": (self.barcode,),
        }.get(self.kind)
        if known_by is not None and not any(known_by):
            key = "barcode" if self.kind == "tape" else "filesystem-uuid"
            raise refused_setting("medium-identity", key)
        if self.kind == "tape" and self.library is None:
            raise refused_setting("medium-library", "library")
        for key in ("filesystem_uuid", "luks_uuid"):
            uuid = getattr(self, key)
            if uuid is not None and not _UUID.match(uuid):
                example = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644"
                raise refused_setting("example", key.replace("_", "-"), example=example)
        for key in ("image", "mount", "library"):
            path = getattr(self, key)
            if path is not None and not Path(path).is_absolute():
                raise refused_setting("absolute", key)
        return self


def root_of(identifier: str, mount: object) -> str:
    """Return what stands for the place of a medium in the paths of its repositories."""
    return str(mount) if isinstance(mount, str | Path) and str(mount) else str(NOWHERE / identifier)


def rules(data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Report ids of media that are none, media that do not exist, and paths that do not lie on them."""
    media, repositories = _table(data, "media"), _table(data, "repositories")
    for name in media:
        if not is_id(str(name)):
            yield Trouble(
                path=("media", name),
                message=Message(id="settings.bad-id", values={"id": str(name)[:80]}),
                remedy=Message(id="remedy.bad-id"),
            )
    for name, repository in repositories.items():
        if isinstance(repository, Mapping):
            yield from _repository(str(name), repository, media)


def _repository(
    name: str, repository: Mapping[str, Any], media: Mapping[str, Any]
) -> Iterator[Trouble]:
    wanted = repository.get("medium")
    named = [key for key, value in repository.items() if _names_place(value)]
    if wanted is None:
        for key in named:
            yield Trouble(
                path=("repositories", name, key),
                message=Message(id="settings.place-without-medium"),
                remedy=Message(id="remedy.name-medium"),
            )
        return
    if wanted not in media:
        known = ", ".join(sorted(map(str, media))) or "—"
        yield Trouble(
            path=("repositories", name, "medium"),
            message=Message(id="settings.no-medium", values={"id": str(wanted)[:80]}),
            remedy=Message(id="remedy.known", values={"known": known}),
        )
        return
    medium = media[wanted] if isinstance(media[wanted], Mapping) else {}
    if medium.get("kind") in CARRIED and not named:
        yield Trouble(
            path=("repositories", name, "medium"),
            message=Message(id="settings.not-on-medium", values={"id": str(wanted)}),
            remedy=Message(id="remedy.on-medium"),
        )


def _names_place(value: Any) -> bool:
    return isinstance(value, str) and PLACE in value


def _table(data: Any, name: str) -> Mapping[str, Any]:
    found = data.get(name) if isinstance(data, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def expand(data: dict[str, Any]) -> None:
    """Put names of places into the paths of repositories that lie on media.

    A repository on a medium also is of its kind, unless it says otherwise.
    """
    media = _table(data, "media")
    for repository in _table(data, "repositories").values():
        if not isinstance(repository, dict):
            continue
        name = str(repository.get("medium"))
        medium = media.get(name)
        known = medium if isinstance(medium, Mapping) else {}
        root = root_of(name, known.get("mount"))
        for key, value in repository.items():
            if _names_place(value):
                repository[key] = value.replace(PLACE, root)
        if known.get("kind") in ("removable", "tape", "vtl"):
            repository.setdefault("medium-kind", known["kind"])
