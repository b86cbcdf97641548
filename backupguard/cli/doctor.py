"""`backupguard doctor`: what works on this host, and what to do about the rest."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.cli.doctor_channels import channels
from backupguard.cli.doctor_flows import show_flows
from backupguard.cli.doctor_helper import helper
from backupguard.cli.doctor_host import host
from backupguard.cli.doctor_instances import instances
from backupguard.cli.doctor_needs import Result, missing, program, tools
from backupguard.cli.doctor_needs import repositories as repositories_found
from backupguard.cli.doctor_repositories import repositories
from backupguard.cli.doctor_rights import rights
from backupguard.cli.doctor_web import certificate
from backupguard.errors import (
    EXIT_DONE,
    EXIT_NOT_PROVED,
    BackupGuardError,
    ConfigurationError,
    ConfigurationProblem,
    MissingMeans,
)
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.settings import Settings

_NAMESPACES = (
    # file, the value that forbids what the sandbox needs
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    ("/proc/sys/user/max_user_namespaces", "0"),
)
_ENGINES = (Path("/usr/lib/postgresql"), Path("/opt/backupguard/engines/postgresql"))
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 256  # more than struct timex has on any Linux


app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(repositories)
app.command()(instances)
app.command("flows")(show_flows)


@app.callback()
def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Show JSON.")] = False,
) -> int:
    """Tell what works on this host, and what to do; exit 0 when everything needed does."""
    if context.invoked_subcommand is not None:
        return EXIT_DONE
    results = list(_looked_at())
    words = common.words()
    todo = sum(1 for result in results if not result.well)
    if as_json:
        common.print_json(
            {
                "well": not todo,
                "checks": [
                    {
                        **asdict(result),
                        "remedy": words.say(result.remedy) if result.remedy else None,
                    }
                    for result in results
                ],
            }
        )
    else:
        columns = [words.text(f"cli.doctor.column.{name}") for name in ("check", "found", "do")]
        common.print_table(
            [columns[0], "", *columns[1:]],
            [
                (
                    _name(result.check),
                    words.text(f"cli.doctor.{result.state}"),
                    result.found,
                    words.say(result.remedy) if result.remedy else "",
                )
                for result in results
            ],
        )
        common.result("cli.doctor.not-well" if todo else "cli.doctor.all-well", count=todo)
    return EXIT_NOT_PROVED if todo else EXIT_DONE


def _name(check: str) -> str:
    text = common.words().text(f"cli.doctor.check.{check}")
    return check if text.startswith("cli.") else text


def _looked_at() -> Iterator[Result]:
    settings, first = _configuration()
    if settings is not None:
        try:
            common.become_owner(settings)
        except BackupGuardError as error:
            yield Result(check="state", state="bad", found=error.code, remedy=error.remedy)
    yield Result(check="python", state="ok", found=platform.python_version())
    yield from first
    yield from _programs(settings)
    yield _namespaces()
    yield _sandbox()
    yield _clock()
    if settings is not None:
        yield _state(settings)
        yield _disk(settings)
        yield from host(settings)
        yield from rights(settings)
        yield from certificate(settings)
        yield from channels(settings)
        yield from helper(settings)
        yield from repositories_found(settings)


def _configuration() -> tuple[Settings | None, list[Result]]:
    try:
        settings = common.settings()
    except ConfigurationError as error:
        return None, [_wrong(problem) for problem in error.problems]
    return settings, [Result(check="configuration", state="ok", found=str(settings.files[0]))]


def _wrong(problem: ConfigurationProblem) -> Result:
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    told = common.words().say(problem.message)
    return Result(
        check="configuration",
        state="bad",
        found=f"{place}: {problem.key}: {told}" if problem.key else f"{place}: {told}",
        remedy=problem.remedy or Message(id="cli.doctor.do.config"),
    )


# ---------------------------------------------------------------------------------------- programs


def _programs(settings: Settings | None) -> Iterator[Result]:
    yield program("bwrap")
    yield from tools(settings)
    servers = sorted(
        {
            place.parent.parent.name
            for engines in _ENGINES
            for place in engines.glob("*/bin/postgres")
        },
        key=lambda name: (len(name), name),
    )
    if servers:
        yield Result(check="postgresql", state="ok", found=", ".join(servers))
    else:
        yield missing("postgresql", "postgresql")


# -------------------------------------------------------------------------------------------- host


def _namespaces() -> Result:
    for name, forbidding in _NAMESPACES:
        try:
            value = Path(name).read_text(encoding="ascii").strip()
        except OSError:  # a kernel without this switch does not forbid by it
            continue
        if value == forbidding:
            return Result(
                check="user-namespaces",
                state="bad",
                found=f"{name} = {value}",
                remedy=Message(id="cli.doctor.do.namespaces"),
            )
    return Result(check="user-namespaces", state="ok")


def _sandbox() -> Result:
    from backupguard import sandbox

    try:
        sandbox.check()
    except MissingMeans as error:
        remedy = error.remedy or Message(id="cli.doctor.do.sandbox")
        return Result(check="sandbox", state="bad", found=error.code, remedy=remedy)
    except BackupGuardError as error:
        return Result(check="sandbox", state="bad", found=error.code, remedy=error.remedy)
    return Result(check="sandbox", state="ok")


def _clock() -> Result:
    """Ask the kernel whether somebody keeps its clock; a wrong clock makes every age wrong."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        return Result(check="clock", state="note", remedy=Message(id="cli.doctor.do.clock"))
    return Result(check="clock", state="ok" if state >= 0 else "note")


def _state(settings: Settings) -> Result:
    path = settings.state_directory
    remedy = Message(id="cli.doctor.do.state", values={"path": str(path)})
    try:
        status = path.stat()
    except FileNotFoundError:
        creatable = os.access(_existing(path), os.W_OK | os.X_OK)
        state = "note" if creatable else "missing"
        return Result(
            check="state", state=state, found=str(path), remedy=None if creatable else remedy
        )
    except OSError:
        return Result(check="state", state="bad", found=str(path), remedy=remedy)
    private = not status.st_mode & 0o077 and stat.S_ISDIR(status.st_mode)
    if private and os.access(path, os.W_OK | os.X_OK):
        return Result(check="state", state="ok", found=str(path))
    found = f"{path} {stat.filemode(status.st_mode)} uid {status.st_uid}"
    return Result(check="state", state="bad", found=found, remedy=remedy)


def _existing(path: Path) -> Path:
    # access(2) never raises: what this user may not look at is not there for it.
    return next(place for place in (path, *path.parents) if os.access(place, os.F_OK))


def _disk(settings: Settings) -> Result:
    place = _existing(settings.runs_directory)
    usage = shutil.disk_usage(place)
    reserve = max(settings.scratch.reserve, usage.total * settings.scratch.reserve_percent // 100)
    words = common.words()
    found = f"{words.size(usage.free)} / {words.size(usage.total)} ({place})"
    if usage.free <= reserve:
        remedy = Message(id="cli.doctor.do.disk")
        return Result(check="disk", state="bad", found=found, remedy=remedy)
    return Result(check="disk", state="ok", found=found)
