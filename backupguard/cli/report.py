"""`backupguard report`: write the monthly report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.cli.acting import Wanted, act, exit_code, show_runs
from backupguard.cli.report_signed import file_signed
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import SITE, Message

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("file-signed")(file_signed)


@app.callback()
def report(
    context: typer.Context,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Which month; the last one by default.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="html, pdf or json (may be repeated).")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="fr or en (may be repeated).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; the state by default.")
    ] = None,
) -> int:
    """Write the report of a month and print where it is."""
    if context.invoked_subcommand is not None:
        return EXIT_DONE
    from backupguard import reports
    from backupguard.reports.history import month_of, span_of
    from backupguard.reports.issue import check_offered, file_name

    settings = common.settings()
    zone = settings.site.timezone
    # Everything is checked before a run is asked for: what is refused leaves no failed run.
    chosen = month or _month_before(month_of(datetime.now(UTC), zone))
    span = span_of(chosen, zone)
    if span.start > datetime.now(UTC):
        raise UsageError("usage", Message(id="report.future", values={"month": chosen}))
    wanted_formats = tuple(formats or ["html"])
    wanted_languages = tuple(languages or [common.options().language or settings.site.language])
    check_offered(wanted_languages, wanted_formats)
    directory = (output or reports.directory_of(settings)).expanduser().absolute()
    options = {
        "month": chosen,
        "formats": list(wanted_formats),
        "languages": list(wanted_languages),
        "output": str(directory),
    }
    ended = act(settings, [Wanted(task="report", subject=SITE, options=options)])
    code = exit_code(ended)
    if code:
        show_runs(ended)
        return code
    for language in wanted_languages:
        for report_format in wanted_formats:
            print(directory / file_name(chosen, report_format, language))
    return code


def _month_before(month: str) -> str:
    year, number = (int(part) for part in month.split("-"))
    return f"{year - 1}-12" if number == 1 else f"{year}-{number - 1:02d}"
