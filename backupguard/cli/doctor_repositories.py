"""`backupguard doctor repositories`: types that prove nothing until a person confirms them."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupguard.cli import common
from backupguard.cli.repository_notes import origin
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED, UsageError
from backupguard.model import Fact, Message, Observation, Origin, RecoveryPoint, repository_subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backupguard.contracts import Store
    from backupguard.settings import Settings

SAMPLED = 10
_INSPECTED, _CONFIRMED = "repository.inspected", "repository.confirmed"


def repositories(
    identifier: Annotated[
        str | None, typer.Argument(metavar="ID", help="A repository's id.", show_default=False)
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Say that the sample is what the console shows.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show repositories of unproven types; of one, a sample of points to compare and confirm."""
    settings = common.settings()
    if identifier is None:
        if confirm:
            raise UsageError("usage")
        return _show_all(settings, as_json)
    if identifier not in settings.repositories:
        raise UsageError("unknown_subject", name=identifier)
    # A confirmation is a person's: nobody can pipe one in, and there is no option for yes.
    if confirm and (as_json or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("usage", Message(id="cli.doctor.repositories.needs-terminal"))
    from backupguard.daemon.requests import author

    who = author()  # before becoming the owner of the store
    with closing(common.store(settings)) as store:
        return _one(store, settings, identifier, who, confirm=confirm, as_json=as_json)


def _states(settings: Settings, latest: Mapping[str, Mapping[str, Fact]]) -> list[dict[str, Any]]:
    from backupguard import plugins
    from backupguard.assess.unproven import is_confirmed

    states = []
    for name, repository in settings.repositories.items():
        kinds = latest.get(repository_subject(name), {})
        inspected, confirmed = kinds.get(_INSPECTED), kinds.get(_CONFIRMED)
        unproven = plugins.unproven(repository.type)
        needed = unproven and not is_confirmed(repository.type, kinds)
        states.append(
            {
                "id": name,
                "type": repository.type,
                "tool_version": inspected.observation.data["tool_version"] if inspected else None,
                "origin": origin(settings, name).value,
                "unproven": unproven,
                "confirmation_needed": needed,
                "confirmed_at": confirmed.observation.observed_at if confirmed else None,
                "confirmed_by": confirmed.author if confirmed else None,
            }
        )
    return states


def _show_all(settings: Settings, as_json: bool) -> int:
    with closing(common.store(settings)) as store:
        states = _states(settings, store.latest(kinds=[_INSPECTED, _CONFIRMED]))
    needed = sum(1 for state in states if state["confirmation_needed"])
    if as_json:
        common.print_json({"repositories": states})
        return EXIT_NOT_PROVED if needed else EXIT_DONE
    words = common.words()
    columns = ("repository", "type", "version", "state")
    common.print_table(
        [words.text(f"cli.doctor.repositories.column.{name}") for name in columns],
        [
            (state["id"], state["type"], state["tool_version"] or "—", _said(state))
            for state in states
        ],
    )
    return EXIT_NOT_PROVED if needed else EXIT_DONE


def _said(state: Mapping[str, Any]) -> str:
    words = common.words()
    if state["origin"] == Origin.IMPORTED:
        return words.text("cli.doctor.repositories.imported")
    if not state["unproven"]:
        return words.text("cli.doctor.repositories.proven")
    if state["confirmation_needed"]:
        again = "again" if state["confirmed_at"] else "unproven"
        return words.text(f"cli.doctor.repositories.{again}")
    return words.text(
        "cli.doctor.repositories.confirmed-by",
        who=state["confirmed_by"] or "—",
        time=words.time(state["confirmed_at"]),
    )


def _one(
    store: Store, settings: Settings, name: str, who: str, *, confirm: bool, as_json: bool
) -> int:
    from backupguard.assess.unproven import digest, sample

    subject = repository_subject(name)
    latest = store.latest([subject], [_INSPECTED, _CONFIRMED])
    state = next(one for one in _states(settings, latest) if one["id"] == name)
    selectors = settings.jobs_in(name)
    points = sample({each.job: store.points(each.job, name) for each in selectors}, SAMPLED)
    if as_json:
        shown = [_point_json(point) for point in points]
        common.print_json({**state, "sample": shown, "digest": digest(points)})
        return EXIT_NOT_PROVED if state["confirmation_needed"] else EXIT_DONE
    if not state["unproven"]:
        common.result("cli.doctor.repositories.nothing-to-confirm", repository=name)
        return EXIT_DONE
    inspected = latest.get(subject, {}).get(_INSPECTED)
    if not points or inspected is None or not inspected.observation.data["reachable"]:
        common.result("cli.doctor.repositories.nothing-to-compare", repository=name)
        return EXIT_NOT_PROVED
    _show(points)
    if not confirm:
        common.result(Message(id="next.confirm", values={"repository": name}))
        return EXIT_NOT_PROVED if state["confirmation_needed"] else EXIT_DONE
    print(common.words().text("cli.doctor.repositories.ask", count=len(points), repository=name))
    if sys.stdin.readline().strip() != name:
        common.result("cli.doctor.repositories.not-confirmed")
        return EXIT_NOT_PROVED
    _record(store, settings, name, inspected, points, who)
    common.say("cli.doctor.repositories.confirmed", repository=name)
    return EXIT_DONE


def _show(points: Sequence[RecoveryPoint]) -> None:
    words = common.words()
    columns = ("time", "size", "source", "job", "state", "name")
    common.print_table(
        [words.text(f"cli.doctor.repositories.column.{name}") for name in columns],
        [
            (
                words.time(point.at),
                words.size(point.bytes),
                point.source_host or "—",
                point.job,
                point.state.value,
                point.native_id,
            )
            for point in points
        ],
    )


def _point_json(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "at": point.at.isoformat(),
        "bytes": point.bytes,
        "source": point.source_host,
        "job": point.job,
        "state": point.state.value,
        "native_id": point.native_id,
    }


def _record(
    store: Store,
    settings: Settings,
    name: str,
    inspected: Fact,
    points: Sequence[RecoveryPoint],
    who: str,
) -> None:
    from backupguard.assess.unproven import digest, major

    seen, now = inspected.observation.data, datetime.now(UTC)
    store.append(
        [
            Observation(
                kind=_CONFIRMED,
                subject=repository_subject(name),
                origin=Origin.ATTESTED,
                observed_at=now,
                data={
                    "repository": name,
                    "type": settings.repositories[name].type,
                    "tool": seen["tool"],
                    "tool_version": seen["tool_version"],
                    "tool_major": major(seen["tool_version"]),
                    "digest": digest(points),
                    "count": len(points),
                },
                key=f"confirmed/{name}/{now.isoformat()}",
            )
        ],
        author=who,
    )
    store.seal()
