"""A restore test that a person tells of, in a small file filled in by hand (TOML or JSON).

A pure function over bytes. What is not understood is refused: a key that is misspelt must not pass for
one that is left out.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from backupguard.contracts import parse_duration
from backupguard.model import Json, Verdict, to_us
from restore_tests.imported_record import text_of, wrong

ATTESTED = "attested"
#: A person can tell of what was checked (3) and of an application that was used again (4).
_HIGHEST = 4
_REQUIRED = ("application", "tested-at", "verdict", "level", "who", "checked")
_KNOWN = frozenset({*_REQUIRED, "repository", "point", "point-at", "duration", "order"})
_MOST = 50


def read(content: bytes, timezone: str) -> dict[str, Json]:
    """Return the file as the body of a declared test; `repository` is None where it is left out.

    Raises Misunderstood naming the line of what is no TOML or JSON, and the key of what is wrong.
    """
    text = text_of(content)
    found = _parsed(text)
    _known_keys(found, text)
    bad = next((key for key, right in _RIGHT.items() if not right(found.get(key))), None)
    if bad is not None:
        raise wrong("bad-key", _line_of(text, bad), key=bad)
    checked, order = _texts(found["checked"]), _texts(found.get("order") or [])
    tested_at = _time(found["tested-at"], timezone)
    point_at = _time(found.get("point-at"), timezone)
    duration = _milliseconds(found.get("duration"))
    for key, value in (("tested-at", tested_at), ("point-at", point_at), ("duration", duration)):
        if value is None and found.get(key) is not None:
            raise wrong("bad-key", _line_of(text, key), key=key)
    assert tested_at is not None  # its key is there
    return {
        "application": found["application"],
        "repository": found.get("repository"),
        "format": ATTESTED,
        "engine": ATTESTED,
        "sha256": hashlib.sha256(content).hexdigest(),
        "tested_at": to_us(tested_at),
        "duration_ms": duration,
        "verdict": found["verdict"],
        "level": found["level"],
        "point": found.get("point"),
        "point_at": to_us(point_at) if point_at is not None else None,
        "checks": [],
        "who": found["who"],
        "checked": checked,
        "order": order,
    }


def _known_keys(found: Mapping[str, Any], text: str) -> None:
    unknown = sorted(found.keys() - _KNOWN)
    if unknown:
        raise wrong("unknown-key", _line_of(text, unknown[0]), key=unknown[0][:80])
    for key in _REQUIRED:
        if found.get(key) is None:
            raise wrong("no-key", 0, key=key)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_level(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _HIGHEST


#: What each key must hold; of a test of which nothing was looked at nothing is known.
_RIGHT: Mapping[str, Callable[[Any], bool]] = {
    "application": _is_text,
    "who": _is_text,
    "level": _is_level,
    "verdict": lambda value: value in (Verdict.PASSED, Verdict.FAILED),
    "repository": lambda value: value is None or _is_text(value),
    "point": lambda value: value is None or _is_text(value),
    "checked": lambda value: bool(_texts(value)),
    "order": lambda value: value is None or _texts(value) is not None,
}


def _parsed(text: str) -> Mapping[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise wrong("half-written", error.lineno) from None
        except RecursionError:
            raise wrong("broken", 1) from None
    else:
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise wrong("broken", _toml_line(str(error), text)) from None
    if not isinstance(found, dict):
        raise wrong("no-record", 1)
    return found


def _toml_line(said: str, text: str) -> int:
    _, _, place = said.rpartition("at line ")
    number = place.partition(",")[0]
    return int(number) if number.isdecimal() else text.count("\n") + 1


def _line_of(text: str, key: str) -> int:
    lines = enumerate(text.splitlines(), start=1)
    return next((n for n, line in lines if line.strip().lstrip('"').startswith(key)), 0)


def _texts(value: Any) -> list[str] | None:
    if not isinstance(value, list) or len(value) > _MOST:
        return None
    if not all(isinstance(one, str) and one.strip() for one in value):
        return None
    return [one.strip() for one in value]


def _time(value: Any, timezone: str) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):  # a day alone says no time; a table of TOML none at all
        return None
    moment = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(timezone))
    return moment.astimezone(UTC)


def _milliseconds(value: Any) -> int | None:
    try:
        found = parse_duration(value)
    except (ValueError, OverflowError):
        return None
    if not isinstance(found, timedelta) or found < timedelta(0):
        return None
    return found // timedelta(milliseconds=1)
