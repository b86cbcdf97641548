"""What pgBackRest, Barman, and Bareos or Bacula directors keep, and which of their jobs are on.

Sources: pgBackRest's "Configuration Reference" (repo-retention-*, repo-cipher-type); barman(5)
(`retention_policy`, `minimum_redundancy`, `active`); the chapters on the Pool and Job resources of
the Bareos and Bacula manuals.
"""

from __future__ import annotations

import re
from pathlib import Path

from probes.discovery_files import Line
from probes.discovery_found import Found
from probes.discovery_tools import barman_lines, director, pgbackrest_lines
from probes.drift_found import Place, Policies
from probes.drift_rules import KEEPS_ALL, UNLIMITED

_REPO = re.compile(r"(repo\d*)-(.+)")
_WINDOW = re.compile(r"RECOVERY\s+WINDOW\s+OF\s+(\d+)\s+(DAY|WEEK|MONTH)S?", re.IGNORECASE)
_REDUNDANCY = re.compile(r"(?:REDUNDANCY\s+)?(\d+)", re.IGNORECASE)
_SPAN = re.compile(r"(\d+)\s*([a-zA-Z]*)")
_OFF = frozenset({"false", "off", "no", "0"})
#: Days in the units of a director's durations; "m" is a month, as in its manual.
_DAYS = {"d": 1, "w": 7, "m": 31, "q": 92, "y": 366}


def pgbackrest(etc: Path, policies: Policies) -> None:
    """Add retention and encryption of each section, and its stanzas as jobs."""
    found = Found(host="")
    lines = [line for _, line in pgbackrest_lines(etc, found)]
    if found.lacking:
        policies.lacks("pgbackrest", found)
        return
    for section in dict.fromkeys(line.section for line in lines if line.section):
        values = {line.key: line.value for line in lines if line.section == section}
        place = policies.read("pgbackrest", section)
        if not section.startswith("global") and ":" not in section:
            place.put("job.enabled", True)
        repositories = dict.fromkeys(m[1] for key in values if (m := _REPO.fullmatch(key)))
        for repository in repositories:
            _repository(repository, values, section, place)


def _repository(name: str, values: dict[str, str], section: str, place: Place) -> None:
    kept = values.get(f"{name}-retention-full")
    if kept is not None and kept.isdecimal():
        by_time = values.get(f"{name}-retention-full-type") == "time"
        place.put(f"retention.{name}-full", f"{kept} {'days' if by_time else 'backups'}")
    elif section == "global":  # without it nothing expires
        place.put(f"retention.{name}-full", UNLIMITED)
    for kind in ("diff", "archive"):
        number = values.get(f"{name}-retention-{kind}", "")
        if number.isdecimal():
            place.put(f"retention.{name}-{kind}", int(number))
    if section == "global" or f"{name}-cipher-type" in values:
        place.put(f"protection.encryption.{name}", values.get(f"{name}-cipher-type", "none"))


def barman(etc: Path, policies: Policies) -> None:
    """Add retention and minimum redundancy of each server, and whether it is active."""
    found = Found(host="")
    lines = [line for _, line in barman_lines(etc, found)]
    if found.lacking:
        policies.lacks("barman", found)
        return
    shared = _section(lines, "barman")
    for section in dict.fromkeys(line.section for line in lines if line.section):
        if section == "barman" or section.endswith(":model"):
            continue
        values = {**shared, **_section(lines, section)}
        place = policies.read("barman", section)
        place.put("job.enabled", values.get("active", "true").lower() not in _OFF)
        policy = values.get("retention_policy", "")
        window, number = _WINDOW.fullmatch(policy), _REDUNDANCY.fullmatch(policy)
        if window:
            place.put("retention.policy", f"{window[1]} {window[2].lower()}s")
        elif number:
            place.put("retention.policy", f"{number[1]} backups")
        elif not policy:
            place.put("retention.policy", UNLIMITED)
        least = values.get("minimum_redundancy", "0")
        if least.isdecimal():
            place.put("retention.minimum_redundancy", int(least))


def _section(lines: list[Line], name: str) -> dict[str, str]:
    return {line.key: line.value for line in lines if line.section == name}


def bareos(etc: Path, policies: Policies) -> None:
    """Add how long each pool keeps its volumes, and whether each backup job is enabled."""
    found = Found(host="")
    for _, values in director(etc, "job", found):
        if values.get("type", "backup").lower() == "backup":
            place = policies.read("bareos", f"job {values['name']}")
            place.put("job.enabled", values.get("enabled", "yes").lower() not in _OFF)
            for key in ("schedule", "fileset", "pool"):
                if key in values:
                    place.put(f"info.{key}", values[key])
    for _, values in director(etc, "pool", found):
        place = policies.read("bareos", f"pool {values['name']}")
        days = _days(values.get("volumeretention", "365 days"))
        if days is not None:
            place.put("retention.volume", f"{days} days")
        if values.get("recycle", "yes").lower() in _OFF:
            place.put(KEEPS_ALL, UNLIMITED)
    policies.lacks("bareos", found)


def _days(text: str) -> int | None:
    """Return a director's duration in whole days: "3 months 2 days", "365d", "31536000" seconds."""
    total = 0
    for number, unit in _SPAN.findall(text):
        name = unit.lower()
        if name in {"", "s"} or name.startswith("sec"):
            total += int(number) // 86_400
        elif name.startswith(("h", "min", "n")):
            continue  # no pool keeps its volumes for hours
        elif name[0] in _DAYS:
            total += int(number) * _DAYS[name[0]]
        else:
            return None
    return total
