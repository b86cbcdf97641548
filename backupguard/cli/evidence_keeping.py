"""`backupguard evidence`: what keeps it: anchors, another key, its age, the commissioning record."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast
from zoneinfo import ZoneInfo

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import SITE, Message, Origin

if TYPE_CHECKING:
    from backupguard.settings import Settings
    from backupguard.store.sql import SqlStore

_Reason = Annotated[str, typer.Option(help="Why; it stands in the evidence.")]


def _store(settings: Settings) -> SqlStore:
    return cast("SqlStore", common.store(settings, replace_corrupt=False))


def _reason(text: str) -> str:
    said = " ".join(text.split())
    if not said:
        raise UsageError("usage", Message(id="evidence.no-reason"))
    return said


def day_of(text: str, settings: Settings) -> datetime:
    """Return when a day of the site begins; raises UsageError for what is no day."""
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        values = {"day": common.printable(text)}
        raise UsageError("usage", Message(id="evidence.bad-day", values=values)) from error
    return datetime.combine(day, time(), ZoneInfo(settings.site.timezone)).astimezone(UTC)


def anchor(
    place: Annotated[
        list[str] | None,
        typer.Option(help="A place of [evidence.anchors]; all by default (may be repeated)."),
    ] = None,
    by_hand: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="You keep the line yourself, at this place."),
    ] = None,
    receipt: Annotated[
        str | None, typer.Option(help="With --by-hand: how it is found there again.")
    ] = None,
) -> int:
    """Put the head of the chain down off this host, now."""
    from backupguard.cli.acting import Wanted, act, exit_code, show_runs

    settings = common.settings()
    if by_hand is not None:
        return _by_hand(settings, _reason(by_hand), receipt)
    from backupguard import anchoring

    places = list(place or settings.evidence.anchors)
    for name in places:
        anchoring.place(settings, name)
    ended = act(settings, [Wanted(task="anchor", subject=SITE, options={"places": places})])
    show_runs(ended)
    return exit_code(ended)


def _by_hand(settings: Settings, place: str, receipt: str | None) -> int:
    from backupguard.anchoring import Put
    from backupguard.daemon.requests import author
    from backupguard.evidence.seals import anchor_line

    with closing(_store(settings)) as store:
        store.seal()
        head = store.anchor()
        put = Put(place=place, anchor=head, receipt=receipt or "", at=datetime.now(UTC))
        store.append([put.observation(Origin.ATTESTED)], author=author())
        store.seal()
    common.say("evidence.anchor-by-hand", seq=head.seq, place=common.printable(place))
    print(anchor_line(head))
    return EXIT_DONE


def rotate_key(reason: _Reason) -> int:
    """Let a new key sign from here on; the old one signs it, and is then removed."""
    from backupguard.daemon.requests import author

    with closing(_store(common.settings())) as store:
        fact = store.rotate_key(_reason(reason), author())
        common.result("evidence.key", fingerprint=store.key.fingerprint)
    common.say("evidence.rotated", seq=fact.seq)
    return EXIT_DONE


def prune(
    before: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="What is older may go.")],
    reason: _Reason,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> int:
    """Drop the content of records past their time; hashes stay, so the chain stays verifiable."""
    from backupguard.daemon.requests import author

    settings, why = common.settings(), _reason(reason)
    moment = day_of(before, settings)
    with closing(_store(settings)) as store:
        found = store.past(moment)
        if not found:
            common.result("evidence.prune.nothing", day=before)
            return EXIT_DONE
        if dry_run:
            for one in found:
                kinds = ", ".join(one.kinds)
                common.result("evidence.prune.would", count=one.count, kinds=kinds, last=one.last)
            return EXIT_DONE
        _, counts = store.prune(moment, why, author())
        store.seal()
    for kinds, count in counts.items():
        common.result("evidence.prune.done", count=count, kinds=kinds)
    return EXIT_DONE


def commissioning(
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="html or pdf (may be repeated).")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option("--language", help="fr or en (may be repeated).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; the state by default.")
    ] = None,
) -> int:
    """Write the commissioning record with the key's fingerprint, to be signed and kept in a safe."""
    from backupguard.anchoring import commissioning as record
    from backupguard.daemon.requests import author
    from backupguard.language import Words
    from backupguard.reports import directory_of
    from backupguard.reports.issue import check_offered

    settings = common.settings()
    wanted = tuple(languages or [common.options().language or settings.site.language])
    chosen = tuple(formats or ["html"])
    check_offered(wanted, chosen)
    if not set(chosen) <= set(record.FORMATS):
        values = {"format": chosen[0], "known": ", ".join(record.FORMATS)}
        raise UsageError("usage", Message(id="report.bad_format", values=values))
    directory = (output or directory_of(settings)).expanduser().absolute()
    with closing(_store(settings)) as store:
        store.seal()
        for language in wanted:
            words = Words(language, settings.site.timezone)
            now = datetime.now(UTC)
            written = record.write(store, settings, words, chosen, directory, now)
            store.append([fact for _, fact in written], author=author())
            for path, _ in written:
                print(path)
        store.seal()
    return EXIT_DONE
