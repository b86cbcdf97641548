"""`backupguard doctor instances`: kinds of scratch servers that prove nothing until confirmed."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED, UsageError
from backupguard.model import (
    Fact,
    Message,
    Observation,
    Origin,
    application_subject,
    instance_subject,
)

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.settings import Settings

_CONFIRMED = "instance.confirmed"
_SHOWN_TABLES = 10


def instances(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A scratch server: [instances.NAME].", show_default=False
        ),
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option("--confirm", help="Say that the counts are what the server's tools show."),
    ] = False,
) -> int:
    """Show scratch servers; of one, what its last restore test counted, to compare and confirm."""
    settings = common.settings()
    if name is None:
        if confirm:
            raise UsageError("usage")
        return _show_all(settings)
    if name not in settings.instances:
        raise UsageError("unknown_subject", name=name)
    if confirm and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("usage", Message(id="cli.doctor.repositories.needs-terminal"))
    from backupguard.daemon.requests import author

    who = author()  # before becoming the owner of the store
    with closing(common.store(settings)) as store:
        return _one(store, settings, name, who, confirm=confirm)


def _confirmed(store: Store, name: str) -> Fact | None:
    subject = instance_subject(name)
    return store.latest([subject], [_CONFIRMED]).get(subject, {}).get(_CONFIRMED)


def _show_all(settings: Settings) -> int:
    from restore_tests.instance_guard import UNPROVEN

    needed, rows, words = 0, [], common.words()
    with closing(common.store(settings)) as store:
        for name, instance in settings.instances.items():
            fact = _confirmed(store, name)
            state = "cli.doctor.instances.proven"
            if instance.kind in UNPROVEN:
                known = fact is not None and fact.observation.data["kind"] == instance.kind
                state = f"cli.doctor.instances.{'confirmed-state' if known else 'unproven'}"
                needed += not known
            rows.append((name, instance.kind, instance.host, words.text(state)))
    columns = ("name", "kind", "host", "state")
    common.print_table([words.text(f"cli.doctor.instances.column.{one}") for one in columns], rows)
    return EXIT_NOT_PROVED if needed else EXIT_DONE


def _last_result(store: Store, settings: Settings, name: str) -> Fact | None:
    """Return the newest test on that server that restored something and found nothing wrong."""
    kind = settings.instances[name].kind
    found = []
    for identifier, application in settings.applications.items():
        if getattr(application.restore_test, "instance", None) != name:
            continue
        subject = application_subject(identifier)
        for fact in store.facts(kinds=["restore-test.result"], subject=subject):
            data = fact.observation.data
            sound = fact.observation.origin is Origin.OBSERVED and data["verdict"] != "failed"
            if sound and data["fingerprint"] and kind in data["tools"]:
                found.append(fact)
    return max(found, key=lambda fact: fact.seq, default=None)


def _one(store: Store, settings: Settings, name: str, who: str, *, confirm: bool) -> int:
    from restore_tests.instance_guard import UNPROVEN

    kind = settings.instances[name].kind
    if kind not in UNPROVEN:
        common.result("cli.doctor.instances.nothing-to-confirm", name=name)
        return EXIT_DONE
    result = _last_result(store, settings, name)
    if result is None:
        common.result("cli.doctor.instances.nothing-to-compare", name=name)
        return EXIT_NOT_PROVED
    data = result.observation.data
    tables = data["fingerprint"]["tables"]
    words = common.words()
    common.result(
        "cli.doctor.instances.compare",
        application=data["application"], point=data["point"], tables=len(tables),
        rows=sum(tables.values()), version=data["tools"][kind],
    )  # fmt: skip
    biggest = sorted(tables.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_TABLES]
    columns = [words.text(f"cli.doctor.instances.column.{one}") for one in ("table", "rows")]
    common.print_table(columns, [(table, str(rows)) for table, rows in biggest])
    if not confirm:
        common.result("cli.doctor.instances.confirm-how", name=name)
        return EXIT_NOT_PROVED if _confirmed(store, name) is None else EXIT_DONE
    print(words.text("cli.doctor.instances.ask", name=name))
    if sys.stdin.readline().strip() != name:
        common.result("cli.doctor.repositories.not-confirmed")
        return EXIT_NOT_PROVED
    now = datetime.now(UTC)
    version = data["tools"][kind]
    store.append(
        [
            Observation(
                kind=_CONFIRMED,
                subject=instance_subject(name),
                origin=Origin.ATTESTED,
                observed_at=now,
                data={
                    "instance": name,
                    "kind": kind,
                    "tool_version": version,
                    "tool_major": version.partition(".")[0],
                    "result": result.observation.key,
                    "tables": len(tables),
                    "rows": sum(tables.values()),
                },
                key=f"confirmed/instance/{name}/{now.isoformat()}",
            )
        ],
        author=who,
    )
    store.seal()
    common.say("cli.doctor.instances.confirmed", name=name)
    return EXIT_DONE
