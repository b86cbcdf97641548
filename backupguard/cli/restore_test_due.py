"""`backupguard restore-test --due`: what is due, by when, and why it is not done. Starts nothing."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.cli.acting import sentence
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED
from backupguard.model import from_us

if TYPE_CHECKING:
    from backupguard.assess.picture import DuePicture
    from backupguard.settings import Settings


def show(settings: Settings, applications: Collection[str], *, as_json: bool) -> int:
    """Print the list; return the exit status of something not proved where anything is overdue."""
    from backupguard.assess import due
    from backupguard.controls import catalogue_of

    with closing(common.store(settings, replace_corrupt=False)) as store:
        every = due.of_store(store, settings, catalogue_of(settings), datetime.now(UTC))
    chosen = [one for one in every if one.application in applications]
    if as_json:
        common.print_json([asdict(one) for one in chosen])
    else:
        _table(chosen, settings)
    return EXIT_NOT_PROVED if any(one.overdue for one in chosen) else EXIT_DONE


def _table(chosen: list[DuePicture], settings: Settings) -> None:
    words = common.words()
    columns = ("application", "what", "last", "due", "why")
    common.print_table(
        [words.text(f"restore-test.due.{name}") for name in columns],
        [
            (
                settings.applications[one.application].name,
                _what(one),
                words.time(from_us(one.last_at)) if one.last_at else "—",
                words.time(from_us(one.due_at)) if one.due_at else "—",
                _why(one),
            )
            for one in chosen
        ],
    )


def _what(one: DuePicture) -> str:
    if one.of == "repository":
        return one.name
    return common.words().text(f"restore-test.age.{one.name}")


def _why(one: DuePicture) -> str:
    words = common.words()
    if not one.overdue:
        return sentence(one.why) or "—"
    if one.why is None:
        return words.text("restore-test.due.overdue")
    return words.text("restore-test.due.overdue_why", why=sentence(one.why))
