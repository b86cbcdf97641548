"""`backupguard baseline`: the accepted shape of an application's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, EXIT_NOT_PROVED, UsageError
from backupguard.model import Fact, Json, Message, Observation, Origin, application_subject

if TYPE_CHECKING:
    from backupguard.contracts import Store

_ACCEPTED, _RESET, _RESULT = "baseline.accepted", "baseline.reset", "restore-test.result"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_Application = Annotated[str, typer.Argument(metavar="APPLICATION", help="The application's id.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is recorded.")]


@contextmanager
def _known(application: str) -> Iterator[tuple[Store, Mapping[str, Fact]]]:
    """Open the store and hand it out with what it knows about the application's shape."""
    settings = common.settings()
    if application not in settings.applications:
        raise UsageError("unknown_subject", name=application)
    subject = application_subject(application)
    with closing(common.store(settings)) as store:
        yield store, store.latest([subject], [_ACCEPTED, _RESET, _RESULT]).get(subject, {})


def _standing(facts: Mapping[str, Fact]) -> Fact | None:
    accepted, reset = facts.get(_ACCEPTED), facts.get(_RESET)
    if accepted is None or (reset is not None and reset.seq > accepted.seq):
        return None
    return accepted


def _last_seq(facts: Mapping[str, Fact]) -> int:
    """Return the newest decision about the shape, which the next one is named after."""
    return max((facts[kind].seq for kind in (_ACCEPTED, _RESET) if kind in facts), default=0)


def _record(store: Store, application: str, kind: str, data: Json, key: str) -> None:
    from backupguard.daemon.requests import author

    store.append(
        [
            Observation(
                kind=kind,
                subject=application_subject(application),
                origin=Origin.ATTESTED,
                observed_at=datetime.now(UTC),
                data=data,
                key=f"baseline/{application}/{key}",
            )
        ],
        author=author(),
    )
    store.seal()


@app.command()
def show(
    application: _Application,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the accepted shape beside that of the last restore test."""
    with _known(application) as (_, facts):
        accepted, tested = _standing(facts), facts.get(_RESULT)
    wanted = accepted.observation.data["fingerprint"] if accepted else None
    found = tested.observation.data["fingerprint"] if tested else None
    if as_json:
        common.print_json(
            {
                "application": application,
                "accepted": wanted,
                "accepted_by": accepted.author if accepted else None,
                "accepted_at": accepted.observation.observed_at.isoformat() if accepted else None,
                "reason": accepted.observation.data["reason"] if accepted else None,
                "tested": found,
            }
        )
        return EXIT_DONE
    words = common.words()
    if accepted is None:
        common.result("baseline.none", application=application)
    else:
        common.result(
            "baseline.accepted-by",
            who=accepted.author or "—",
            time=words.time(accepted.observation.observed_at),
            reason=common.printable(accepted.observation.data["reason"]),
        )
    before, after = (wanted or {}).get("tables", {}), (found or {}).get("tables", {})
    if before or after:
        common.print_table(
            [words.text(f"baseline.column.{name}") for name in ("table", "accepted", "tested")],
            [
                (name, *(words.number(t[name]) if name in t else "—" for t in (before, after)))
                for name in sorted({*before, *after})
            ],
        )
    return EXIT_DONE


@app.command()
def accept(application: _Application, reason: _Reason) -> int:
    """Accept what the last restore test found as the shape to expect from now on."""
    with _known(application) as (store, facts):
        tested = facts.get(_RESULT)
        if tested is None or tested.observation.data["fingerprint"] is None:
            common.result("baseline.nothing-to-accept", application=application)
            return EXIT_NOT_PROVED
        fingerprint = tested.observation.data["fingerprint"]
        _record(
            store,
            application,
            _ACCEPTED,
            {"fingerprint": fingerprint, "from_seq": tested.seq, "reason": reason},
            f"accepted/{tested.seq}/{_last_seq(facts)}",
        )
    common.say(
        "baseline.accepted",
        application=application,
        tables=len(fingerprint["tables"]),
        seq=tested.seq,
    )
    return EXIT_DONE


@app.command()
def reset(application: _Application, reason: _Reason) -> int:
    """Withdraw the accepted shape; it is provisional again until another is accepted."""
    with _known(application) as (store, facts):
        if _standing(facts) is None:
            common.result(Message(id="baseline.none", values={"application": application}))
            return EXIT_DONE
        _record(store, application, _RESET, {"reason": reason}, f"reset/{_last_seq(facts)}")
    common.say("baseline.reset", application=application)
    return EXIT_DONE
