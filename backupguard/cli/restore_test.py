"""`backupguard restore-test`: restore applications in the sandbox now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from backupguard.cli import bisect_points, common, declared_test, escrow, restore_test_due
from backupguard.cli.acting import RunJson, Wanted, act, exit_code, label, sentence
from backupguard.daemon import client
from backupguard.daemon.requests import author
from backupguard.errors import UsageError
from backupguard.model import (
    Json,
    Message,
    Verdict,
    application_subject,
    from_us,
    repository_subject,
)

if TYPE_CHECKING:
    from backupguard.settings import Settings


def restore_test(
    applications: Annotated[
        list[str] | None, typer.Argument(metavar="[APPLICATION ...]", help="All by default.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option(metavar="ID", help="Restore from this repository.")
    ] = None,
    point: Annotated[
        str, typer.Option(metavar="POINT", help="latest, oldest, or the id of a recovery point.")
    ] = "latest",
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Recover to this time (ISO 8601).")
    ] = None,
    escrowed_key: Annotated[
        bool,
        typer.Option("--escrowed-key", help="Open the repository with the key from escrow alone."),
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="Start nothing: say what is due, by when, why not done.")
    ] = False,
    bisect: Annotated[
        bool,
        typer.Option("--bisect", help="Test points between until the last clean one is known."),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Start nothing: take another tool's record."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="dbatools, surebackup, rman, dbcc, iris."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Of a record: this database or machine (may be repeated)."),
    ] = None,
    tested_at: Annotated[
        str | None, typer.Option(metavar="T", help="Of a record without a time: when it was.")
    ] = None,
    dates: Annotated[
        str | None, typer.Option(metavar="F", help="Of a record: its times, %d/%m/%Y %H:%M:%S.")
    ] = None,
    cancel: Annotated[
        str | None, typer.Option(metavar="RUN", help="End this run instead of starting one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Restore applications in the sealed sandbox and say what was found."""
    settings = common.settings()
    if cancel is not None:
        return _cancel(settings, cancel)
    if record is not None:
        return _import(
            settings, record, form, applications or [],
            repository=repository, names=name or [], tested_at=tested_at, dates=dates,
            as_json=as_json,
        )  # fmt: skip
    chosen = applications or [name for name, app in settings.applications.items() if app.backups]
    for identifier in chosen:
        if identifier not in settings.applications:
            raise UsageError("unknown_subject", subject=application_subject(identifier))
    if repository is not None and repository not in settings.repositories:
        raise UsageError("unknown_subject", subject=repository_subject(repository))
    if due:
        return restore_test_due.show(settings, chosen, as_json=as_json)
    if bisect:
        return bisect_points.bisect(settings, chosen, as_json=as_json)
    options: dict[str, Json] = {"repository": repository, "point": point}
    if at is not None:
        options["at"] = _moment(at, settings.site.timezone)
    key = None
    if escrowed_key:
        key = escrow.brought_key(settings, repository)
        options["key"] = "escrow"
    ended = act(
        settings,
        [
            Wanted(task="restore-test", subject=application_subject(name), options=options, key=key)
            for name in chosen
        ],
    )
    results = _results(settings, ended)
    if as_json:
        common.print_json([{**run, "result": results.get(str(run["id"]))} for run in ended])
    else:
        for run in ended:
            _show(run, results.get(str(run["id"])))
    return exit_code(ended)


def _import(
    settings: Settings,
    record: Path,
    form: str | None,
    applications: list[str],
    *,
    repository: str | None,
    names: list[str],
    tested_at: str | None,
    dates: str | None,
    as_json: bool,
) -> int:
    """Take the record of one application's restore test."""
    if form is None or len(applications) != 1:
        raise UsageError("usage", Message(id="declared-test.usage"))
    if applications[0] not in settings.applications:
        raise UsageError("unknown_subject", subject=application_subject(applications[0]))
    return declared_test.imported(
        record, form, applications[0],
        repository=repository, names=names, tested_at=tested_at, dates=dates, as_json=as_json,
    )  # fmt: skip


def _moment(given: str, zone: str) -> str:
    """Return a time that has passed; without a zone it is the site's. Raises UsageError."""
    wrong = UsageError("usage", Message(id="restore-test.no-time", values={"given": given[:80]}))
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise wrong from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    if moment > datetime.now(UTC):
        raise wrong
    return moment.astimezone(UTC).isoformat()


def _cancel(settings: Settings, run: str) -> int:
    if client.daemon_alive(settings):
        ended = client.cancel(settings, run)
    else:
        store = common.store(settings)
        ended = store.cancel(run, author())
        store.close()
    common.say("acting.cancelled" if ended else "acting.not-cancelled", run=run)
    return 0 if ended else 2


def _results(settings: Settings, ended: Sequence[RunJson]) -> dict[str, Mapping[str, Json]]:
    """Return the recorded result per run id."""
    store = common.store(settings)
    try:
        subjects = {str(run["subject"]) for run in ended}
        newest = store.latest(subjects, ["restore-test.result"])
        facts = [fact for kinds in newest.values() for fact in kinds.values()]
        return {fact.run: fact.observation.data for fact in facts if fact.run}
    finally:
        store.close()


def _show(run: RunJson, result: Mapping[str, Any] | None) -> None:
    """Print what a restore test found, in words."""
    words = common.words()
    verdict = words.text(f"verdict.{run['verdict']}")
    reason = f" – {sentence(run['code'])}" if run["code"] else ""
    common.result(f"{run['subject']}  {verdict}{reason}")
    if result is None or result["point"] is None:
        return
    common.say(
        "restore-test.source",
        repository=result["repository"] or "—",
        point=result["point"],
        time=words.time(from_us(result["point_at"])),
    )
    if result.get("target_at") is not None:
        common.say("restore-test.target", time=words.time(from_us(result["target_at"])))
    if result.get("key") == "escrow":
        common.say("restore-test.escrowed")
    if result.get("lacked"):
        common.say("restore-test.lacked", lacked=result["lacked"])
    common.say("restore-test.level", level=words.text(f"level.{result['level']}"))
    part = result.get("partial")
    if part is not None:
        common.say("restore-test.part", percent=part["percent"])
        since = part["covered_since"]
        if since is not None:
            common.say("restore-test.part_covered", time=words.time(from_us(since)))
        else:
            common.say("restore-test.part_uncovered")
    phases = ", ".join(
        f"{words.text('phase.' + phase['phase'])} {words.duration(phase['duration_ms'])}"
        for phase in result["phases"]
    )
    common.say("restore-test.phases", phases=phases)
    if result["data_loss_ms"] is not None:
        common.say("restore-test.loss", loss=words.duration(result["data_loss_ms"]))
    if result.get("canary_at") is not None:
        common.say("restore-test.canary", time=words.time(from_us(result["canary_at"])))
    for check in result["checks"]:
        measured = check["configured"] or check["code"] == "invariant_first"
        if check["verdict"] != Verdict.PASSED.value or measured:
            numbers = ", ".join(
                f"{label('report.number', name)} {words.number(value)}"
                for name, value in check["numbers"].items()
            )
            common.say(
                "restore-test.check",
                name=label("check-name", check["name"]),
                verdict=words.text(f"verdict.{check['verdict']}"),
                reason=sentence(check["code"]),
                numbers=f" ({numbers})" if numbers else "",
            )
