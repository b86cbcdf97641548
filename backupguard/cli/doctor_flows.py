"""`backupguard doctor flows`: the matrix of network flows that this configuration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.cli.flows import Flow, flows
from backupguard.errors import EXIT_DONE, UsageError

_COLUMNS = ("source", "destination", "port", "protocol", "allowed", "why", "feature")
_ROOT = Path("/")


def show_flows(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table in Markdown, for a file.")
    ] = False,
) -> int:
    """Show which network flows this configuration needs, and which must stay closed."""
    if as_json and markdown:
        raise UsageError("usage")
    found = flows(common.settings(), _ROOT)
    words = common.words()
    if as_json:
        common.print_json(
            {
                "flows": [
                    {
                        "source": flow.source.lstrip("@"),
                        "destination": flow.destination.lstrip("@"),
                        "port": flow.port,
                        "protocol": flow.protocol,
                        "allowed": not flow.closed,
                        "why": words.text(f"cli.flows.why.{flow.why}"),
                        "feature": flow.feature or None,
                    }
                    for flow in found
                ]
            }
        )
        return EXIT_DONE
    columns = [words.text(f"cli.flows.column.{name}") for name in _COLUMNS]
    rows = [_row(flow) for flow in found]
    if not markdown:
        common.print_table(columns, rows)
        return EXIT_DONE
    for line in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(_cell(text) for text in line) + " |")
    return EXIT_DONE


def _row(flow: Flow) -> list[str]:
    words = common.words()
    return [
        _named(flow.source),
        _named(flow.destination),
        flow.port,
        flow.protocol,
        words.text("cli.flows.closed" if flow.closed else "cli.flows.open"),
        words.text(f"cli.flows.why.{flow.why}"),
        flow.feature or "—",
    ]


def _named(place: str) -> str:
    if not place.startswith("@"):
        return place
    return common.words().text(f"cli.flows.place.{place[1:]}")


def _cell(text: str) -> str:
    return common.printable(text).replace("|", "\\|")
