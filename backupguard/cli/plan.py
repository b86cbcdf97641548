"""`backupguard plan`: the order of a recovery, its forecast, and the production runbook."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.cli.acting import Wanted, act, exit_code, show_runs
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import SITE


def plan(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write it there, in French and English, and record it."),
    ] = None,
    application: Annotated[
        str | None, typer.Option(metavar="ID", help="Print the pages of this application only.")
    ] = None,
) -> int:
    """Print what comes back when if everything has to be restored, and the commands that do it."""
    from backupguard.reports.plan import as_json as json_of
    from backupguard.reports.plan import recovery_plan
    from backupguard.reports.plan_issue import file_name
    from backupguard.reports.runbook import runbook

    settings = common.settings()
    if application is not None and application not in settings.applications:
        raise UsageError("unknown_subject", subject=application)
    if output is not None:
        directory = output.expanduser().absolute()
        ended = act(
            settings, [Wanted(task="plan", subject=SITE, options={"output": str(directory)})]
        )
        code = exit_code(ended)
        if code:
            show_runs(ended)
            return code
        for language in common.Language:
            print(directory / file_name(language.value))
        return code
    store = common.store(settings)
    try:
        found = recovery_plan(store, settings, datetime.now(UTC))
    finally:
        store.close()
    if as_json:
        told = json_of(found)
        if application is not None:
            told["applications"] = [a for a in told["applications"] if a["id"] == application]
        common.print_json(told)
    else:
        print(runbook(found, common.words(), application), end="")
    return EXIT_DONE
