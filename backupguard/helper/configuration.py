"""Reads what root declared, and refuses what somebody else could have written.

Only two tables matter here, `[media.ID]` and `[repositories.ID]`; the daemon judges the rest.
"""

from __future__ import annotations

import os
import stat
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backupguard.helper.protocol import Refusal

FILE: Final = Path("/etc/backupguard/backupguard.toml")
_LIMIT: Final = 4 * 1024 * 1024
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which file is believed: all on the way to it, from `root` on, belongs to `owner` alone."""

    file: Path = FILE
    root: Path = Path("/")
    owner: int = 0


def declared(trust: Trust, table: str, identifier: str) -> dict[str, Any]:
    """Return the table of a declared medium ("media") or repository ("repositories").

    Raises Refusal: `configuration` for files that cannot be read or trusted, `unknown`.
    """
    merged: dict[str, Any] = {}
    with ExitStack() as opened:
        try:
            main = _directory(trust, trust.file.parent, opened)
        except FileNotFoundError as error:
            raise Refusal("configuration", f"{trust.file.parent}: not there") from error
        _merge(merged, _load(trust, main, trust.file.name))
        try:
            extra = _directory(trust, trust.file.parent / "conf.d", opened)
        except FileNotFoundError:
            names = []
        else:
            names = sorted(os.listdir(extra))  # noqa: PTH208 - of the directory that was checked
        for name in names:
            if name.endswith(".toml") and not name.startswith("."):
                _merge(merged, _load(trust, extra, name))
    tables = merged.get(table)
    found = tables.get(identifier) if isinstance(tables, dict) else None
    if not isinstance(found, dict):
        raise Refusal("unknown", f"no [{table}.{identifier}]")
    return found


def _directory(trust: Trust, path: Path, opened: ExitStack) -> int:
    """Open a directory step by step, following no link; each step must be the owner's alone.

    Raises FileNotFoundError for one that is not there, Refusal (configuration) for the rest.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(trust.root, flags)
        opened.callback(os.close, handle)
        _check(trust, os.fstat(handle), trust.root)
        for part in path.relative_to(trust.root).parts:
            handle = os.open(part, flags, dir_fd=handle)
            opened.callback(os.close, handle)
            _check(trust, os.fstat(handle), path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise Refusal("configuration", f"{path}: {type(error).__name__}") from error
    return handle


def _check(trust: Trust, status: os.stat_result, path: Path | str) -> None:
    if status.st_uid != trust.owner or status.st_mode & _OTHERS_MAY_WRITE:
        raise Refusal("configuration", f"{path}: others may write there")


def _load(trust: Trust, directory: int, name: str) -> dict[str, Any]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
            status = os.fstat(file.fileno())
            _check(trust, status, name)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT:
                raise Refusal("configuration", f"{name}: no file of reasonable size")
            return tomllib.loads(file.read(_LIMIT).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal("configuration", f"{name}: {type(error).__name__}") from error


def _merge(into: dict[str, Any], table: dict[str, Any]) -> None:
    """Add a file's tables to the others'; a key set twice has no meaning, here as in the daemon."""
    for key, value in table.items():
        if key not in into:
            into[key] = value
        elif isinstance(into[key], dict) and isinstance(value, dict):
            _merge(into[key], value)
        else:
            raise Refusal("configuration", f"{key} is set twice")
