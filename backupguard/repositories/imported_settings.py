"""What the configuration says of an export that another backup tool writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from backupguard.contracts import Duration, RepositorySettings, SettingsModel, refused_setting
from backupguard.model import PointState
from backupguard.repositories.local_times import zone_named

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Columns(SettingsModel):
    """Which column of the export holds what; `at` and `job` are needed.

    In JSON a column is a key, or a path of keys joined by dots. `at` is when the data were as the copy
    has them, normally the start of the run; `ended` when the run ended.
    """

    job: str
    at: str
    ended: str | None = None
    state: str | None = None
    id: str | None = None
    bytes: str | None = None
    files: str | None = None
    host: str | None = None
    kind: str | None = None
    encrypted: str | None = None


class ImportSettings(RepositorySettings):
    """A file, CSV or JSON, that a tool BackupGuard does not speak to writes regularly.

    `source` names the tool wherever its points are shown. `states` says which words of the state
    column mean what; a word that is not listed is an error and never a success. A file that was not
    written anew for `max-age` says nothing any more.
    """

    selects: ClassVar[frozenset[str]] = frozenset({"name"})

    type: Literal["import"]
    file: Path
    source: str = Field(min_length=1, max_length=40)
    columns: Columns
    max_age: Duration = timedelta(hours=26)
    format: Literal["csv", "json"] | None = None  # left out: by the file's suffix
    records: str | None = None  # JSON: path of keys to the list, left out: the list itself
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"
    time_format: str | None = None  # strptime; left out: ISO 8601, or seconds since 1970
    timezone: str | None = None  # of times without a zone; left out: this host's
    size_unit: str = "B"
    decimal: Literal[".", ","] = "."
    states: Mapping[Literal["complete", "warning", "failed", "running"], tuple[str, ...]] = Field(
        default_factory=dict
    )
    kinds: Mapping[Literal["full", "incremental", "differential", "snapshot"], tuple[str, ...]] = (
        Field(default_factory=dict)
    )

    @property
    def unit(self) -> int:
        """Bytes in one of `size_unit`."""
        return _UNITS[self.size_unit]

    @property
    def is_json(self) -> bool:
        """Whether the file is read as JSON."""
        return (self.format or self.file.suffix.lower().lstrip(".")) == "json"

    def state_of(self, word: str) -> PointState | None:
        """Return the state a word of the export means, None for an unknown one."""
        wanted = word.strip().casefold()
        for state, words in self.states.items():
            if wanted in {listed.casefold() for listed in words}:
                return PointState(state)
        return None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.file.is_absolute():
            raise refused_setting("absolute", "file")
        if self.format is None and self.file.suffix.lower() not in (".csv", ".json"):
            raise refused_setting("format", "format")
        if self.timezone is not None:
            zone_named(self.timezone)
        if self.size_unit not in _UNITS:
            raise refused_setting("one-of", "size-unit", known=", ".join(_UNITS))
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise refused_setting("encoding", "encoding") from error
        if (self.columns.state is None) != (not self.states):
            raise refused_setting("together", first="columns.state", second="states")
        return self
