"""Backup jobs run by systemd timers.

Source: systemctl(1) (`list-unit-files`, `list-timers`, `show`, `--output=json`), systemd.timer(5).
`ExecStart` may hold a password: it is looked at and dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backupguard.contracts import Command, Context
from backupguard.errors import MissingMeans, TimedOut
from probes.discovery_commands import (
    SCRIPT_LIMIT,
    not_a_backup,
    recognise,
    script_of,
    tools_in_script,
)
from probes.discovery_files import read_bytes
from probes.discovery_found import Found, FoundJob, clean

_ARGV = re.compile(r"argv\[\]=(.*?)(?: ;|$)")
_SOCKETS = (Path("/run/systemd"), Path("/run/dbus"))
_BATCH = 200
_TIMERS = ("TimersCalendar", "TimersMonotonic")
_ELAPSES = re.compile(r"\{ (On\w+?)(?:U?Sec)?=(.*?) ;")


class _Refused(Exception):
    """systemctl did not answer as it should; the code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def look(systemd: Path, found: Found, context: Context) -> None:
    """Add the timers that start a backup tool; nothing where systemd does not run this host."""
    if not (systemd / "system").is_dir():  # sd_booted(3)
        return
    try:
        files = {
            str(one["unit_file"]): str(one["state"])
            for one in _json(context, "list-unit-files", "--type=timer", "--all")
        }
        timers = {str(one["unit"]): one for one in _json(context, "list-timers", "--all")}
        # a template is no unit: only its instances can be shown
        names = sorted(name for name in {*files, *timers} if "@." not in name)
        units = {name: timers.get(name, {}).get("activates") or _service(name) for name in names}
        shown = dict(_show(context, sorted({*names, *units.values()})))
    except (_Refused, KeyError, TypeError, AttributeError) as error:
        code = error.code if isinstance(error, _Refused) else "unparsable"
        found.lack("systemd", code, "systemctl", "jobs")
        return
    for name, service in units.items():
        if not_a_backup(name):
            continue
        properties = shown.get(str(service), {})
        tool = _tool(properties.get("ExecStart", ""), found)
        if tool is None:
            continue
        last = timers.get(name, {}).get("last")
        last = last if isinstance(last, int) and 0 < last < 2**53 else None
        state = files.get(name) or shown.get(name, {}).get("UnitFileState", "")
        active = shown.get(name, {}).get("ActiveState") == "active"
        found.jobs.append(
            FoundJob(
                tool="systemd",
                name=clean(name),
                source=clean(shown.get(name, {}).get("FragmentPath") or name),
                enabled=active or state in {"enabled", "enabled-runtime", "static", "generated"},
                last_run_at=last,
                never_ran=last is None,
                schedule=clean(_schedule(shown.get(name, {}))),
            )
        )


def _schedule(timer: Mapping[str, str]) -> str:
    """Return when a timer elapses: "OnCalendar=*-*-* 02:00:00", several after semicolons."""
    told = " ".join(timer.get(key, "") for key in _TIMERS)
    return "; ".join(f"{match[1]}={match[2]}" for match in _ELAPSES.finditer(told))


def _service(timer: str) -> str:
    return timer.removesuffix(".timer") + ".service"


def _tool(exec_start: str, found: Found) -> str | None:
    for match in _ARGV.finditer(exec_start):
        known = recognise(match[1], found.host)
        script = script_of(match[1])
        if (known is None or known.tool == "script") and script is not None:
            if not_a_backup(script.name):
                continue
            content = read_bytes(script, Found(host=""), limit=SCRIPT_LIMIT)
            inside = tools_in_script(content.decode("utf-8", "replace")) if content else None
            if inside:
                return inside
        if known is not None:
            return known.tool
    return None


def _json(context: Context, *arguments: str) -> list[Mapping[str, Any]]:
    output = _systemctl(context, *arguments, "--output=json")
    start = output.find(b"[")
    try:
        found = json.loads(output[start:]) if start >= 0 else None
    except ValueError as error:
        raise _Refused("unparsable") from error
    if not isinstance(found, list):
        raise _Refused("unparsable")
    return found


def _show(context: Context, names: list[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each unit's properties; `show` separates units by an empty line."""
    properties = ("Id", "ExecStart", "UnitFileState", "ActiveState", "FragmentPath", *_TIMERS)
    wanted = f"--property={','.join(properties)}"
    for start in range(0, len(names), _BATCH):
        batch = [name for name in names[start : start + _BATCH] if not name.startswith("-")]
        output = _systemctl(context, "show", wanted, "--", *batch)
        for block in output.decode("utf-8", "replace").split("\n\n"):
            told: dict[str, str] = {}
            for key, _, value in (line.partition("=") for line in block.splitlines()):
                several = key in _TIMERS and key in told  # one line for each time of a timer
                told[key] = f"{told[key]} {value}" if several else value
            if "Id" in told:
                yield told["Id"], told


def _systemctl(context: Context, *arguments: str) -> bytes:
    """Ask systemctl; it needs the manager's sockets, and neither pager nor colours."""
    try:
        completed = context.tools.run(
            Command(
                argv=("systemctl", "--no-pager", "--full", "--no-legend", *arguments),
                read=_SOCKETS,
                environment={"SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
                timeout_s=60,
            )
        )
    except MissingMeans as error:
        raise _Refused("program_missing") from error
    except TimedOut as error:
        raise _Refused("timeout") from error
    if completed.returncode != 0 or completed.truncated:
        raise _Refused("unreachable")
    return completed.stdout
