"""`backupguard engines`: database engines unpacked beside the system, for servers without Internet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import BackupGuardError, ConfigurationError
from backupguard.model import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backupguard.engines import Found
    from backupguard.model import Json
    from backupguard.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("add")
def add_(
    file: Annotated[
        Path, typer.Argument(help="An engine archive, SHA256SUMS and SHA256SUMS.sig beside it.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="The public key the list is signed with (default: /etc/backupguard/engines.pub).",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in place of the one that is there.")
    ] = False,
) -> None:
    """Verify an engine archive and unpack it below /opt/backupguard/engines, as root.

    Nothing is installed and no service is started. Restore tests use it from the next one on.
    """
    from backupguard import engines

    added, new = engines.add(
        file, engines.public_key(key or engines.KEY), engines.ENGINES, replace=replace
    )
    common.say(
        "engines.added" if new else "engines.there",
        engine=added.engine,
        version=added.version,
        release=added.release,
        total_bytes=added.bytes,
    )


@app.command("remove")
def remove_(
    engine: Annotated[str, typer.Argument(help="Its name, as `engines list` shows it.")],
    version: Annotated[str, typer.Argument(help="The name of its directory.")],
) -> None:
    """Take an added engine away, as root. Restore tests that are using it could not be verified."""
    from backupguard import engines

    engines.remove(engine, version, engines.ENGINES)
    common.say("engines.removed", engine=engine, version=version)


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Show JSON.")] = False,
) -> None:
    """Show the engines of this host, its own and the added ones, and who would use them."""
    from backupguard import engines

    settings = _settings()
    _become_owner(settings)
    found = engines.found(engines.ENGINES)
    if as_json:
        common.print_json({"engines": [_json(one, settings) for one in found]})
        return
    words = common.words()
    columns = ("engine", "version", "from", "state", "used-by")
    common.print_table(
        [words.text(f"engines.column.{name}") for name in columns],
        [
            (
                one.engine,
                one.version,
                words.text(f"engines.from.{one.origin}", release=one.release or "?"),
                _state(one),
                _users(one, settings),
            )
            for one in found
        ],
    )
    if not found:
        common.say("engines.none")


def _settings() -> Settings | None:
    """Return the settings; None where there are none yet, for engines come before them."""
    try:
        return common.settings()
    except ConfigurationError:
        return None


def _become_owner(settings: Settings | None) -> None:
    """Started as root, start no engine as root; before anything is configured it stays root's jail."""
    if os.geteuid() != 0:
        return
    from backupguard.processes import become_owner
    from backupguard.settings.model import STATE_DIRECTORY

    directory = settings.state_directory if settings is not None else STATE_DIRECTORY
    try:
        become_owner(directory)
    except BackupGuardError:
        return


def _state(one: Found) -> str:
    words = common.words()
    if one.problem is not None:
        return words.say(one.problem)
    return words.text("engines.state.hidden" if one.hidden else "engines.state.usable")


def _applications(one: Found, settings: Settings | None) -> tuple[Sequence[str], Sequence[str]]:
    """Return the applications whose restore test names this engine, and those that name none."""
    tests: Mapping[str, str | None] = {
        name: getattr(application.restore_test, "engine", None)
        for name, application in (settings.applications if settings is not None else {}).items()
        if application.restore_test is not None
    }
    if not one.usable or one.hidden or not one.restore_tests:
        return (), ()
    named = sorted(name for name, engine in tests.items() if engine in one.restore_tests)
    return named, sorted(name for name, engine in tests.items() if engine is None)


def _users(one: Found, settings: Settings | None) -> str:
    words = common.words()
    if not one.restore_tests:
        return words.text("engines.used.repositories") if one.usable and not one.hidden else ""
    if not one.usable or one.hidden:
        return ""
    named, perhaps = _applications(one, settings)
    applications = ", ".join([*named, *(f"{name}?" for name in perhaps)])
    tests = ", ".join(one.restore_tests)
    return f"{tests}: {applications}" if applications else tests


def _json(one: Found, settings: Settings | None) -> Json:
    problem: Message | None = one.problem
    named, perhaps = _applications(one, settings)
    return {
        "engine": one.engine,
        "version": one.version,
        "origin": one.origin,
        "release": one.release,
        "path": str(one.place),
        "usable": one.usable,
        "problem": common.words().say(problem) if problem is not None else None,
        "used": one.usable and not one.hidden,
        "restore_tests": list(one.restore_tests),
        "applications": list(named),
        "applications_if_recognised": list(perhaps),
    }
