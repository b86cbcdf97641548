"""`backupguard probe`: run probes now."""

from __future__ import annotations

from typing import Annotated

import typer

from backupguard.cli import common, isolation_matrix, tampering, weakenings
from backupguard.cli.acting import Wanted, act, exit_code, show_runs
from backupguard.errors import UsageError
from backupguard.model import SITE, repository_subject

PROBES = ("inventory", "integrity", "immutability", "offline", "isolation", "drift")
#: Only when named: it restores.
ASKED = ("self-test",)
#: Those that look at one repository a run.
_BY_REPOSITORY = frozenset({"integrity", "immutability"})


def probe(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME ...]", help=", ".join((*PROBES, *ASKED)) + "."),
    ] = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this repository (may be repeated)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Run probes now: all of them, on every repository, unless named."""
    settings = common.settings()
    for name in names or ():
        if name not in (*PROBES, *ASKED):
            raise UsageError("unknown_subject", subject=name)
    repositories = repository or list(settings.repositories)
    for identifier in repositories:
        if identifier not in settings.repositories:
            raise UsageError("unknown_subject", subject=repository_subject(identifier))
    wanted: list[Wanted] = []
    for name in names or PROBES:
        if name not in _BY_REPOSITORY:
            options = {"repositories": repository} if repository else {}
            wanted.append(Wanted(task=name, subject=SITE, options=options))
        else:
            wanted.extend(
                Wanted(task=name, subject=repository_subject(identifier))
                for identifier in repositories
            )
    ended = act(settings, wanted)
    reached = isolation_matrix.matrix(settings) if "isolation" in (names or ()) else {}
    attacked = [str(run["subject"]) for run in ended if run["task"] == "immutability"]
    attempts = tampering.tried(settings, attacked) if attacked else {}
    if as_json:
        told = [
            {
                **run,
                **(reached if run["task"] == "isolation" else {}),
                **(
                    {"immutability": attempts[run["subject"]]} if run["subject"] in attempts else {}
                ),
            }
            for run in ended
        ]
        common.print_json(told)
    else:
        show_runs(ended)
        tampering.show(attempts)
        if reached:
            isolation_matrix.show(reached)
        if "drift" in (names or ()):
            weakenings.show(settings)
    return exit_code(ended)
