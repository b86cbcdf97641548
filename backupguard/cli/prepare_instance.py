"""`backupguard prepare-instance`: a person's word that a database server is a scratch server."""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED, UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.contracts import GivenInstance, Secret, SecretReference
    from restore_tests.instance_guard import Preparation, ScratchServer


def prepare_instance(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The server: [instances.NAME].")],
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATABASE",
            help="A database that lives there and may stay (repeat for each).",
            show_default=False,
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only drop what killed restore tests have left there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> int:
    """Mark a scratch server, so that restore tests may make databases on it.

    Refused for a server that production is known to use, that holds other databases than those named,
    or whose account may do more than make databases of its own.
    """
    from restore_tests import instance_guard

    settings = common.settings()
    given = settings.instance(name)
    if given is None:
        raise UsageError("unknown_subject", name=name)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("usage", Message(id="cli.prepare-instance.say-yes"))
    from backupguard.daemon.requests import author

    who = author()  # before becoming the owner of the state directory
    common.become_owner(settings)
    with instance_guard.opened(given, _secret) as server:
        if clean:
            return _clean(given, server, dry_run=dry_run)
        here = socket.gethostname()
        plan = instance_guard.look(given, server, beside or (), here)
        _show(given, plan)
        if dry_run:
            common.say("cli.prepare-instance.nothing-done")
            return EXIT_DONE
        if not yes and not _agreed(name):
            common.result("cli.prepare-instance.not-agreed")
            return EXIT_NOT_PROVED
        instance_guard.prepare(server, plan, f"{who} on {here}", datetime.now(UTC))
    common.result("cli.prepare-instance.done", name=name)
    if given.settings.kind in instance_guard.UNPROVEN:
        common.say("cli.prepare-instance.unproven", name=name)
    return EXIT_DONE


def _secret(reference: SecretReference) -> Secret:
    """Return the account's password; one that only the service has is typed."""
    import getpass

    from backupguard.contracts import Secret
    from backupguard.settings.secrets import place_of, read_secret

    if place_of(reference, os.environ) is not None or not sys.stdin.isatty():
        return read_secret(reference)
    question = common.words().text("cli.prepare-instance.password", name=reference.credential or "")
    return Secret("instance", getpass.getpass(question).encode())


def _show(given: GivenInstance, plan: Preparation) -> None:
    settings = given.settings
    say = common.result
    say(
        "cli.prepare-instance.server",
        name=given.name, kind=settings.kind, version=plan.identity.version,
        address=settings.host, port=settings.port_used, user=settings.user,
        identifier=plan.identity.identifier,
    )  # fmt: skip
    say("cli.prepare-instance.databases", databases=", ".join(sorted(plan.databases)) or "—")
    say("cli.prepare-instance.renewed" if plan.renewed else "cli.prepare-instance.new")
    if plan.leftovers:
        say("cli.prepare-instance.leftovers", count=len(plan.leftovers), name=given.name)


def _agreed(name: str) -> bool:
    print(common.words().text("cli.prepare-instance.ask", name=name))
    return sys.stdin.readline().strip() == name


def _clean(given: GivenInstance, server: ScratchServer, *, dry_run: bool) -> int:
    """Drop leftovers as the next restore test would: on a marked server that nobody else uses."""
    from restore_tests import instance_guard

    instance_guard.admit(given, server, (), socket.gethostname())
    if dry_run:
        standing = server.databases()
        left = tuple(name for name in server.begun() if name in standing)
        common.result("cli.prepare-instance.would-drop", count=len(left), databases=_list(left))
        return EXIT_DONE
    instance_guard.hold(given, server)
    dropped = instance_guard.drop_leftovers(server)
    common.result("cli.prepare-instance.dropped", count=len(dropped), databases=_list(dropped))
    return EXIT_DONE


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names)) or "—"
