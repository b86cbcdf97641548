"""`backupguard override`: thresholds that people change for a time, why, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from backupguard.cli import common, statements
from backupguard.cli.default_command import DEFAULT, group
from backupguard.errors import EXIT_DONE
from backupguard.evidence.statements import said_by
from backupguard.model import SITE, application_subject, repository_subject

app = group("CONTROL THRESHOLD VALUE")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Seq = Annotated[int, typer.Argument(metavar="SEQ", help="The number of the override.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")]


@app.command(DEFAULT, hidden=True)
def make(
    control: Annotated[str, typer.Argument(metavar="CONTROL", help="For example RST-01.")],
    threshold: Annotated[str, typer.Argument(metavar="THRESHOLD", help="For example period.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="45d, 90 or 90%.")],
    reason: _Reason,
    subject: Annotated[
        str | None,
        typer.Option(metavar="SUBJECT", help="For one subject only; left out: the whole site."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day on which it holds.")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="30d", help="For how long, from today.")
    ] = None,
    as_json: _Json = False,
) -> int:
    """Ask for another threshold; one that demands less needs a second person."""
    from backupguard.daemon import client, overrides

    settings = common.settings()
    name = control.upper().removeprefix("D4-")
    about = subject or SITE
    if about in settings.applications:
        about = application_subject(about)
    elif about in settings.repositories:
        about = repository_subject(about)
    day = statements.last_day(settings, until, lasting)
    said = {
        "control": name,
        "threshold": threshold,
        "value": value,
        "subject": about,
        "reason": reason,
    }
    seq, waits = statements.do(
        settings,
        lambda: client.override(settings, {**said, "until": day.isoformat()}),
        lambda taken, uid: overrides.override(
            taken, **said, until=day, uid=uid, now=datetime.now(UTC)
        ),
    )
    if as_json:
        common.print_json({"seq": seq, "needs_confirmation": waits})
    elif waits:
        common.result("override.waits", seq=seq)
    else:
        common.say("override.made", seq=seq, until=common.words().day(day))
    return EXIT_DONE


@app.command("list")
def list_(as_json: _Json = False) -> int:
    """List every override: of what, who asked, who confirmed, until when, how it stands."""
    from backupguard.daemon import client, overrides

    settings = common.settings()
    rows = statements.do(
        settings,
        lambda: client.overrides(settings),
        lambda taken, _: overrides.every(taken, datetime.now(UTC)),
        changes=False,
    )
    if as_json:
        common.print_json(rows)
        return EXIT_DONE
    words = common.words()
    if not rows:
        common.result("override.none")
        return EXIT_DONE
    columns = (
        *("seq", "control", "threshold", "value", "subject", "reason", "who", "second"),
        *("until", "state"),
    )
    common.print_table(
        [words.text(f"statements.column.{name}") for name in columns],
        [
            (
                str(row["seq"]),
                str(row["control"]),
                str(row["threshold"]),
                str(row["given"]),
                str(row["subject"]),
                str(row["reason"]),
                said_by(row["person"], row["author"]),
                said_by(row["confirmed_by"], row["confirmed_author"]),
                statements.until(words, row["until_at"]),
                words.text(f"waiver.state.{row['state']}"),
            )
            for row in rows
        ],
    )
    return EXIT_DONE


@app.command()
def confirm(seq: _Seq) -> int:
    """Confirm an override as the second person: another account, with the role rssi."""
    from backupguard.daemon import client, overrides

    settings = common.settings()
    statements.do(
        settings,
        lambda: client.confirm_override(settings, seq),
        lambda taken, uid: overrides.confirm(taken, seq, uid=uid, now=datetime.now(UTC)),
    )
    common.say("override.confirmed", seq=seq)
    return EXIT_DONE


@app.command()
def end(seq: _Seq, reason: _Reason) -> int:
    """End an override before its day."""
    from backupguard.daemon import client, overrides

    settings = common.settings()
    statements.do(
        settings,
        lambda: client.end_override(settings, seq, reason),
        lambda taken, uid: overrides.end(taken, seq, reason, uid=uid, now=datetime.now(UTC)),
    )
    common.say("override.ended", seq=seq)
    return EXIT_DONE
