"""Finds and reads `status.json` without loading settings or store: what makes `status` quick.

Whenever anything is doubtful (a broken file, a value from the environment, a stale status, a store
that was written to since) the answer is None, and the caller judges from the store.
"""

from __future__ import annotations

import json
import os
import socket
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from backupguard.model import Json, to_us
from backupguard.store.peek import head_seq, last_start

NAME = "status.json"
FORMAT = 1
_DEFAULT = "/etc/backupguard/backupguard.toml"
_STATE = Path("/var/lib/backupguard")
_RUNTIME = Path("/run/backupguard")
#: A daemon answers in milliseconds; the plugins' usual limit is ten seconds.
PATIENCE_S = 8.0
_ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#: Variables that decide where things are; others change nothing that matters here.
_PLACES = ("BACKUPGUARD_STORE", "BACKUPGUARD_DAEMON")


def _tables(config: Path | None, environ: Mapping[str, str]) -> tuple[Path, list[dict[str, Any]]]:
    """Return the main file and what it and `conf.d` hold. Raises OSError and ValueError."""
    main = (config or Path(environ.get("BACKUPGUARD_CONFIG") or _DEFAULT)).absolute()
    files = (main, *sorted((main.parent / "conf.d").glob("*.toml")))
    return main, [tomllib.loads(file.read_text(encoding="utf-8")) for file in files]


def language(config: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the language the site's files name, unchecked; None when they cannot be read."""
    named: dict[str, Any] = {}
    try:
        for data in _tables(config, environ)[1]:
            named |= data.get("site", {})
    except (OSError, ValueError, TypeError):
        return None
    found = named.get("language")
    return found if isinstance(found, str) else None


def directories(config: Path | None, environ: Mapping[str, str]) -> tuple[Path, Path] | None:
    """Return state and runtime directory as the configuration says, None when that is not plain."""
    if any(name.startswith(_PLACES) for name in environ):
        return None
    store: dict[str, Any] = {}
    daemon: dict[str, Any] = {}
    try:
        main, tables = _tables(config, environ)
        for data in tables:
            store |= data.get("store", {})
            daemon |= data.get("daemon", {})
    except (OSError, ValueError, TypeError):
        return None
    state, runtime = store.get("directory", str(_STATE)), daemon.get("runtime-directory")
    if store.get("url") is not None or not isinstance(state, str):
        return None
    directory = main.parent / Path(state).expanduser()
    if isinstance(runtime, str):
        return directory, main.parent / Path(runtime).expanduser()
    return directory, _RUNTIME if directory == _STATE else directory / "run"


def read(path: Path) -> dict[str, Json] | None:
    """Return a `status.json` that this version understands, None for anything else."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    return document


def fresh(config: Path | None, environ: Mapping[str, str], now: datetime) -> dict[str, Json] | None:
    """Return what was published last, if it can still be believed."""
    places = directories(config, environ)
    if places is None:
        return None
    state, runtime = places
    # access(2) never raises: the runtime directory may lie where this user may not look.
    path = (runtime if os.access(runtime, os.F_OK) else state) / NAME
    document = read(path)
    if document is None:
        return None
    moment = to_us(now)
    if not document["judged_at"] - 60_000_000 <= moment <= document["stale_after"]:
        return None
    # A daemon judges new facts by itself; without one, nobody may have looked at the newest.
    if not os.access(runtime / "control.sock", os.F_OK) and head_seq(state) != document["head_seq"]:
        return None
    return document


def last(config: Path | None, environ: Mapping[str, str]) -> dict[str, Json] | None:
    """Return what was published last, however old."""
    places = directories(config, environ)
    if places is None:
        return None
    return read(places[1] / NAME) or read(places[0] / NAME)


def absent(state: Path, runtime: Path) -> int | None:
    """Return when the daemon that does not answer any more was last started (microseconds).

    None while one answers, and where none was ever started. Whoever asks judges from the store, and
    would not notice otherwise that nothing is watched.
    """
    return None if answers(runtime) else last_start(state)


def answers(runtime: Path) -> bool:
    """Tell whether a daemon answers in time; one that may not be asked does.

    It is asked for an answer: of one that was stopped, the kernel would still take the connection.
    """
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(PATIENCE_S)
        try:
            # Through its directory: the path may be longer than an address of unix(7).
            directory = os.open(runtime, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                asked.connect(f"/proc/self/fd/{directory}/control.sock")
            finally:
                os.close(directory)
            asked.sendall(_ASKED)
            return bool(asked.recv(1))
        except PermissionError:
            return True
        except OSError:
            return False
