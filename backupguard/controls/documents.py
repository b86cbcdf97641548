"""Reads the catalogue's data files; what is wrong in one is told with its file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.model import Message

_Shape = TypeVar("_Shape", bound=BaseModel)
_Place = tuple[int | str, ...]


class DataFile(Protocol):
    """What is needed of a path: its bytes; its text form names it in errors."""

    def read_bytes(self) -> bytes:
        """Return the file's content; raises OSError."""


class Part(BaseModel):
    """A part of a data file: no other keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bilingual(Part):
    """A text in both languages."""

    fr: str = Field(min_length=1)
    en: str = Field(min_length=1)

    def of(self, language: str) -> str:
        """Return the text in French ("fr") or English."""
        return self.fr if language == "fr" else self.en


class Document:
    """One data file: its text, and where in it something lies. `table` is its list of tables."""

    def __init__(self, name: str, content: bytes, table: str) -> None:
        self.name = name
        self.table = table
        try:
            self._text = content.decode()
            self._raw: Mapping[str, Any] = tomllib.loads(self._text)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            found = re.search(r"at line (\d+), column (\d+)", str(error))
            line, column = (int(found[1]), int(found[2])) if found else (None, None)
            if str(error).endswith("(at end of document)"):
                line = max(1, len(content.splitlines()))
            raise ConfigurationError([self._problem(line, "", str(error), column)]) from error

    def shaped(self, shape: type[_Shape]) -> _Shape:
        """Return the file as a model; raises ConfigurationError with every problem and its line."""
        try:
            return shape.model_validate(self._raw)
        except ValidationError as error:
            raise ConfigurationError(
                [self.problem(part["loc"], part["msg"]) for part in error.errors()]
            ) from error

    def problem(self, place: _Place, found: str) -> ConfigurationProblem:
        """Return what is wrong at a place: ("control", 3, "severity"), with its line."""
        return self._problem(self._line(place), self._key(place), found)

    def refuse(self, place: _Place, found: str) -> NoReturn:
        """Raise ConfigurationError with one problem."""
        raise ConfigurationError([self.problem(place, found)])

    def _problem(
        self, line: int | None, key: str, found: str, column: int | None = None
    ) -> ConfigurationProblem:
        message = Message(id="controls.catalogue", values={"key": key or "—", "found": found})
        return ConfigurationProblem(
            file=self.name, line=line, column=column, key=key, message=message
        )

    def _key(self, place: _Place) -> str:
        """Return where a problem lies, with the table's id in the place of its number."""
        parts = [str(part) for part in place]
        if len(place) > 1 and place[0] == self.table and isinstance(place[1], int):
            one = self._raw[self.table][place[1]]
            named = (one.get("id") or one.get("identifier")) if isinstance(one, dict) else None
            parts[:2] = [str(named or f"{self.table} {place[1] + 1}")]
        return ".".join(parts)

    def _line(self, place: _Place) -> int | None:
        """Return the line of the innermost key of a place that can be found, counted from 1."""
        lines = self._text.splitlines()
        if len(place) < 2 or place[0] != self.table or not isinstance(place[1], int):
            wanted = rf"\s*\[*{re.escape(str(place[0]))}\b" if place else r"\Z"
            return next((n for n, line in enumerate(lines, 1) if re.match(wanted, line)), None)
        table = re.escape(self.table)
        heads = [n for n, line in enumerate(lines, 1) if re.match(rf"\s*\[\[{table}\]\]", line)]
        if place[1] >= len(heads):
            return None
        best, end = heads[place[1]], (*heads, len(lines) + 1)[place[1] + 1]
        for part in place[2:]:
            key = rf"\s*(\[{table}\.([\w-]+\.)*)?{re.escape(str(part))}\b"
            best = next((n for n in range(best, end) if re.match(key, lines[n - 1])), best)
        return best
