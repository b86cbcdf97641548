"""`backupguard config check | show | schema`: the configuration, its mistakes and its plan."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_CONFIGURATION, EXIT_DONE, BackupGuardError, ConfigurationError

if TYPE_CHECKING:
    from backupguard.language import Words
    from backupguard.settings import Loaded, Settings
    from backupguard.settings.plan import Measures, Plan

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

AsJson = Annotated[bool, typer.Option("--json", help="Show JSON.")]


@app.callback()
def config() -> None:
    """Check or show the configuration, or its JSON Schema."""


@app.command()
def check(as_json: AsJson = False) -> int:
    """Report everything wrong at once, or say that it is right and show the plan."""
    from backupguard.controls import catalogue_of
    from backupguard.settings import load_located
    from backupguard.settings.plan import now, plan, problems

    try:
        loaded = load_located(common.options().config)
        catalogue_of(loaded.settings)
    except ConfigurationError as error:
        return _refused(error, as_json)
    common.use_settings(loaded.settings)
    measures, measured = _measures(loaded.settings)
    planned = plan(loaded.settings, measures, now())
    too_much = problems(planned, loaded.merged)
    if too_much:
        _refused(ConfigurationError(too_much), as_json, None if as_json else planned)
        return EXIT_CONFIGURATION
    if as_json:
        common.print_json({"valid": True, "problems": [], "plan": _plan_json(planned)})
    else:
        _show_checked(loaded, planned, measured=measured)
    return EXIT_DONE


def _refused(error: ConfigurationError, as_json: bool, planned: Plan | None = None) -> int:
    if as_json:
        common.print_json({"valid": False, "problems": common.problems_json(error)})
    else:
        if planned is not None:
            _show_plan(planned, common.words())
        common.show_problems(error)
    return EXIT_CONFIGURATION


def _measures(settings: Settings) -> tuple[Measures, bool]:
    """Return what the store measured, and whether there is one that we may read.

    A check must leave nothing behind, so a store that does not exist is not made; and whoever may
    not read it can check the file all the same.
    """
    from backupguard.settings.plan import Measures, measured

    state = settings.state_directory
    if not os.access(state, os.W_OK | os.X_OK):
        return Measures(), False
    if settings.store.url is None and not (state / "store.sqlite3").exists():
        return Measures(), False
    try:
        store = common.store(settings, replace_corrupt=False)
        try:
            return measured(store, settings), True
        finally:
            store.close()
    except BackupGuardError:
        return Measures(), False


def _show_checked(loaded: Loaded, planned: Plan, *, measured: bool) -> None:
    from backupguard.cli import doctor_web
    from backupguard.settings.rules import references_to_secrets

    settings = loaded.settings
    common.say(
        "cli.config.ok",
        applications=len(settings.applications),
        repositories=len(settings.repositories),
        files=len(settings.files),
    )
    if "CREDENTIALS_DIRECTORY" not in os.environ:
        references = references_to_secrets(loaded.merged.data)
        unseen = sum(1 for _, reference in references if reference.credential is not None)
        if unseen:
            common.say("cli.config.credentials-unseen", count=unseen)
    doctor_web.say(settings)
    if not measured:
        common.say("cli.config.plan.no-store")
    if not common.options().quiet:
        _show_plan(planned, common.words())


def _show_plan(planned: Plan, words: Words) -> None:
    if planned.tests:
        common.print_table(
            [
                words.text(f"cli.config.column.{name}")
                for name in ("application", "tests", "size", "each", "total", "basis")
            ],
            [
                (
                    test.application,
                    str(test.tests),
                    words.size(test.bytes),
                    _time(words, test.seconds, test.basis),
                    _time(words, test.total_seconds, test.basis),
                    words.text(f"cli.config.basis.{test.basis}"),
                )
                for test in planned.tests
            ],
        )
    site = planned.budgets[0]
    common.result(
        "cli.config.plan.always" if planned.always_open else "cli.config.plan",
        days=planned.days,
        tests=sum(test.tests for test in planned.tests),
        needed=words.duration(site.needed * 1000),
        available=words.duration(site.available * 1000),
    )
    if planned.assumed_throughput:
        from backupguard.settings.plan import ASSUMED_BYTES_PER_SECOND

        common.result(
            "cli.config.plan.assumed-throughput",
            rate=words.size(ASSUMED_BYTES_PER_SECOND),
            repositories=", ".join(planned.assumed_throughput),
        )
    if planned.unknown_sizes:
        common.result("cli.config.plan.assumed-size", applications=", ".join(planned.unknown_sizes))


def _time(words: Words, seconds: int, basis: str) -> str:
    return words.duration(None if basis == "unknown" else seconds * 1000)


def _plan_json(planned: Plan) -> dict[str, Any]:
    from dataclasses import asdict

    data = asdict(planned)
    data["start"] = planned.start.isoformat()
    data["fits"] = planned.fits
    for budget, source in zip(data["budgets"], planned.budgets, strict=True):
        budget["fits"] = source.fits
        budget["path"] = ".".join(str(part) for part in source.path)
    return data


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show the effective settings, defaults included, secrets as references."""
    dump = common.settings().dump()
    dump["settings"]["controls"].pop("files", None)  # the texts of files: they lie where they lie
    if as_json:
        common.print_json(dump)
        return
    for file in dump["files"]:
        print(f"# {file}")
    print(f"# sha256 {dump['sha256']}")
    for line in _lines((), dump["settings"]):
        print(line)


def _lines(path: tuple[str, ...], value: Any) -> list[str]:
    """Return a value as lines of TOML with dotted keys: easy to read, to search, to compare."""
    from backupguard.settings.files import spelled

    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _lines((*path, key), inner)]
    return [f"{spelled(path)} = {_toml(value)}"]


def _toml(value: Any) -> str:
    import json

    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON escapes are TOML escapes, but for DEL, which TOML does not take as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, every plug-in's part included."""
    from backupguard.settings import full_model

    common.print_json(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **full_model().model_json_schema(by_alias=True),
        }
    )
