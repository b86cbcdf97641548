"""The control catalogue: a data file that says what each control demands, and on whose authority."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from backupguard.contracts import parse_duration
from backupguard.controls.documents import Bilingual, DataFile, Document, Part
from backupguard.controls.maps import PATTERN, ReferenceMap, Row, read_map
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Criticality, Message, Policy, Scope, Severity
from backupguard.resources import shipped

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: The catalogue's file, and where the shipped one lies, as `backupguard.resources` knows it.
NAME = "care-d4.toml"
PLACE = "controls"
#: Languages every title is given in.
LANGUAGES = ("fr", "en")


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


class ThresholdValue(Part):
    """One value, where it comes from, and the source that gives it (always, when origin is SRC)."""

    value: bool | int | str
    origin: ValueOrigin
    source: str | None = None

    @model_validator(mode="after")
    def _source_named(self) -> Self:
        if self.origin is ValueOrigin.SOURCE and not self.source:
            raise ValueError("a value of origin SRC names its source")
        return self


class Threshold(Part):
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
            case Unit.PERCENT, int() as number if not isinstance(number, bool) and number <= 100:
                return _not_negative(number)
            case Unit.COUNT, int() as number if not isinstance(number, bool):
                return _not_negative(number)
        raise ValueError(f"{value.value!r} is no {self.unit.value}")


def _not_negative(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is less than nothing")
    return number


class CatalogueEntry(Part):
    """One control: what it is called, whom it speaks about, what it demands, on whose authority."""

    id: str = Field(pattern=r"^[A-Z0-9]{3}-[0-9]{2}$")
    scope: Scope
    title: Bilingual
    built: bool
    severity: Mapping[Criticality, Severity]
    sources: tuple[str, ...] = Field(min_length=1)
    thresholds: Mapping[str, Threshold] = {}

    @model_validator(mode="after")
    def _every_criticality(self) -> Self:
        if set(self.severity) != set(Criticality):
            raise ValueError("severity is given for C1, C2 and C3")
        return self


class _File(Part):
    domain: str
    name: Bilingual
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
    name: Bilingual
    entries: Mapping[str, CatalogueEntry]
    sha256: str
    maps: tuple[ReferenceMap, ...] = ()

    def references(self, control: str) -> tuple[tuple[ReferenceMap, Row], ...]:
        """Return the clauses of all references that a control helps with."""
        return tuple((one, row) for one in self.maps for row in one.of(control))

    def map(self, name: str) -> ReferenceMap | None:
        """Return a map by its id, whatever the case of its letters; None where there is none."""
        return next((one for one in self.maps if one.id.casefold() == name.casefold()), None)

    def title(self, control: str, language: str) -> str:
        """Return a control's title in French ("fr") or English; an unknown id is its own title."""
        entry = self.entries.get(control)
        return control if entry is None else entry.title.of(language)

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


def load_catalogue(path: DataFile | None = None) -> Catalogue:
    """Read the catalogue at `path`, without maps; or the shipped one with the shipped maps.

    Raise ConfigurationError with every problem found, each with its line where it is known, when the
    file is no TOML, breaks the shape or names a control twice; OSError when it cannot be read.
    """
    return _shipped() if path is None else _read(str(path), path.read_bytes())


def catalogue_of(settings: Settings) -> Catalogue:
    """Return the catalogue that holds under these settings; raises as `catalogue_from`."""
    return catalogue_from(settings.controls.files, settings.controls.place)


def catalogue_from(own: Mapping[str, str], place: Callable[[str], str] = str) -> Catalogue:
    """Return the catalogue made of a site's files, by name, and of the shipped ones.

    A file of the site's takes the place of the shipped one of its name. In the catalogue, controls and
    thresholds that it leaves out are as shipped, so that an older file of the site's is good after an
    update. `place` gives a file's path, for errors. Raise ConfigurationError with every problem of
    every file, each with its line.
    """
    if not own:
        return _shipped()
    problems: list[ConfigurationProblem] = []
    catalogue = _shipped()
    if NAME in own:
        try:
            catalogue = _completed(place(NAME), own[NAME].encode())
        except ConfigurationError as error:
            problems += error.problems
    maps = {one.file: one for one in catalogue.maps}
    for name in sorted(own.keys() - {NAME}):
        try:
            maps[name] = read_map(place(name), own[name].encode(), catalogue.entries)
        except ConfigurationError as error:
            problems += error.problems
    broken = {problem.file for problem in problems}
    read = {name for name in own if place(name) not in broken}
    problems += _twice(maps, read, place)
    if problems:
        raise ConfigurationError(problems)
    return replace(catalogue, maps=_in_order(maps.values()))


def _twice(
    maps: Mapping[str, ReferenceMap], own: Collection[str], place: Callable[[str], str]
) -> Iterator[ConfigurationProblem]:
    """Yield a problem for every file of the site's whose map has the id of another one."""
    counted = Counter(one.id.casefold() for one in maps.values())
    for file, one in maps.items():
        if file in own and counted[one.id.casefold()] > 1:
            found = f"another map has the id {one.id} too"
            message = Message(id="controls.catalogue", values={"key": "id", "found": found})
            yield ConfigurationProblem(
                file=place(file), line=None, column=None, key="id", message=message
            )


@cache
def _shipped() -> Catalogue:
    """Return the shipped catalogue with its maps: read once, for these files come with the program."""
    place = shipped(PLACE)
    catalogue = _read(str(place / NAME), (place / NAME).read_bytes())
    maps = (
        read_map(str(path), path.read_bytes(), catalogue.entries) for path in place.glob(PATTERN)
    )
    return replace(catalogue, maps=_in_order(maps))


def _in_order(maps: Iterable[ReferenceMap]) -> tuple[ReferenceMap, ...]:
    return tuple(sorted(maps, key=lambda one: one.file))


def _read(name: str, content: bytes) -> Catalogue:
    document = Document(name, content, "control")
    file = document.shaped(_File)
    entries: dict[str, CatalogueEntry] = {}
    for position, entry in enumerate(file.control):
        if entry.id in entries:
            document.refuse(("control", position, "id"), "the control is given twice")
        entries[entry.id] = entry
    return Catalogue(
        domain=file.domain,
        name=file.name,
        entries=entries,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _completed(name: str, content: bytes) -> Catalogue:
    """Return a site's catalogue with what it leaves out; raise when a control could not read it."""
    document = Document(name, content, "control")
    own, known = _read(name, content), _shipped()
    problems = []
    entries = dict(known.entries)
    for position, (control, entry) in enumerate(own.entries.items()):
        standard = known.entries.get(control)
        if standard is None:
            problems.append(document.problem(("control", position, "id"), "no such control"))
            continue
        if entry.scope is not standard.scope:
            found = f"the scope of {control} is {standard.scope.value}"
            problems.append(document.problem(("control", position, "scope"), found))
        for threshold, given in entry.thresholds.items():
            found = _unfit(given, standard.thresholds.get(threshold))
            if found:
                place = ("control", position, "thresholds", threshold)
                problems.append(document.problem(place, found))
        thresholds = {**standard.thresholds, **entry.thresholds}
        entries[control] = entry.model_copy(update={"thresholds": thresholds})
    if problems:
        raise ConfigurationError(problems)
    return replace(own, entries=entries, maps=known.maps)


def _unfit(given: Threshold, standard: Threshold | None) -> str:
    """Return why a control could not read a threshold; nothing when it can."""
    if standard is None:
        return "no such threshold"
    if given.unit is not standard.unit:
        return f"the unit is {standard.unit.value}"
    lost = [c.value for c in Criticality if standard.of(c) is not None and given.of(c) is None]
    return f"no value for {', '.join(lost)}" if lost else ""
