"""What changed between two catalogues, and whether it lets more pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from backupguard.controls.catalogue import Catalogue, CatalogueEntry, Threshold
from backupguard.controls.directions import loosens
from backupguard.evidence.kinds import Difference
from backupguard.model import Criticality, Severity


def catalogue_differences(old: Catalogue, new: Catalogue) -> list[Difference]:
    """Return what a load changed in the catalogue and its maps, the weakening ones marked.

    Weaker: a control switched off, a severity less urgent, a threshold that demands less.
    """
    both = (
        (old.entries[name], entry) for name, entry in new.entries.items() if name in old.entries
    )
    return [*chain.from_iterable(_entry(*pair) for pair in both), *_maps(old, new)]


def _entry(old: CatalogueEntry, new: CatalogueEntry) -> Iterator[Difference]:
    where = f"catalogue.{new.id}"
    if old.built is not new.built:
        yield _changed(f"{where}.built", str(old.built), str(new.built), weakened=old.built)
    for criticality in Criticality:
        held, holds = old.severity[criticality], new.severity[criticality]
        if held is not holds:
            weaker = urgency(holds) < urgency(held)
            yield _changed(
                f"{where}.severity.{criticality}", held.value, holds.value, weakened=weaker
            )
    for name in new.thresholds:
        if name in old.thresholds:
            yield from _threshold(new.id, name, old.thresholds[name], new.thresholds[name])
    if (old.title, old.sources) != (new.title, new.sources):
        before, after = ("; ".join((e.title.fr, *e.sources)) for e in (old, new))
        yield _changed(f"{where}.words", before[:200], after[:200], weakened=False)


def urgency(severity: Severity) -> int:
    """Return how urgent a severity is: a higher number is more urgent."""
    return (Severity.INFO, Severity.WARNING, Severity.HIGH, Severity.CRITICAL).index(severity)


def _threshold(control: str, name: str, old: Threshold, new: Threshold) -> Iterator[Difference]:
    for criticality in Criticality:
        before, after = old.of(criticality), new.of(criticality)
        if before is None or after is None:
            if before is not after:  # a demand where there was none, or none any more
                yield _changed(
                    f"catalogue.{control}.{name}.{criticality}",
                    "" if before is None else str(before.value),
                    "" if after is None else str(after.value),
                    weakened=after is None,
                )
            continue
        numbers = int(old.number(before)), int(new.number(after))
        if numbers[0] != numbers[1]:
            yield _changed(
                f"catalogue.{control}.{name}.{criticality}",
                str(before.value),
                str(after.value),
                weakened=loosens(control, name, *numbers),
            )


def _maps(old: Catalogue, new: Catalogue) -> Iterator[Difference]:
    before, after = ({m.file: m.sha256 for m in c.maps} for c in (old, new))
    for file in sorted({*before, *after}):
        if before.get(file) != after.get(file):
            hashes = before.get(file, ""), after.get(file, "")
            yield _changed(f"catalogue.{file}", *hashes, weakened=False)


def _changed(path: str, before: str, after: str, *, weakened: bool) -> Difference:
    return Difference(path=path, change="changed", before=before, after=after, weakened=weakened)
