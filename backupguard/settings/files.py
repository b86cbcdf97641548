"""Reads the configuration: one TOML file, `conf.d/*.toml` beside it, a few environment variables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from backupguard.errors import ConfigurationProblem
from backupguard.model import Message
from backupguard.settings.positions import KeyPath, Position, positions

_AT_LINE = re.compile(r"\(at line (\d+), column (\d+)\)\Z")
#: The tables of which single values may come from the environment.
FROM_ENVIRONMENT = ("daemon", "store", "http")
_PREFIX = "BACKUPGUARD_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something wrong at a key, before its place in a file is looked up."""

    path: KeyPath
    message: Message
    remedy: Message | None = None


@dataclass(slots=True, kw_only=True)
class Merged:
    """All files as one table, and which file, or variable, each key came from."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    problems: list[ConfigurationProblem] = field(default_factory=list)
    broken: bool = False  # a file could not be read: the rest cannot be judged

    def place(self, path: KeyPath) -> tuple[str, Position | None]:
        """Return the file and position of a key, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None:
                return origin, _position(origin, path)
        return str(self.files[0]) if self.files else "", None

    def located(self, trouble: Trouble) -> ConfigurationProblem:
        """Return a trouble with its file, line and column."""
        file, position = self.place(trouble.path)
        return ConfigurationProblem(
            file=file,
            line=position[0] if position else None,
            column=position[1] if position else None,
            key=spelled(trouble.path),
            message=trouble.message,
            remedy=trouble.remedy,
        )


def spelled(path: KeyPath) -> str:
    """Return a key as one would write it: `applications.dpi.restore-test.checks[0].sql`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = re.fullmatch(r"[A-Za-z0-9_-]+", part) is not None
        text += ("." if text else "") + (part if bare else '"' + part.replace('"', '\\"') + '"')
    return text


@cache
def _index(file: str) -> Mapping[KeyPath, Position]:
    try:
        return positions(Path(file).read_bytes())
    except OSError:
        return {}


def _position(file: str, path: KeyPath) -> Position | None:
    index = _index(file)
    return next((index[path[:n]] for n in range(len(path), 0, -1) if path[:n] in index), None)


def read(main: Path) -> Merged:
    """Read the main file and `conf.d/*.toml` beside it, in the order of their names.

    What is wrong with reading is in `problems`; a key set twice names both places.
    """
    _index.cache_clear()
    merged = Merged()
    extra = sorted((main.parent / "conf.d").glob("*.toml"))
    for path in [main, *(file for file in extra if not file.name.startswith("."))]:
        merged.files.append(path)
        table = _load(path, merged)
        if table is None:
            merged.broken = True
        else:
            _merge(merged, merged.data, table, (), str(path))
    return merged


def _load(path: Path, merged: Merged) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        message, line, column = Message(id="settings.no-file"), None, None
    except OSError as error:
        text = error.strerror or type(error).__name__
        message, line, column = Message(id="settings.unreadable", values={"why": text}), None, None
    except UnicodeDecodeError as error:
        line, column = error.object[: error.start].count(b"\n") + 1, None
        message = Message(id="settings.not-utf8")
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else (None, None)
        why = _AT_LINE.sub("", str(error)).strip()
        message = Message(id="settings.syntax", values={"why": why})
    merged.problems.append(
        ConfigurationProblem(
            file=str(path),
            line=line,
            column=column,
            key="",
            message=message,
            remedy=Message(id="remedy.no_file") if message.id == "settings.no-file" else None,
        )
    )
    return None


def _merge(
    merged: Merged, into: dict[str, Any], table: dict[str, Any], at: KeyPath, origin: str
) -> None:
    for key, value in table.items():
        path = (*at, key)
        if key not in into:
            into[key] = _adopted(merged, value, path, origin)
        elif isinstance(into[key], dict) and isinstance(value, dict):
            _merge(merged, into[key], value, path, origin)
        else:
            first, position = merged.place(path)
            place = f"{first}:{position[0]}" if position else first
            here = _position(origin, path)
            merged.problems.append(
                ConfigurationProblem(
                    file=origin,
                    line=here[0] if here else None,
                    column=here[1] if here else None,
                    key=spelled(path),
                    message=Message(id="settings.twice", values={"place": place}),
                    remedy=Message(id="remedy.twice"),
                )
            )


def _adopted(merged: Merged, value: Any, path: KeyPath, origin: str) -> Any:
    """Return a value for the merged table, its origin noted; tables are copied."""
    merged.origins[path] = origin
    if isinstance(value, dict):
        return {k: _adopted(merged, v, (*path, k), origin) for k, v in value.items()}
    return value


def apply_environment(merged: Merged, environ: Mapping[str, str]) -> None:
    """Put `BACKUPGUARD_DAEMON_…`, `BACKUPGUARD_STORE_…`, `BACKUPGUARD_HTTP_…` over the files.

    The rest of the name is the key, with "_" for "-": `BACKUPGUARD_STORE_URL`.
    """
    heads = tuple(f"{_PREFIX}{name.upper()}_" for name in FROM_ENVIRONMENT)
    if not any(name.startswith(heads) for name in environ):
        return  # pydantic-settings costs an import that most starts can do without
    for table, values in _from_environment(environ).items():
        for name, value in values.items():
            key = name.replace("_", "-")
            merged.origins[(table, key)] = f"{_PREFIX}{table}_{name}".upper()
            merged.origins.setdefault((table,), merged.origins[(table, key)])
            target = merged.data.setdefault(table, {})
            if isinstance(target, dict):
                target[key] = value


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

    class Environment(BaseSettings):
        """The tables of which single values may be set by the environment."""

        model_config = SettingsConfigDict(
            env_prefix=_PREFIX, env_nested_delimiter="_", env_nested_max_split=1
        )
        daemon: dict[str, Any] = {}
        store: dict[str, Any] = {}
        http: dict[str, Any] = {}

    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in environ.items()}

    values = Source(Environment)()
    return {name: dict(values[name]) for name in FROM_ENVIRONMENT if values.get(name)}
