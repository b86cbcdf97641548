"""What a person should know of a repository besides its state: why, what to do, whose word it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from backupguard.cli import common, locks
from backupguard.cli.acting import sentence
from backupguard.model import Fact, Message, Origin

if TYPE_CHECKING:
    from backupguard.settings import Settings


def origin(settings: Settings, name: str) -> Origin:
    """Return whose word a repository's points are; that of a type that is missing is nobody's."""
    from backupguard import plugins
    from backupguard.errors import MissingMeans

    try:
        return plugins.origin(settings.repositories[name].type)
    except MissingMeans:
        return Origin.OBSERVED


def label(settings: Settings, name: str) -> str:
    """Return a repository's name, and behind it that its points were imported and not seen."""
    if origin(settings, name) is Origin.OBSERVED:
        return name
    return f"{name} ({common.words().text(f'status.origin.{origin(settings, name).value}')})"


def notes(fact: Fact | None) -> Iterator[str]:
    """Yield what was wrong when a repository was looked at last, its remedy, warnings and locks."""
    if fact is None or fact.observation.data is None:  # never asked, or pruned
        return
    data = fact.observation.data
    if data["code"] is not None:
        yield trouble(data)
        remedy = remedy_of(data)
        if remedy is not None:
            yield f"  → {common.words().say(remedy)}"
    for code in data.get("warnings", ()):
        yield sentence(code)
    yield from locks.said(fact, common.words())


def trouble(data: Mapping[str, Any]) -> str:
    """Return why a repository could not be seen, in full where that is known."""
    said = data.get("said")
    if said is None:
        return sentence(data["code"])
    values = {name: value for name, value in said["values"].items() if name != "repository"}
    return common.sentence_of(common.words(), Message(id=said["id"], values=values))


def remedy_of(data: Mapping[str, Any]) -> Message | None:
    """Return what to do about it, None where nothing is known."""
    own = data.get("remedy")
    if own is not None:
        return Message(id=own["id"], values=own["values"])
    return common.usual_remedy(common.words(), data["code"])
