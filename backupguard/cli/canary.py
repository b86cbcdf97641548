"""`backupguard canary`: what the site's own job runs before each backup. Nothing is written here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Message, application_subject

if TYPE_CHECKING:
    from backupguard.settings import Application, Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def canary() -> None:
    """Print what writes a canary: the site's own job runs it, BackupGuard never does."""


@app.command("print")
def print_(
    application: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this application; all by default.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For this engine; the application's by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the script, and how cron or systemd starts it before the backup."""
    from restore_tests import canary_scripts

    settings = common.settings()
    if application is not None and application not in settings.applications:
        raise UsageError("unknown_subject", subject=application_subject(application))
    if engine is not None and engine not in canary_scripts.ENGINES:
        raise _no_engine(application or "—", engine)
    found = []
    for name, owner in settings.applications.items():
        if application not in (None, name) or not owner.backups:
            continue
        chosen = engine or _engine(settings, name, owner)
        if chosen not in canary_scripts.ENGINES:
            if application is not None:
                raise _no_engine(name, chosen or "—")
            common.say("canary.no_engine", application=name, engine=chosen or "—")
            continue
        place = canary_scripts.Place(application=name, name=_place(name, owner, chosen))
        found.append(
            {
                "application": name,
                "engine": chosen,
                "declared": getattr(owner.restore_test, "canary", None) is not None,
                "script": canary_scripts.script(chosen, place),
            }
        )
    if as_json:
        common.print_json(found)
        return EXIT_DONE
    for one in found:
        _show(one)
    return EXIT_DONE


def _no_engine(application: str, engine: str) -> UsageError:
    values = {"application": application, "engine": engine[:80]}
    return UsageError("usage", Message(id="canary.no_engine", values=values))


def _show(one: dict[str, object]) -> None:
    """Print a script with what is to be done with it, as comments: the output is the script."""
    name = str(one["application"])
    head, _, body = str(one["script"]).partition("\n")
    words = common.words()
    path = f"/usr/local/sbin/backupguard-canary-{name}"
    lines = [
        words.text("canary.what", application=name, engine=str(one["engine"])),
        words.text("canary.where", path=path),
        f"  cron:    55 21 * * *  root  {path}",
        f"  systemd: ExecStartPre={path}",
    ]
    if not one["declared"]:
        lines.append(words.text("canary.declare"))
        lines += [f"  [applications.{name}.restore-test]", f"  {_DECLARED}"]
    typer.echo(head)
    for line in lines:
        typer.echo(f"# {line}")
    typer.echo(body)


_DECLARED = "canary = { since = 2026-01-31 }"


def _engine(settings: Settings, name: str, owner: Application) -> str | None:
    """Return the engine that the settings name, else the one that recognised the last test's copy."""
    if owner.restore_test is not None and owner.restore_test.engine is not None:
        return owner.restore_test.engine
    subject = application_subject(name)
    with closing(common.store(settings, replace_corrupt=False)) as store:
        fact = (
            store.latest([subject], ["restore-test.result"])
            .get(subject, {})
            .get("restore-test.result")
        )
    data = fact.observation.data if fact is not None else None
    return str(data["engine"]) if data and data.get("engine") else None


def _place(name: str, owner: Application, engine: str) -> str:
    """Return what the canary is written into, as far as the settings tell."""
    if engine == "openldap":
        return getattr(owner.restore_test, "suffix", None) or "dc=example,dc=org"
    for job in owner.backups.values():
        if engine in {"sqlite", "files"}:
            plain = [path for path in job.select.paths if not set("*?[") & set(path)]
            if plain:
                return plain[0]
            continue
        databases = [one.rpartition("/")[2] for one in map(str, job.covers)]
        exact = [one for one in databases if one and not set("*?[") & set(one)]
        if exact:
            return exact[0]
    return f"/srv/{name}" if engine in {"sqlite", "files"} else name
