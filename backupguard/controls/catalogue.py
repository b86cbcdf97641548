"""The control catalogue: a data file that says what each control demands, and on whose authority."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backupguard.contracts import parse_duration
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Criticality, Message, Policy, Scope, Severity
from backupguard.resources import shipped

#: The shipped catalogue, as `backupguard.resources` knows it.
SHIPPED = "controls/care-d4.toml"
#: Languages every title is given in.
LANGUAGES = ("fr", "en")


class CatalogueFile(Protocol):
    """What `load_catalogue` needs of a path: its bytes; its text form names it in errors."""

    def read_bytes(self) -> bytes:
        """Return the file's content; raises OSError."""


class ValueOrigin(StrEnum):
    """Whose value a threshold is: a source's, or a choice of the product's."""

    SOURCE = "SRC"
    PRODUCT = "PROD"


class Unit(StrEnum):
    """What a threshold's value is counted in; durations become seconds."""

    DURATION = "duration"
    PERCENT = "percent"
    COUNT = "count"
    FLAG = "flag"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ThresholdValue(_Part):
    """One value, where it comes from, and the source that gives it (always, when origin is SRC)."""

    value: bool | int | str
    origin: ValueOrigin
    source: str | None = None

    @model_validator(mode="after")
    def _source_named(self) -> Self:
        if self.origin is ValueOrigin.SOURCE and not self.source:
            raise ValueError("a value of origin SRC names its source")
        return self


class Threshold(_Part):
    """A threshold: one value for all, or one per criticality; a criticality left out has none."""

    unit: Unit
    all: ThresholdValue | None = None
    C1: ThresholdValue | None = None
    C2: ThresholdValue | None = None
    C3: ThresholdValue | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        given = [value for value in (self.all, self.C1, self.C2, self.C3) if value is not None]
        if not given or (self.all is not None and len(given) > 1):
            raise ValueError("give either `all` or values per criticality")
        for value in given:
            self.number(value)
        return self

    def of(self, criticality: Criticality) -> ThresholdValue | None:
        """Return the value for a criticality, with its origin."""
        own: ThresholdValue | None = getattr(self, criticality.value)
        return self.all or own

    def number(self, value: ThresholdValue) -> int | bool:
        """Return a value as a control reads it: seconds, percent, count or flag."""
        match self.unit, value.value:
            case Unit.DURATION, str() as text:
                return int(parse_duration(text).total_seconds())  # type: ignore[attr-defined]
            case Unit.FLAG, bool() as flag:
                return flag
            case ((Unit.PERCENT | Unit.COUNT), int() as number) if not isinstance(number, bool):
                return number
        raise ValueError(f"{value.value!r} is no {self.unit.value}")


class Title(_Part):
    """A title in both languages."""

    fr: str = Field(min_length=1)
    en: str = Field(min_length=1)


class CatalogueEntry(_Part):
    """One control: what it is called, whom it speaks about, what it demands, on whose authority."""

    id: str = Field(pattern=r"^[A-Z0-9]{3}-[0-9]{2}$")
    scope: Scope
    title: Title
    built: bool
    severity: Mapping[Criticality, Severity]
    sources: tuple[str, ...] = Field(min_length=1)
    thresholds: Mapping[str, Threshold] = {}

    @model_validator(mode="after")
    def _every_criticality(self) -> Self:
        if set(self.severity) != set(Criticality):
            raise ValueError("severity is given for C1, C2 and C3")
        return self


class _File(_Part):
    domain: str
    name: Title
    control: tuple[CatalogueEntry, ...]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.control:
            raise ValueError("a catalogue has at least one control")
        return self


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """A loaded catalogue. `sha256` is the hash of the file's bytes, in hexadecimal."""

    domain: str
    name: Title
    entries: Mapping[str, CatalogueEntry]
    sha256: str

    def title(self, control: str, language: str) -> str:
        """Return a control's title in French ("fr") or English; an unknown id is its own title."""
        entry = self.entries.get(control)
        if entry is None:
            return control
        return entry.title.fr if language == "fr" else entry.title.en

    def policy(self, control: str, criticality: Criticality) -> Policy:
        """Return what a control demands of a subject of that criticality."""
        return self._policies[control, criticality]

    def period(self, control: str, criticality: Criticality, name: str = "period") -> int | None:
        """Return a duration threshold in seconds, None where the criticality has none."""
        value = self.policy(control, criticality).thresholds.get(name)
        return value if isinstance(value, int) else None

    @cached_property
    def _policies(self) -> Mapping[tuple[str, Criticality], Policy]:
        return {
            (entry.id, criticality): Policy(
                control=entry.id,
                severity=entry.severity[criticality],
                thresholds={
                    name: threshold.number(value)
                    for name, threshold in entry.thresholds.items()
                    if (value := threshold.of(criticality)) is not None
                },
            )
            for entry in self.entries.values()
            for criticality in Criticality
        }


def load_catalogue(path: CatalogueFile | None = None) -> Catalogue:
    """Read the catalogue at `path`, or the shipped one.

    Raise ConfigurationError with every problem found, each with its line where it is known, when the
    file is no TOML, breaks the shape or names a control twice; OSError when it cannot be read.
    """
    source = path if path is not None else shipped(SHIPPED)
    content = source.read_bytes()
    name = str(source)
    try:
        text = content.decode()
        raw = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        line, column = (int(found[1]), int(found[2])) if found else (None, None)
        raise ConfigurationError([_problem(name, line, "", str(error), column)]) from error
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(
            [
                _problem(name, _line(text, part["loc"]), _key(raw, part["loc"]), part["msg"])
                for part in error.errors()
            ]
        ) from error
    entries: dict[str, CatalogueEntry] = {}
    for position, entry in enumerate(file.control):
        if entry.id in entries:
            line = _line(text, ("control", position, "id"))
            raise ConfigurationError([_problem(name, line, entry.id, "the control is given twice")])
        entries[entry.id] = entry
    return Catalogue(
        domain=file.domain,
        name=file.name,
        entries=entries,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _problem(
    file: str, line: int | None, key: str, found: str, column: int | None = None
) -> ConfigurationProblem:
    message = Message(id="controls.catalogue", values={"key": key or "—", "found": found})
    return ConfigurationProblem(file=file, line=line, column=column, key=key, message=message)


def _key(raw: Mapping[str, Any], loc: tuple[int | str, ...]) -> str:
    """Return where a problem lies, with the control's id in the place of its number."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and loc[0] == "control" and isinstance(loc[1], int):
        control = raw["control"][loc[1]]
        named = control.get("id") if isinstance(control, dict) else None
        parts[:2] = [str(named or f"control {loc[1] + 1}")]
    return ".".join(parts)


def _line(text: str, loc: tuple[int | str, ...]) -> int | None:
    """Return the line of the innermost key of `loc` that can be found, counted from 1."""
    lines = text.splitlines()
    if len(loc) < 2 or loc[0] != "control" or not isinstance(loc[1], int):
        wanted = rf"\s*\[*{re.escape(str(loc[0]))}\b" if loc else r"\Z"
        return next((n for n, line in enumerate(lines, 1) if re.match(wanted, line)), None)
    heads = [n for n, line in enumerate(lines, 1) if re.match(r"\s*\[\[control\]\]", line)]
    if loc[1] >= len(heads):
        return None
    best, end = heads[loc[1]], (*heads, len(lines) + 1)[loc[1] + 1]
    for part in loc[2:]:
        key = rf"\s*(\[control\.([\w-]+\.)*)?{re.escape(str(part))}\b"
        best = next((n for n in range(best, end) if re.match(key, lines[n - 1])), best)
    return best
