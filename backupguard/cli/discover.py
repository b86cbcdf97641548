"""`backupguard discover`: what runs here, what saves it, and what nothing saves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupguard.cli import common
from backupguard.cli.acting import Wanted, act
from backupguard.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOT_PROVED, UsageError
from backupguard.model import SITE, Fact, from_us

if TYPE_CHECKING:
    from backupguard.settings import Settings

Data = Mapping[str, Any]


def discover(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Propose configuration for what is not in it yet.")
    ] = False,
) -> int:
    """Show the databases and backup jobs of this host and of the declared servers, and the gap.

    Exit 0: a configured job saves every database. 1: one is not saved, or only by a job that is not
    configured here. 2: something could not be looked at.
    """
    if as_json and as_toml:
        raise UsageError("usage")
    settings, seen, reference = _look()
    if seen is None:
        return EXIT_NOT_PROVED
    if as_json:
        common.print_json(_as_json(seen, reference))
    elif as_toml:
        from backupguard.settings.proposal import proposal

        print(proposal(seen, settings), end="")
    else:
        _show(seen, reference)
    # A job that is not configured here is not watched: nobody would notice that it no longer runs.
    if _uncovered(seen) or _unwatched(seen):
        return EXIT_FAILED
    return EXIT_NOT_PROVED if seen["lacking"] else EXIT_DONE


def _look() -> tuple[Settings | None, Data | None, Data | None]:
    """Have discovery look, through the daemon or here; without a configuration only look."""
    from backupguard.settings.loading import config_path
    from backupguard.settings.presence import says_nothing

    if not _given() and says_nothing(config_path(None, os.environ)):
        return None, _unconfigured(), None
    settings = common.settings()
    act(settings, [Wanted(task="discovery", subject=SITE)])
    store = common.store(settings)
    try:
        facts = store.latest([SITE], ["discovery.seen", "reference.loaded"]).get(SITE, {})
    finally:
        store.close()
    wanted = settings.reference is not None
    reference = _data(facts.get("reference.loaded")) if wanted else None
    return settings, _data(facts.get("discovery.seen")), reference


def _given() -> bool:
    from backupguard.settings.loading import CONFIG_VARIABLE

    return common.options().config is not None or bool(os.environ.get(CONFIG_VARIABLE))


def _unconfigured() -> Data:
    """Look at a host that nobody has configured yet: what `--toml` proposes is a beginning."""
    from backupguard.daemon.discovery import look_unconfigured
    from backupguard.daemon.log import configure
    from backupguard.settings.proposal import defaults

    configure(quiet=not common.options().verbose)
    settings = defaults()
    common.become_owner(settings)
    common.complain(common.words().text("discovery.unconfigured"))
    return look_unconfigured(settings)


def _data(fact: Fact | None) -> Data | None:
    return fact.observation.data if fact is not None else None


# ----------------------------------------------------------------------------------- the difference


def _uncovered(seen: Data) -> list[Data]:
    """Return the databases that no job saves, whether the configuration knows it or not."""
    return [
        one
        for one in seen["databases"]
        if not one["ignored"] and not one["covered_by"] and not one.get("found_jobs")
    ]


def _unwatched(seen: Data) -> list[Data]:
    """Return the databases that only jobs save which are not in the configuration."""
    return [
        one
        for one in seen["databases"]
        if not one["ignored"] and not one["covered_by"] and one.get("found_jobs")
    ]


def _idle(seen: Data) -> list[Data]:
    return [one for one in seen["jobs"] if not one["enabled"] or one.get("never_ran")]


def _as_json(seen: Data, reference: Data | None) -> Data:
    return {
        **seen,
        "uncovered": [_address(one) for one in _uncovered(seen)],
        "not_configured": [_address(one) for one in _unwatched(seen)],
        "disabled_or_never_ran": [f"{one['tool']}/{one['name']}" for one in _idle(seen)],
        "reference": reference,
    }


def _address(one: Data) -> str:
    """Return a database as the configuration would write it."""
    from backupguard.settings.proposal import address

    return address(one)


# --------------------------------------------------------------------------------------- in words


def _show(seen: Data, reference: Data | None) -> None:
    words = common.words()
    if seen["databases"]:
        common.print_table(
            [
                words.text(f"discovery.column.{name}")
                for name in ("engine", "host", "server", "database", "size", "saved")
            ],
            [
                (
                    one["engine"],
                    one["host"],
                    one["server"],
                    one["name"],
                    words.size(one["bytes"]),
                    _saved(one),
                )
                for one in seen["databases"]
            ],
        )
    else:
        common.result("discovery.no-databases")
    print()
    if seen["jobs"]:
        common.print_table(
            [
                words.text(f"discovery.column.{name}")
                for name in ("tool", "job", "state", "last", "configured", "source")
            ],
            [
                (
                    one["tool"],
                    one["name"],
                    _state(one),
                    words.time(from_us(one["last_run_at"])) if one["last_run_at"] else "—",
                    ", ".join(one["configured_as"]) or "—",
                    one.get("source", ""),
                )
                for one in seen["jobs"]
            ],
        )
    else:
        common.result("discovery.no-jobs")
    print()
    _show_difference(seen)
    if reference is not None:
        _show_reference(reference)


def _saved(one: Data) -> str:
    """Return in words what saves a database."""
    words = common.words()
    if one["covered_by"]:
        return ", ".join(one["covered_by"])
    if one["ignored"]:
        return words.text("discovery.ignored")
    if one.get("found_jobs"):
        return words.text("discovery.not-configured", jobs=", ".join(one["found_jobs"]))
    return words.text("discovery.nothing")


def _state(one: Data) -> str:
    words = common.words()
    if not one["enabled"]:
        return words.text("discovery.disabled")
    return words.text("discovery.never-ran" if one.get("never_ran") else "discovery.enabled")


def _show_difference(seen: Data) -> None:
    uncovered = _uncovered(seen)
    _list("discovery.uncovered", map(_address, uncovered))
    _list("discovery.unwatched", map(_address, _unwatched(seen)))
    _list(
        "discovery.missing",
        (_of(one["job"], one["pattern"]) for one in seen.get("missing", ())),
    )
    _list(
        "discovery.idle",
        (_of(f"{one['tool']}/{one['name']}", _state(one)) for one in _idle(seen)),
    )
    _list("discovery.lacking", map(_lack, seen["lacking"]))
    if seen["databases"] and not uncovered:
        only_seen = "discovery.covered-as-far" if seen["lacking"] else "discovery.covered"
        common.result(only_seen, count=len(seen["databases"]))


def _of(name: str, told: str) -> str:
    return common.words().text("inventory.of", name=name, told=told)


def _list(identifier: str, lines: Iterable[str]) -> None:
    several: Sequence[str] = list(lines)
    if several:
        common.result(identifier, count=len(several))
        for line in several:
            print(f"  {common.printable(line)}")


def _lack(one: Data) -> str:
    words = common.words()
    need = words.text(f"discovery.need.{one['code']}", about=one.get("about", one["need"]))
    return _of(one["what"], need)


def _show_reference(reference: Data) -> None:
    common.result(
        "discovery.reference",
        entries=reference["entries"],
        dated_at=reference["dated_at"],
        unmatched=reference["unmatched_total"],
    )
    _list("discovery.unmatched", reference["unmatched"])
    _list("discovery.absent", reference["absent"])
