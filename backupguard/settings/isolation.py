"""What must not answer, and from where that is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from backupguard.contracts import Duration, RepositorySettings, SecretReference, SettingsModel
from backupguard.model import Message, is_id
from backupguard.settings import schedule
from backupguard.settings.files import Trouble
from backupguard.settings.positions import KeyPath
from backupguard.settings.problems import shown

Positive = Annotated[Duration, Field(gt=timedelta(0))]
Port = Annotated[int, Field(ge=1, le=65535)]
_PLACE = r"^.+:\d{1,5}$"
#: The vantage point that BackupGuard's own host is.
SELF = "self"
#: Names times ports, over all targets: a look takes seconds, and is no scan of a network.
TRIED_LIMIT = 1000


class Target(SettingsModel):
    """A store that must not answer outside its windows: names or addresses, and their ports.

    `repositories` are the copies that lie there, `media` the offline media behind it.
    """

    hosts: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] = Field(min_length=1)
    ports: tuple[Port, ...] = Field(min_length=1)
    repositories: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()  # when it may answer, local time of the site


class Vantage(SettingsModel):
    """A host in production that tries the same and signs what it saw with a key of its own.

    `witness` ("HOST:PORT") must answer it, or it proves nothing.
    """

    zone: str = Field(min_length=1, max_length=100)
    witness: str = Field(pattern=_PLACE)
    key: SecretReference
    max_age: Positive = timedelta(hours=26)


class Isolation(SettingsModel):
    """What must not answer, and who looks besides this host.

    `url` is where vantage points post ("https://backupguard.example/api/v1/vantage"),
    `backup-domains` the directories that are not production's: a host joined to one of them is not
    blamed for it.
    """

    witness: str | None = Field(default=None, pattern=_PLACE)  # of this host
    url: str | None = Field(default=None, pattern=r"^https?://[^/@\s]+(/\S*)?$")
    backup_domains: tuple[str, ...] = ()
    targets: Mapping[str, Target] = Field(default_factory=dict)
    vantages: Mapping[str, Vantage] = Field(default_factory=dict)


def rules(data: Mapping[str, Any]) -> Iterator[Trouble]:
    """Report ids, windows and places nobody can read, and targets that lead nowhere."""
    isolation = _table(data, "isolation")
    for family in ("targets", "vantages"):
        for name in _table(isolation, family):
            if not is_id(str(name)) or name == SELF:
                yield Trouble(
                    path=("isolation", family, name),
                    message=Message(id="settings.bad-id", values={"id": str(name)[:80]}),
                    remedy=Message(id="remedy.bad-id"),
                )
    yield from _witness(("isolation", "witness"), isolation.get("witness"))
    for name, vantage in _table(isolation, "vantages").items():
        witness = vantage.get("witness") if isinstance(vantage, Mapping) else None
        yield from _witness(("isolation", "vantages", name, "witness"), witness)
    tried = 0
    for name, target in _table(isolation, "targets").items():
        if isinstance(target, Mapping):
            yield from _target(("isolation", "targets", name), target, data)
            tried += len(_list(target, "hosts")) * len(_list(target, "ports"))
    if tried > TRIED_LIMIT:
        values: dict[str, int | str] = {"found": tried, "limit": TRIED_LIMIT}
        yield Trouble(
            path=("isolation", "targets"), message=Message(id="settings.above", values=values)
        )


def _target(path: KeyPath, target: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Trouble]:
    for number, window in enumerate(_list(target, "windows")):
        try:
            schedule.parse_window(str(window))
        except ValueError:
            here = (*path, "windows", number)
            yield Trouble(
                path=here,
                message=Message(
                    id="settings.bad-window", values={"found": shown(str(window), here)}
                ),
                remedy=Message(id="remedy.bad-window"),
            )
    for key, kind, family in (
        ("repositories", "settings.no-repository", "repositories"),
        ("media", "settings.no-medium", "media"),
    ):
        known = _table(data, family)
        for number, name in enumerate(_list(target, key)):
            if name not in known:
                told = ", ".join(sorted(map(str, known))) or "—"
                yield Trouble(
                    path=(*path, key, number),
                    message=Message(id=kind, values={"id": str(name)[:80]}),
                    remedy=Message(id="remedy.known", values={"known": told}),
                )
    if not _list(target, "repositories") and not _list(target, "media"):
        yield Trouble(
            path=path,
            message=Message(id="settings.target-of-nothing"),
            remedy=Message(id="remedy.target-of-nothing"),
        )


def _witness(path: KeyPath, witness: Any) -> Iterator[Trouble]:
    """Report a port that is none; what is no "HOST:PORT" at all is the types' business."""
    _, _, port = witness.rpartition(":") if isinstance(witness, str) else ("", "", "")
    if port.isascii() and port.isdigit() and not 0 < int(port[:9]) < 65536:
        yield Trouble(
            path=path,
            message=Message(id="settings.bad-port", values={"found": shown(port, path)}),
        )


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    found = table.get(key)
    return found if isinstance(found, list) else []


# ------------------------------------------------------------------------------ what concerns whom


def media_behind(target: Target, repositories: Mapping[str, RepositorySettings]) -> frozenset[str]:
    """Return the offline media behind a target: its own, and those that its repositories lie on."""
    lying = (repositories[name].medium for name in target.repositories if name in repositories)
    return frozenset(target.media) | {medium for medium in lying if medium is not None}


def targets_of(
    isolation: Isolation, repository: str, repositories: Mapping[str, RepositorySettings]
) -> dict[str, Target]:
    """Return the targets that a repository lies behind, itself or with its medium."""
    medium = repositories[repository].medium
    return {
        name: target
        for name, target in isolation.targets.items()
        if repository in target.repositories or (medium is not None and medium in target.media)
    }


def wanted(
    isolation: Isolation, vantage: str, repositories: Mapping[str, RepositorySettings]
) -> tuple[tuple[str, str, int], ...]:
    """Return what a vantage point tries: (target, name, port).

    This host reads repositories, so they answer it: it tries only what has an offline medium behind
    it. From production nothing may answer.
    """
    return tuple(
        (name, host, port)
        for name, target in isolation.targets.items()
        if vantage != SELF or media_behind(target, repositories)
        for host in dict.fromkeys(target.hosts)
        for port in dict.fromkeys(target.ports)
    )


def announced(target: Target, began: datetime, ended: datetime, timezone: str) -> bool:
    """Tell whether a target may answer at some time from `began` to `ended`."""
    if not target.windows:  # without windows it never may
        return False
    return bool(schedule.opened(target.windows, began, ended + timedelta(microseconds=1), timezone))
