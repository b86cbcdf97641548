"""`backupguard attest`: what people state, signed or not, until when it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common, statements
from backupguard.cli.default_command import DEFAULT, group
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.evidence.statements import said_by
from backupguard.model import SITE, Json, Message, repository_subject

if TYPE_CHECKING:
    from backupguard.daemon.statements import Statements
    from backupguard.evidence.statements import Statement

app = group("TOPIC [SUBJECT]")

_Topic = Annotated[
    str,
    typer.Argument(
        metavar="TOPIC",
        help="escrow, isolation, failure-domain, attacker (of a repository); mfa, admins, secrets,"
        " change (of the site).",
    ),
]
_Subject = Annotated[
    str | None, typer.Argument(metavar="SUBJECT", help="A repository; the site when left out.")
]
_Name = Annotated[
    str | None,
    typer.Option(metavar="N", help="What it is about: a console, an attacker, a record."),
]
_Text = Annotated[str, typer.Option(metavar="TEXT", help="What is stated, in one line.")]
_Until = Annotated[
    str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day on which it holds.")
]
_For = Annotated[
    str | None, typer.Option("--for", metavar="180d", help="For how long it holds, from today.")
]
_Values = Annotated[
    list[str] | None, typer.Option("--value", metavar="K=V", help="A detail; may be repeated.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Seq = Annotated[int, typer.Argument(metavar="SEQ", help="The number of the statement.")]
_MOST = 16 * 1024


def _statement(
    topic: str,
    subject: str | None,
    name: str | None,
    text: str,
    until: str | None,
    lasting: str | None,
    given: list[str] | None,
) -> Statement:
    from backupguard.evidence.statements import Statement

    settings = common.settings()
    values: dict[str, int | str] = {}
    for one in given or ():
        key, equals, value = one.partition("=")
        if not equals or not key or key == "name":
            raise UsageError("usage", Message(id="statements.no-value", values={"given": one[:80]}))
        values[key] = int(value) if value.isdecimal() and len(value) <= 15 else value
    if name is not None:
        values["name"] = int(name) if topic == "change" and name.isdecimal() else name
    about = SITE if subject is None else subject
    if about in settings.repositories:
        about = repository_subject(about)
    return Statement(
        topic=topic,
        subject=about,
        text=text,
        until=statements.last_day(settings, until, lasting),
        values=values,
    )


def _body(statement: Statement) -> dict[str, Json]:
    return {
        "topic": statement.topic,
        "subject": statement.subject,
        "text": statement.text,
        "until": statement.until.isoformat(),
        "values": dict(statement.values),
    }


def _signature(path: Path) -> str:
    from backupguard.errors import AccessRefused, Unreachable

    try:
        content = path.read_bytes()[: _MOST + 1]
        if len(content) <= _MOST:
            return content.decode("ascii")
    except FileNotFoundError as error:
        raise Unreachable("not_found", path=str(path)) from error
    except OSError as error:
        raise AccessRefused("permission", path=str(path)) from error
    except UnicodeDecodeError:
        pass
    raise UsageError("usage", Message(id="statements.no-signature", values={"path": str(path)}))


@app.command(DEFAULT, hidden=True)
def make(
    topic: _Topic,
    text: _Text,
    subject: _Subject = None,
    name: _Name = None,
    until: _Until = None,
    lasting: _For = None,
    value: _Values = None,
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its signature (ssh-keygen -Y sign -n backupguard)."),
    ] = None,
    as_json: _Json = False,
) -> int:
    """State something about the site or a repository, until a day."""
    from backupguard.daemon import client

    settings = common.settings()
    stated = _statement(topic, subject, name, text, until, lasting, value)
    armored = _signature(signature) if signature is not None else None

    def in_process(taken: Statements, uid: int) -> int:
        from backupguard.processes import Cancellation, Jail

        tools = Jail(settings.state_directory, Cancellation())
        return taken.attest(stated, armored, uid=uid, now=datetime.now(UTC), tools=tools)

    body = {**_body(stated), "signature": armored}
    seq = statements.do(settings, lambda: client.attest(settings, body), in_process)
    if as_json:
        common.print_json({"seq": seq, "authenticated": armored is not None})
        return EXIT_DONE
    common.say("attest.made", seq=seq, until=common.words().day(stated.until))
    if armored is None:
        common.result("attest.unsigned")
    return EXIT_DONE


@app.command("restore-test")
def restore_test(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What was done (TOML or JSON).")],
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its signature (ssh-keygen -Y sign -n backupguard)."),
    ] = None,
    statement: Annotated[
        bool, typer.Option("--statement", help="Record nothing: print the exact text to sign.")
    ] = False,
    as_json: _Json = False,
) -> int:
    """Tell of a restore test that was done by hand, or by something without a record."""
    from backupguard.cli import declared_test

    armored = _signature(signature) if signature is not None else None
    return declared_test.attested(file, armored, show_text=statement, as_json=as_json)


@app.command()
def statement(
    topic: _Topic,
    text: _Text,
    subject: _Subject = None,
    name: _Name = None,
    until: _Until = None,
    lasting: _For = None,
    value: _Values = None,
) -> int:
    """Print the exact text to sign: ssh-keygen -Y sign -n backupguard -f KEY FILE."""
    from backupguard.daemon import client

    settings = common.settings()
    stated = _statement(topic, subject, name, text, until, lasting, value)
    spoken = statements.do(
        settings,
        lambda: client.statement(settings, _body(stated)),
        lambda taken, uid: taken.text(stated, uid=uid, now=datetime.now(UTC)),
        changes=False,
    )
    print(spoken, end="")
    return EXIT_DONE


def _rows() -> list[dict[str, Json]]:
    from backupguard.daemon import client

    settings = common.settings()
    return statements.do(
        settings,
        lambda: client.attestations(settings),
        lambda taken, _: taken.attestations(datetime.now(UTC)),
        changes=False,
    )


@app.command("list")
def list_(as_json: _Json = False) -> int:
    """List every statement, with who made it, whether it is signed, and until when it holds."""
    rows = _rows()
    if as_json:
        common.print_json(rows)
        return EXIT_DONE
    words = common.words()
    if not rows:
        common.result("attest.none")
        return EXIT_DONE
    columns = ("seq", "topic", "subject", "who", "made", "until", "state", "origin")
    common.print_table(
        [words.text(f"statements.column.{name}") for name in columns],
        [
            (
                str(row["seq"]),
                topic_of(row),
                str(row["subject"]),
                said_by(row["person"], row["author"]),
                statements.when(words, row["made_at"]),
                statements.until(words, row["expires_at"]),
                words.text(f"attestation.state.{row['state']}"),
                statements.authenticated(words, row["key"]),
            )
            for row in rows
        ],
    )
    return EXIT_DONE


def topic_of(row: Json) -> str:
    """Return a statement's topic with what it names: "mfa/veeam"."""
    name = row["values"].get("name")
    return str(row["topic"]) if name is None else f"{row['topic']}/{name}"


@app.command()
def show(seq: _Seq, as_json: _Json = False) -> int:
    """Show one statement: its text and details, and what became of it."""
    row = next((row for row in _rows() if row["seq"] == seq), None)
    if row is None:
        message = Message(id="statements.no-attestation", values={"seq": seq})
        raise UsageError("unknown_subject", message)
    if as_json:
        common.print_json(row)
        return EXIT_DONE
    words = common.words()
    told = [
        ("topic", topic_of(row)),
        ("subject", str(row["subject"])),
        ("text", str(row["text"])),
        *((f"{name}", str(value)) for name, value in sorted(row["values"].items())),
        ("who", said_by(row["person"], row["author"])),
        ("made", statements.when(words, row["made_at"])),
        ("until", statements.until(words, row["expires_at"])),
        ("state", words.text(f"attestation.state.{row['state']}")),
        ("origin", statements.authenticated(words, row["key"])),
    ]
    if row["withdrawn_by"] is not None:
        gone = f"{row['withdrawn_by']} — {row['withdrawn_for']}"
        told.append(("withdrawn", gone))
    known = {"topic", "subject", "text", "who", "made", "until", "state", "origin", "withdrawn"}
    labels = [words.text(f"statements.column.{n}") if n in known else n for n, _ in told]
    width = max(map(len, labels))
    for label, (_, text) in zip(labels, told, strict=True):
        print(common.printable(f"{label.ljust(width)}  {text}"))
    return EXIT_DONE


@app.command()
def withdraw(
    seq: _Seq,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")],
) -> int:
    """Take a statement back: it does not hold any more, and no older one does instead."""
    from backupguard.daemon import client

    settings = common.settings()
    statements.do(
        settings,
        lambda: client.withdraw(settings, seq, reason),
        lambda taken, uid: taken.withdraw(seq, reason, uid=uid, now=datetime.now(UTC)),
    )
    common.say("attest.withdrawn", seq=seq)
    return EXIT_DONE
