"""`backupguard alerts`: the alert rules as this site wants them."""

from __future__ import annotations

from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Message

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def alerts() -> None:
    """Alert rules for Prometheus."""


@app.command()
def rules(
    runbook_base: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Links begin here; left out: http.runbook-base."),
    ] = None,
    several_sites: Annotated[
        bool, typer.Option("--ght", help="The rules of a Prometheus that sees several sites.")
    ] = False,
) -> int:
    """Print the rules: links to the runbooks at URL/ALERT, sentences of --language first."""
    from backupguard.alerts import FILE, GHT_FILE, fitted, is_base

    base = common.settings().http.runbook_base if runbook_base is None else runbook_base
    if base is not None and not is_base(base):
        raise UsageError("usage", Message(id="alerts.bad-base", values={"found": base}))
    print(fitted(base, common.language(), GHT_FILE if several_sites else FILE), end="")
    return EXIT_DONE
