"""`backupguard media`: the register of offline media; who took which one where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from backupguard.cli import common, statements
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Json, Message, from_us

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)

_Medium = Annotated[str, typer.Argument(metavar="ID", help="The medium, as [media.ID] names it.")]
_Holder = Annotated[str, typer.Option(metavar="NAME", help="Who has it now.")]
_Place = Annotated[str, typer.Option(metavar="PLACE", help="Where it is kept.")]
_Seal = Annotated[str | None, typer.Option(metavar="NUMBER", help="The number of its seal.")]
_At = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When, with its offset: 2026-03-06T18:00+01:00; now if not."),
]


@app.callback()
def media(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show where each offline medium is, since when, what is on it, when it is due."""
    if context.invoked_subcommand is not None:
        return EXIT_DONE
    rows = _register()
    if as_json:
        common.print_json(rows)
        return EXIT_DONE
    if not rows:
        common.result("media.none")
        return EXIT_DONE
    words = common.words()
    columns = ("medium", "where", "since", "custody", "newest", "copy", "due")
    common.print_table([words.text(f"media.column.{name}") for name in columns], map(_cells, rows))
    return EXIT_DONE


@app.command()
def out(medium: _Medium, holder: _Holder, place: _Place, seal: _Seal = None, at: _At = None) -> int:
    """Say that a medium has left: who has it, and where it is kept."""
    return _move(medium, "out", holder, place, seal, at)


@app.command("in")
def in_(medium: _Medium, holder: _Holder, place: _Place, seal: _Seal = None, at: _At = None) -> int:
    """Say that a medium is back: who brought it, and where it is."""
    return _move(medium, "in", holder, place, seal, at)


def _register() -> list[dict[str, Json]]:
    from backupguard.daemon import client, custody

    settings = common.settings()
    return statements.do(
        settings,
        lambda: client.media(settings),
        lambda taken, _: custody.register(taken.store, settings, datetime.now(UTC)),
        changes=False,
    )


def _move(
    medium: str, direction: str, holder: str, place: str, seal: str | None, at: str | None
) -> int:
    from backupguard.daemon import client, custody

    settings = common.settings()
    moment = _moment(at)
    row = statements.do(
        settings,
        lambda: client.move_medium(
            settings,
            medium,
            {
                "direction": direction,
                "holder": holder,
                "place": place,
                "seal": seal,
                "at": moment.isoformat() if moment is not None else None,
            },
        ),
        lambda taken, uid: custody.move(
            taken.store,
            settings,
            medium=medium,
            direction=direction,
            holder=holder,
            place=place,
            seal=seal,
            at=moment,
            uid=uid,
            now=datetime.now(UTC),
        ),
    )
    common.say(f"media.moved-{direction}", medium=medium, holder=holder, place=place)
    if direction == "out" and row["attached"]:
        common.say("media.still-attached", medium=medium)
    elif direction == "out" and not row["copies"]:
        common.say("media.never-read", medium=medium)
    return EXIT_DONE


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError("usage", Message(id="media.bad-time")) from error
    if moment.tzinfo is None:
        raise UsageError("usage", Message(id="media.bad-time"))
    return moment.astimezone(UTC)


def _cells(row: dict[str, Json]) -> tuple[str, ...]:
    words = common.words()
    where = words.text(f"media.where.{row['where']}")
    moved = row["moved"]
    custody = "—"
    if moved is not None:
        custody = ", ".join(
            part for part in (moved["holder"], moved["place"], moved["seal"]) if part
        )
    since = row["attached_since_at"] if row["attached"] else (moved or {}).get("at")
    newest = max((one["newest_at"] or 0 for one in row["copies"]), default=0)
    return (
        str(row["medium"]),
        where if row["slot"] is None else f"{where} ({row['slot']})",
        _time(since),
        custody,
        _time(newest or None),
        _copy(row),
        _time(row["due_at"]),
    )


def _copy(row: dict[str, Json]) -> str:
    """Return what is known of the copy: read right and good to go, read wrong, or not read."""
    words = common.words()
    if not row["copies"]:
        return words.text("media.copy.none")
    wrong = next((one for one in row["copies"] if one["verdict"] != "passed"), None)
    if wrong is not None:
        return words.text(f"code.{wrong['code'] or 'none'}")
    if row["attached"]:
        return words.text(
            "media.copy.may-leave" if row["may_leave"] else "media.copy.may-not-leave"
        )
    return words.text("media.copy.read")


def _time(microseconds: int | None) -> str:
    return "—" if microseconds is None else common.words().time(from_us(microseconds))
