"""`backupguard waive`: exceptions that people accept, who answers for them, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from backupguard.cli import common, statements
from backupguard.cli.default_command import DEFAULT, group
from backupguard.errors import EXIT_DONE
from backupguard.evidence.statements import said_by
from backupguard.model import application_subject, repository_subject

app = group("CONTROL SUBJECT")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Seq = Annotated[int, typer.Argument(metavar="SEQ", help="The number of the exception.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")]


@app.command(DEFAULT, hidden=True)
def make(
    control: Annotated[str, typer.Argument(metavar="CONTROL", help="For example RST-01.")],
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="For example application/dpi.")],
    reason: _Reason,
    owner: Annotated[str, typer.Option(metavar="WHO", help="Who answers for it.")],
    until: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day on which it holds.")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="30d", help="For how long, from today.")
    ] = None,
    as_json: _Json = False,
) -> int:
    """Ask for an exception from one control on one subject; what is vital needs a second person."""
    from backupguard.daemon import client

    settings = common.settings()
    name = control.upper().removeprefix("D4-")
    about = subject
    if subject in settings.applications:
        about = application_subject(subject)
    elif subject in settings.repositories:
        about = repository_subject(subject)
    day = statements.last_day(settings, until, lasting)
    body = {
        "control": name,
        "subject": about,
        "reason": reason,
        "owner": owner,
        "until": day.isoformat(),
    }
    seq, waits = statements.do(
        settings,
        lambda: client.waive(settings, body),
        lambda taken, uid: taken.waive(
            control=name,
            subject=about,
            reason=reason,
            owner=owner,
            until=day,
            uid=uid,
            now=datetime.now(UTC),
        ),
    )
    if as_json:
        common.print_json({"seq": seq, "needs_confirmation": waits})
    elif waits:
        common.result("waive.waits", seq=seq)
    else:
        common.say("waive.made", seq=seq, until=common.words().day(day))
    return EXIT_DONE


@app.command("list")
def list_(as_json: _Json = False) -> int:
    """List every exception: what it covers, who asked, who confirmed, until when, how it stands."""
    from backupguard.daemon import client

    settings = common.settings()
    rows = statements.do(
        settings,
        lambda: client.waivers(settings),
        lambda taken, _: taken.waivers(datetime.now(UTC)),
        changes=False,
    )
    if as_json:
        common.print_json(rows)
        return EXIT_DONE
    words = common.words()
    if not rows:
        common.result("waive.none")
        return EXIT_DONE
    columns = ("seq", "control", "subject", "reason", "owner", "who", "second", "until", "state")
    common.print_table(
        [words.text(f"statements.column.{name}") for name in columns],
        [
            (
                str(row["seq"]),
                str(row["control"]),
                str(row["subject"]),
                str(row["reason"]),
                str(row["owner"]),
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
    """Confirm an exception as the second person: another account, with the role rssi."""
    from backupguard.daemon import client

    settings = common.settings()
    statements.do(
        settings,
        lambda: client.confirm(settings, seq),
        lambda taken, uid: taken.confirm(seq, uid=uid, now=datetime.now(UTC)),
    )
    common.say("waive.confirmed", seq=seq)
    return EXIT_DONE


@app.command()
def end(seq: _Seq, reason: _Reason) -> int:
    """End an exception before its day."""
    from backupguard.daemon import client

    settings = common.settings()
    statements.do(
        settings,
        lambda: client.end_waiver(settings, seq, reason),
        lambda taken, uid: taken.end(seq, reason, uid=uid, now=datetime.now(UTC)),
    )
    common.say("waive.ended", seq=seq)
    return EXIT_DONE
