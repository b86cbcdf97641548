"""Identifier maps: which clause of a reference each control helps with, and how sure that is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from backupguard.controls.documents import Bilingual, Document, Part
from backupguard.errors import ConfigurationError

#: How the files of maps are called.
PATTERN = "map-*.toml"


class Confidence(StrEnum):
    """How sure identifier and text of a row are; the controls are the product's choice in any case."""

    VERIFIED = "verified"  # read in the source itself
    QUOTED = "quoted"  # read where a third party quotes or sums it up
    DEDUCED = "deduced"  # concluded from what was read


class Row(Part):
    """One clause: its identifier where it is known, what it asks, who says so, which controls help."""

    identifier: str | None = Field(default=None, min_length=1, max_length=80)
    text: str = Field(min_length=1, max_length=500)
    controls: tuple[str, ...] | Literal["all"]
    source: str = Field(min_length=1, max_length=300)
    confidence: Confidence

    def names(self, control: str) -> bool:
        """Tell whether a control helps with this clause."""
        return self.controls == "all" or control in self.controls


class _File(Part):
    id: str = Field(min_length=1, max_length=40)
    name: Bilingual
    version: str = Field(min_length=1)
    address: str | None = Field(default=None, pattern=r"^https://\S+$")
    note: Bilingual
    row: tuple[Row, ...]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.row:
            raise ValueError("a map has at least one row")
        return self


@dataclass(frozen=True, kw_only=True)
class ReferenceMap:
    """One reference. `sha256` is the hash of the file's bytes, in hexadecimal; `file` its name."""

    id: str
    name: Bilingual
    version: str
    address: str | None
    note: Bilingual
    rows: tuple[Row, ...]
    file: str
    sha256: str

    @property
    def verified(self) -> bool:
        """Tell whether every row was read in the source itself."""
        return all(row.confidence is Confidence.VERIFIED for row in self.rows)

    def of(self, control: str) -> tuple[Row, ...]:
        """Return the clauses that a control helps with."""
        return tuple(row for row in self.rows if row.names(control))


def read_map(place: str, content: bytes, controls: Collection[str]) -> ReferenceMap:
    """Return a map from its file's bytes; `place` names it in errors, `controls` are those there are.

    Raises ConfigurationError with every problem found, each with its line: what is no map, controls
    that do not exist, and an identifier given twice.
    """
    document = Document(place, content, "row")
    file = document.shaped(_File)
    problems = []
    seen: set[str] = set()
    for position, row in enumerate(file.row):
        unknown = [] if row.controls == "all" else [c for c in row.controls if c not in controls]
        if unknown:
            found = f"no such control: {', '.join(unknown)}"
            problems.append(document.problem(("row", position, "controls"), found))
        if row.identifier is not None and row.identifier in seen:
            found = "the identifier is given twice"
            problems.append(document.problem(("row", position, "identifier"), found))
        seen |= {row.identifier} - {None}  # type: ignore[arg-type]
    if problems:
        raise ConfigurationError(problems)
    return ReferenceMap(
        id=file.id,
        name=file.name,
        version=file.version,
        address=file.address,
        note=file.note,
        rows=file.row,
        file=place.rpartition("/")[2],
        sha256=hashlib.sha256(content).hexdigest(),
    )
