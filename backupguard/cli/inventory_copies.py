"""What `backupguard inventory` says of copies: which of them would survive, and why others do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backupguard.cli import common
from backupguard.model import Json

if TYPE_CHECKING:
    from backupguard.assess.counted import CopiesOf
    from backupguard.controls.copies import Count
    from backupguard.settings import Settings


def show(every: list[CopiesOf], settings: Settings) -> None:
    """Print a table: per application how many copies count, and why the others do not."""
    words = common.words()
    columns = ("application", "copies", "offline", "off-site", "immutable", "not-counted")
    common.print_table(
        [words.text(f"inventory.copies.{name}") for name in columns],
        [
            (
                settings.applications[one.application].name + (f", {one.part}" if one.part else ""),
                f"{len(one.count.independent)}/{one.needed}",
                "; ".join(_offline(one.count)) or "—",
                _listed(one.count.off_site),
                _listed(one.count.immutable),
                "; ".join(_doubts(one.count)) or "—",
            )
            for one in every
        ],
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "—"


def _offline(count: Count) -> Iterator[str]:
    """Yield the copies that are proved to be offline, then those that are only said to be."""
    words = common.words()
    yield from count.offline
    for name in count.declared_offline:
        yield words.text("inventory.copies.declared", repository=name)
    for name in count.online:
        yield words.text("inventory.copies.reached", repository=name)


def _doubts(count: Count) -> Iterator[str]:
    """Yield why copies do not count, or count once although they are several."""
    words = common.words()
    for name, why in count.excluded.items():
        yield f"{name} ({words.text(f'inventory.why.{why.value}')})"
    if count.contradicted:
        yield f"{'+'.join(count.contradicted)} ({words.text('inventory.why.one_place')})"
    if count.undeclared:
        yield f"{', '.join(count.undeclared)} ({words.text('inventory.why.undeclared')})"


def as_json(every: list[CopiesOf], application: str) -> list[Json]:
    """Return the copies of one application as JSON values."""
    return [_json(one) for one in every if one.application == application]


def _json(one: CopiesOf) -> dict[str, Any]:
    return {
        "covers": one.part or None,
        "needed": one.needed,
        "independent": [list(group) for group in one.count.independent],
        "offline": list(one.count.offline),
        "offline_declared": list(one.count.declared_offline),
        "offline_reached": list(one.count.online),
        "immutable": list(one.count.immutable),
        "off_site": list(one.count.off_site),
        "not_counted": {name: why.value for name, why in one.count.excluded.items()},
        "in_one_place": list(one.count.contradicted),
        "undeclared": list(one.count.undeclared),
        "copies": [
            {
                "repository": copy["repository"],
                "type": copy["type"],
                "kind": copy["kind"],
                "medium": copy["medium"],
                "failure_domain": copy["domain"],
                "off_site": copy["off_site"],
                "device": list(copy["device"]),
                "points": copy["points"],
                "offline_at": copy["offline_at"],
                "immutable": copy["immutable"],
            }
            for copy in one.copies
        ],
    }
