"""Handing in restore tests done elsewhere: told by a person, or recorded by another tool."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli import common, statements
from backupguard.errors import EXIT_DONE, EXIT_FAILED, UsageError
from backupguard.model import Json, Message, Verdict, from_us

if TYPE_CHECKING:
    from backupguard.daemon.statements import Statements
    from backupguard.settings import Settings


def attested(path: Path, armored: str | None, *, show_text: bool, as_json: bool) -> int:
    """Hand in the file that a person filled in, or print the text of it that is signed."""
    from backupguard.daemon import client, declared_tests
    from restore_tests import imported_statement

    settings = common.settings()
    body = imported_statement.read(declared_tests.content_of(path), settings.site.timezone)
    if show_text:
        spoken = statements.do(
            settings,
            lambda: client.declared_text(settings, body),
            lambda taken, uid: declared_tests.text(taken.settings, body, uid, datetime.now(UTC)),
            changes=False,
        )
        print(spoken, end="")
        return EXIT_DONE
    return _hand_in(settings, body, armored, as_json=as_json)


def imported(
    path: Path,
    form: str,
    application: str,
    *,
    repository: str | None,
    names: list[str],
    tested_at: str | None,
    dates: str | None,
    as_json: bool,
) -> int:
    """Hand in the record that another tool made of a restore test."""
    from backupguard.daemon import declared_tests
    from restore_tests import imported as records
    from restore_tests.imported_record import Reading

    settings = common.settings()
    owner = settings.applications[application]
    usual = owner.restore_test.imports if owner.restore_test is not None else None
    if usual is not None and usual.format == form:
        names, dates = names or list(usual.names), dates or usual.dates
        repository = repository or usual.repository
    zone = settings.site.timezone
    moment = _time(tested_at, zone) if tested_at is not None else records.dated(path.name, zone)
    reading = Reading(timezone=zone, dates=dates, tested_at=moment)
    content = declared_tests.content_of(path)
    body = records.read(content, form, reading, names, application=application)
    return _hand_in(settings, {**body, "repository": repository}, None, as_json=as_json)


def _time(given: str, zone: str) -> datetime:
    from zoneinfo import ZoneInfo

    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        message = Message(id="statements.no-day", values={"given": given[:80]})
        raise UsageError("usage", message) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _hand_in(
    settings: Settings, body: Mapping[str, Json], armored: str | None, *, as_json: bool
) -> int:
    from backupguard.daemon import client, declared_tests

    def in_process(taken: Statements, uid: int) -> tuple[int, bool]:
        from backupguard.processes import Cancellation, Jail

        tools = Jail(settings.state_directory, Cancellation())
        return declared_tests.take(
            taken.store, settings, body, armored, uid=uid, now=datetime.now(UTC), tools=tools
        )

    seq, new = statements.do(
        settings, lambda: client.declare_test(settings, body, armored), in_process
    )
    if as_json:
        common.print_json({"seq": seq, "new": new, "test": dict(body)})
    else:
        _show(body, seq, armored, new=new)
    return EXIT_FAILED if body["verdict"] == Verdict.FAILED else EXIT_DONE


def _show(body: Mapping[str, Json], seq: int, armored: str | None, *, new: bool) -> None:
    words = common.words()
    by_hand = body["format"] == "attested"
    common.result(
        words.text(
            "declared-test.taken" if new else "declared-test.known",
            seq=seq,
            application=body["application"],
            origin=words.text(f"origin.{'attested' if by_hand else 'imported'}"),
            verdict=words.text(f"verdict.{body['verdict']}"),
            level=words.text(f"level.{body['level']}"),
            time=words.time(from_us(body["tested_at"])),
        )
    )
    for check in body["checks"]:
        if check["verdict"] != Verdict.PASSED or check["level"] != body["level"]:
            said = words.text(f"check.{check['code']}")
            common.result(f"  {check['name']}  {said}")
    if by_hand and armored is None:
        common.result("attest.unsigned")
