"""What borgmatic's configuration keeps, saves and leaves out.

Source: borgmatic's reference of its configuration, "config/schema.yaml"; "borg help patterns".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probes.discovery_borgmatic import Read, files, listed, repositories
from probes.discovery_files import read_text
from probes.discovery_found import Found
from probes.drift_found import ELEMENTS_LIMIT, Place, Policies
from probes.drift_rules import KEEPS_ALL, UNLIMITED

_SOURCE = "borgmatic"
_DATABASES = (
    "postgresql_databases",
    "mariadb_databases",
    "mysql_databases",
    "sqlite_databases",
    "mongodb_databases",
)
_UNITS = {"H": "hours", "d": "days", "w": "weeks", "m": "months", "y": "years"}
_TRUE = frozenset({"true", "yes", "on"})


def look(etc: Path, policies: Policies) -> None:
    """Add what each file of borgmatic's says; a half-written one is not read."""
    directory = Found(host="")
    for path in files(etc, directory):
        found = Found(host="")
        flat = Read(path=path, found=found).options()
        if flat is None and not found.lacking:
            continue  # there is none
        elements = list(_elements(flat, path.parent, found)) if flat else []
        if found.lacking or not flat or len(elements) > ELEMENTS_LIMIT:
            policies.lack(_SOURCE, str(path))
            continue
        place = policies.read(_SOURCE, str(path))
        place.put("job.enabled", "create" not in listed(flat, "skip_actions"))
        _retention(flat, place)
        for key, name in elements:
            place.element(key, name)
    policies.lacks(_SOURCE, directory)


def _retention(flat: dict[str, Any], place: Place) -> None:
    kept = {key: str(value) for key, value in flat.items() if key.startswith("keep_")}
    for key, text in kept.items():
        place.put(f"retention.{key}", _amount(text))
    if not kept:  # nothing is pruned
        place.put(KEEPS_ALL, UNLIMITED)


def _amount(text: str) -> int | str:
    number = text.strip()
    if number.lstrip("-").isdecimal():
        return int(number)
    if number[:-1].isdecimal() and number[-1:] in _UNITS:  # keep_within: 30d
        return f"{number[:-1]} {_UNITS[number[-1]]}"
    return number


def _elements(flat: dict[str, Any], base: Path, found: Found) -> Iterator[tuple[str, str]]:
    """Yield what there are several of: sources, exclusions, places for the copies."""
    for name in listed(flat, "source_directories"):
        yield "job.source", str(name)
    for key in _DATABASES:
        for one in listed(flat, key):
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                server = f"{one.get('hostname') or ''}:{one.get('port') or ''}"
                yield "job.source", f"{key} {server if server != ':' else ''} {one['name']}"
    for address in repositories(flat):
        yield "job.repository", address
    yield from _exclusions(flat)
    for key in ("exclude_from", "patterns_from"):
        for name in listed(flat, key):
            text = read_text(base / str(name), found)
            for line in (text or "").splitlines():
                rule = line.strip()
                if rule and not rule.startswith("#"):
                    yield from _pattern(rule if key == "patterns_from" else f"- {rule}")


def _exclusions(flat: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in listed(flat, "exclude_patterns"):
        yield "job.exclusion", str(name)
    for name in listed(flat, "exclude_if_present"):
        yield "job.exclusion", f"if present: {name}"
    for key in ("exclude_caches", "exclude_nodump"):
        if str(flat.get(key)).lower() in _TRUE:
            yield "job.exclusion", key
    for line in listed(flat, "patterns"):
        yield from _pattern(str(line))


def _pattern(line: str) -> Iterator[tuple[str, str]]:
    sign, _, rest = line.strip().partition(" ")
    if sign in {"-", "!"}:
        yield "job.exclusion", rest.strip()
    elif sign == "R":
        yield "job.source", rest.strip()
