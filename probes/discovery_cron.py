"""Backup jobs in cron: /etc/crontab, /etc/cron.d, /etc/cron.{hourly,daily,…}, users' crontabs.

Source: crontab(5), cron(8) and run-parts(8) of Debian. The text of a line is never kept.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from probes.discovery_commands import (
    SCRIPT_LIMIT,
    Recognised,
    has_secret,
    not_a_backup,
    recognise,
    script_of,
    tools_in_script,
)
from probes.discovery_files import entries, is_secret_key, read_bytes, read_text
from probes.discovery_found import Found, FoundJob, clean

_WHEN = re.compile(r"(@[a-z]+|(?:[-\d*/,A-Za-z]+\s+){4}[-\d*/,A-Za-z]+)\s+(.*)")
_NUMERIC = re.compile(r"(@(reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)|[\d*].*)")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*)")
_RUN_PARTS = re.compile(r"[A-Za-z0-9_-]+")  # what run-parts takes for a script
_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")


def look(etc: Path, crontabs: Path, found: Found) -> None:
    """Add the backup jobs of cron. Who may not read users' crontabs is told so."""
    _table(etc / "crontab", found, with_user=True)
    for path in entries(etc / "cron.d", found):
        if _RUN_PARTS.fullmatch(path.name):
            _table(path, found, with_user=True)
    for path in entries(crontabs, found):
        _table(path, found, with_user=False)
    for period in _PERIODS:
        for path in entries(etc / f"cron.{period}", found):
            _script(path, period, found)


def _table(path: Path, found: Found, *, with_user: bool) -> None:
    text = read_text(path, found)
    secrets: list[str] = []
    for number, line in enumerate((text or "").splitlines(), 1):
        commented = line.lstrip().startswith("#")
        wanted = line.lstrip().lstrip("#").strip() if commented else line.strip()
        place = f"{path} line {number}"
        assignment = _ASSIGNMENT.fullmatch(wanted)
        if assignment and not _NUMERIC.match(wanted):
            if not commented and is_secret_key(assignment[1]) and assignment[2].strip("'\""):
                secrets.append(place)
            continue
        match = _WHEN.fullmatch(wanted)
        if match is None or not _NUMERIC.match(match[1]):
            continue
        command = match[2].partition(" ")[2] if with_user else match[2]
        if with_user and "\t" in match[2].partition(" ")[0]:
            command = match[2].split(None, 1)[-1]
        known = _recognised(command, found)
        if known is None or (commented and known.tool == "script"):
            continue
        own = [place] if known.secret or has_secret(command) else []
        found.jobs.append(
            FoundJob(
                tool="cron",
                name=clean(f"{path.name}:{number} {known.tool}"),
                source=clean(place),
                enabled=not commented,
                schedule=clean(match[1]),
                repositories=known.repositories,
                claims=known.claims,
                secrets=tuple(clean(one) for one in (*secrets, *own)),
            )
        )


def _recognised(command: str, found: Found) -> Recognised | None:
    """Return the backup tool that a command starts, directly or in the script that it is."""
    known = recognise(command, found.host)
    if known is not None and known.tool != "script":
        return known
    script = script_of(command)
    if script is not None and not not_a_backup(script.name):
        tool = _tool_of(script)
        if tool is not None:
            return Recognised(tool=tool)
    return known


def _tool_of(script: Path) -> str | None:
    """Return the backup tool that a script calls; a script we may not read is not looked into."""
    content = read_bytes(script, Found(host=""), limit=SCRIPT_LIMIT)
    return tools_in_script(content.decode("utf-8", "replace")) if content is not None else None


def _script(path: Path, period: str, found: Found) -> None:
    try:
        is_file = path.is_file()
    except OSError:  # in a directory that we may not search
        is_file = True
    if not is_file or not_a_backup(path.name):
        return
    known = recognise(str(path), found.host)
    tool = _tool_of(path) or (known.tool if known else None)
    if tool is None:
        return
    # run-parts passes over names with a dot and over what cannot be executed
    runs = _RUN_PARTS.fullmatch(path.name) is not None and os.access(path, os.X_OK)
    found.jobs.append(
        FoundJob(
            tool="cron",
            name=clean(f"cron.{period}/{path.name}"),
            source=clean(str(path)),
            enabled=runs,
            schedule=period,
        )
    )
