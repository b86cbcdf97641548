"""Loads of the configuration: which settings hold, and the facts that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from backupguard import __version__
from backupguard import settings as configuration
from backupguard.assess.declared_estate import as_data, declared_estate
from backupguard.contracts import Store
from backupguard.controls import catalogue_of
from backupguard.controls.catalogue import catalogue_from
from backupguard.controls.compare import catalogue_differences
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import SITE, Json, Message, Observation, to_us
from backupguard.settings.differences import differences

if TYPE_CHECKING:
    from backupguard.controls import Catalogue
    from backupguard.evidence.kinds import Difference
    from backupguard.settings import Settings

log = structlog.get_logger(__name__)

#: Where the settings of runners are kept, below the state directory.
DIRECTORY = "settings"

#: What a reload cannot change: it decides where the daemon itself lives.
_FIXED: tuple[tuple[str, Callable[[Settings], object]], ...] = (
    ("store.directory", lambda settings: settings.state_directory),
    ("store.url", lambda settings: settings.store.url),
    ("daemon.runtime-directory", lambda settings: settings.runtime_directory),
    ("http.listen", lambda settings: settings.http.listen),
    ("http.web-config", lambda settings: settings.http.web_config),
    ("http.proxy", lambda settings: settings.http.proxy),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The settings that hold, the catalogue beside them, and the file that runners are given."""

    settings: Settings
    catalogue: Catalogue
    file: Path


def load(path: Path | None, holding: Settings | None = None) -> tuple[Settings, Catalogue]:
    """Read settings and catalogue; raise ConfigurationError with every problem.

    With `holding`, the settings of a living daemon: what only a restart can change is a problem.
    """
    settings = configuration.load(path)
    if holding is not None:
        problems = [
            ConfigurationProblem(
                file=str(settings.files[0]) if settings.files else "",
                line=None,
                column=None,
                key=key,
                message=Message(id="daemon.restart-needed", values={"key": key}),
            )
            for key, value in _FIXED
            if value(settings) != value(holding)
        ]
        if problems:
            raise ConfigurationError(problems)
    return settings, catalogue_of(settings)


def accept(
    store: Store,
    settings: Settings,
    catalogue: Catalogue,
    *,
    author: str,
    now: datetime,
    keep: Path | None = None,
) -> Effective:
    """Record that these settings hold from now on, and write the file that runners are given.

    Files of earlier loads are removed, but for `keep`: runners that start now may still read it.
    """
    directory = settings.state_directory / DIRECTORY
    before = _before(store, directory)
    file = configuration.write_file(settings, directory)
    told = [dict(difference) for difference in differences(before, settings.dump())]
    told += [dict(difference) for difference in _catalogue_changes(before, catalogue)]
    data: dict[str, Json] = {
        "sha256": settings.sha256,
        "catalogue_sha256": catalogue.sha256,
        "maps": {one.file: one.sha256 for one in catalogue.maps},
        "program_version": __version__,
        "files": [str(name) for name in settings.files],
        "differences": told,
    }
    if _declares_anew(store, data):
        data["estate"] = as_data(declared_estate(settings, catalogue))
    store.append([_observation("configuration.loaded", data, now)], author=author)
    for old in directory.glob("settings-*"):
        if old not in (file, keep):
            with suppress(OSError):
                old.unlink()
    log.info("configuration.loaded", sha256=settings.sha256, differences=len(told))
    return Effective(settings=settings, catalogue=catalogue, file=file)


def reject(store: Store, error: ConfigurationError, *, author: str, now: datetime) -> None:
    """Record and log that a load was refused: the settings before it stay."""
    first = error.problems[0]
    data = {
        "problems": len(error.problems),
        "first_file": first.file,
        "first_line": first.line,
        "first_key": first.key,
    }
    store.append([_observation("configuration.rejected", data, now)], author=author)
    for problem in error.problems:
        log.error(
            "configuration.rejected",
            file=problem.file,
            line=problem.line,
            key=problem.key,
            problem=problem.message.id,
        )


def _observation(kind: str, data: Mapping[str, Json], now: datetime) -> Observation:
    key = f"{kind.replace('.', '/')}/{to_us(now)}"
    return Observation(kind=kind, subject=SITE, observed_at=now, data=dict(data), key=key)


def _catalogue_changes(
    before: Mapping[str, Json] | None, catalogue: Catalogue
) -> Sequence[Difference]:
    """Return what a load changed in the site's own catalogue and maps.

    What an update of the program changed in the shipped ones is told by the version.
    """
    if before is None:
        return ()
    held = before.get("settings", {}).get("controls", {}).get("files", {})
    with suppress(ConfigurationError):  # an older program may have accepted another shape
        return catalogue_differences(catalogue_from(held), catalogue)
    return ()


def _declares_anew(store: Store, data: Mapping[str, Json]) -> bool:
    """Tell whether this load declares anything that the one before it did not record already."""
    last = store.latest([SITE], ["configuration.loaded"]).get(SITE, {}).get("configuration.loaded")
    held = last.observation.data if last is not None else None
    same = ("sha256", "catalogue_sha256", "program_version")
    return not isinstance(held, Mapping) or any(held.get(name) != data[name] for name in same)


def _before(store: Store, directory: Path) -> Mapping[str, Json] | None:
    """Return the dump of the settings that held last, while their file is still there."""
    fact = store.latest([SITE], ["configuration.loaded"]).get(SITE, {}).get("configuration.loaded")
    if fact is None:
        return None
    file = directory / f"settings-{fact.observation.data['sha256']}.json"
    # what an older program wrote may be no settings of today, and can be compared all the same
    with suppress(OSError, ValueError):
        found: Mapping[str, Json] = json.loads(file.read_text(encoding="utf-8"))
        return found
    return None
