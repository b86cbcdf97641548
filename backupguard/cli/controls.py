"""`backupguard controls`: what is demanded, on whose authority, and what it is aligned on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Criticality, Message

if TYPE_CHECKING:
    from backupguard.controls import Catalogue, CatalogueEntry
    from backupguard.controls.catalogue import Threshold
    from backupguard.controls.maps import ReferenceMap, Row
    from backupguard.language import Words


def controls(
    control: Annotated[
        str | None, typer.Argument(metavar="[CONTROL]", help="For example RST-01; left out: all.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--map", metavar="REFERENCE", help="One reference: NIS2, CIS…")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the catalogue of controls, one control, or one reference with its clauses."""
    from backupguard.controls import catalogue_of

    catalogue = catalogue_of(common.settings())
    one = _named(catalogue, reference) if reference is not None else None
    entry = _entry(catalogue, control) if control is not None else None
    if as_json:
        common.print_json(_as_json(catalogue, entry, one))
        return EXIT_DONE
    words = common.words()
    if one is not None:
        _show_map(one, entry, words)
    elif entry is not None:
        _show_control(catalogue, entry, words)
    else:
        _show_all(catalogue, words)
    return EXIT_DONE


def _named(catalogue: Catalogue, name: str) -> ReferenceMap:
    found = catalogue.map(name)
    if found is None:
        known = ", ".join(one.id for one in catalogue.maps)
        message = Message(id="controls.no-map", values={"map": name[:80], "known": known})
        raise UsageError("usage", message)
    return found


def _entry(catalogue: Catalogue, name: str) -> CatalogueEntry:
    found = catalogue.entries.get(name.upper().removeprefix("D4-"))
    if found is None:
        message = Message(id="statements.no-control", values={"control": name[:80]})
        raise UsageError("usage", message)
    return found


def _head(catalogue: Catalogue, words: Words) -> None:
    references = ", ".join(
        one.id if one.verified else f"{one.id} ({words.text('controls.unverified')})"
        for one in catalogue.maps
    )
    common.result("controls.head", name=catalogue.name.of(words.language))
    common.result("controls.aligned", references=references)


def _show_all(catalogue: Catalogue, words: Words) -> None:
    _head(catalogue, words)
    common.result("controls.hash", sha256=catalogue.sha256)
    common.print_table(
        [words.text(f"controls.column.{n}") for n in ("control", "title", "scope", "severity")],
        [
            (
                entry.id,
                entry.title.of(words.language),
                entry.scope.value,
                "/".join(entry.severity[criticality].value for criticality in Criticality),
            )
            for entry in catalogue.entries.values()
        ],
    )


def _show_control(catalogue: Catalogue, entry: CatalogueEntry, words: Words) -> None:
    _head(catalogue, words)
    print(f"{entry.id} — {entry.title.of(words.language)}")
    common.print_table(
        [words.text(f"controls.column.{name}") for name in ("threshold", "value", "origin")],
        [
            (f"{words.text(f'threshold.{name}')} ({name})", *_values(threshold, words))
            for name, threshold in entry.thresholds.items()
        ],
    )
    columns = ("reference", "identifier", "text", "confidence", "source")
    common.print_table(
        [words.text(f"controls.column.{name}") for name in columns],
        [
            (one.id, row.identifier or "—", row.text, _confidence(row, words), row.source)
            for one, row in catalogue.references(entry.id)
        ],
    )


def _values(threshold: Threshold, words: Words) -> tuple[str, str]:
    """Return a threshold's value, or its values by criticality, and where each comes from."""
    given = [(c.value, value) for c in Criticality if (value := threshold.of(c)) is not None]
    if threshold.all is not None:
        given = [("", threshold.all)]
    values = " ".join(f"{name} {value.value}".strip() for name, value in given)
    origins = (value.source or words.text(f"threshold.{value.origin.value}") for _, value in given)
    return values, ", ".join(dict.fromkeys(origins))


def _show_map(one: ReferenceMap, entry: CatalogueEntry | None, words: Words) -> None:
    print(common.printable(f"{one.name.of(words.language)}, {one.version}"))
    if one.address is not None:
        print(common.printable(one.address))
    print(common.printable(one.note.of(words.language)))
    print(f"{one.file}  SHA-256 {one.sha256}")
    columns = ("identifier", "text", "controls", "confidence", "source")
    common.print_table(
        [words.text(f"controls.column.{name}") for name in columns],
        [
            (
                row.identifier or "—",
                row.text,
                words.text("controls.all") if row.controls == "all" else ", ".join(row.controls),
                _confidence(row, words),
                row.source,
            )
            for row in (one.rows if entry is None else one.of(entry.id))
        ],
    )


def _confidence(row: Row, words: Words) -> str:
    return words.text(f"report.confidence.{row.confidence.value}")


def _as_json(
    catalogue: Catalogue, entry: CatalogueEntry | None, one: ReferenceMap | None
) -> dict[str, Any]:
    entries = catalogue.entries.values() if entry is None else (entry,)
    return {
        "domain": catalogue.domain,
        "name": catalogue.name.model_dump(),
        "sha256": catalogue.sha256,
        "controls": [each.model_dump(mode="json", exclude_none=True) for each in entries],
        "maps": [
            {
                "id": each.id,
                "name": each.name.model_dump(),
                "version": each.version,
                "address": each.address,
                "note": each.note.model_dump(),
                "file": each.file,
                "sha256": each.sha256,
                "verified": each.verified,
                "rows": [
                    row.model_dump(mode="json")
                    for row in each.rows
                    if entry is None or row.names(entry.id)
                ],
            }
            for each in (catalogue.maps if one is None else (one,))
        ],
    }
