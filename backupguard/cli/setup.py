"""`backupguard setup`: from a host nobody has configured to a first restore test.

It looks at the host, writes a first configuration for people to complete, puts down the credentials
that it names, checks it and restores something. Credentials are there before the configuration, and
each file is whole or not there: killed at any moment, it can be called again.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from backupguard.cli import common, setup_apart, setup_credentials, setup_files
from backupguard.errors import EXIT_DONE, UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.settings import Loaded

_FALLBACK_ZONE = "Europe/Paris"


def setup(
    non_interactive: Annotated[
        bool, typer.Option("--non-interactive", help="Ask nothing; take what the host says.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The site's name; left out: this host's.", show_default=False)
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Its time zone; left out: this host's.", show_default=False)
    ] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="A credential's value: a file, or - (may be repeated)."
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete", help="Keep the configuration: put down the credentials it lacks, test."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written, and change nothing.")
    ] = False,
    no_restore_test: Annotated[
        bool, typer.Option("--no-restore-test", help="Restore nothing at the end.")
    ] = False,
) -> int:
    """Look for databases and backup jobs on this host, and write a first configuration of them.

    A configuration or credential that is there is never touched. Then everything is checked, and one
    application is restored: the exit code is that test's, 0 where there was nothing to restore.
    """
    from backupguard.settings.loading import config_path
    from backupguard.settings.presence import says_nothing

    path = config_path(common.options().config, os.environ).absolute()
    _refuse_wrong_moment(path, empty=says_nothing(path), complete=complete)
    if not non_interactive and not sys.stdin.isatty():
        raise UsageError("usage", Message(id="setup.no-terminal"))
    values = setup_credentials.given(credential or [])
    if complete:
        plan = _existing(path)
    else:
        site = _site(name, timezone, ask=not non_interactive)
        if not dry_run:
            setup_files.refuse_unwritable(path)
        plan = _proposed(site)
    common.use_settings(plan.loaded.settings)
    wanted = setup_credentials.needed(plan.loaded)
    setup_credentials.refuse_unknown(values, wanted)
    place = setup_credentials.Place(path.parent / "credentials")
    if dry_run:
        return _shown(path, plan, place, wanted)
    lacking = [one for one in wanted if not place.has(one.name)]
    if not non_interactive:
        values |= setup_credentials.asked([one for one in lacking if one.name not in values])
    _put_down(path, plan, place, wanted, values)
    return _tried(path, plan, place, wanted, restore_test=not no_restore_test)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A configuration: as it was loaded, its text where it is new, and what was seen of the host."""

    loaded: Loaded
    text: str | None = None
    seen: Mapping[str, Any] | None = None


def _refuse_wrong_moment(path: Path, *, empty: bool, complete: bool) -> None:
    values: dict[str, int | str] = {"path": str(path)}
    if not empty and not complete:
        message = Message(id="setup.exists", values=values)
        raise UsageError("usage", message, remedy=Message(id="setup.add"))
    if empty and complete:
        raise UsageError("usage", Message(id="setup.nothing-to-complete", values=values))


# ------------------------------------------------------------------------------- what is configured


def _existing(path: Path) -> _Plan:
    """Return the configuration that is there; raises ConfigurationError."""
    from backupguard.settings import load_located

    return _Plan(loaded=load_located(path, check_secrets=False))


def _proposed(site: Mapping[str, str]) -> _Plan:
    """Look around, and return a configuration of what was seen that passes its check."""
    from backupguard.settings import load_located
    from backupguard.settings.proposal import proposal

    # Nothing looks around this host as root.
    seen = setup_apart.looked(_look)
    text = proposal(seen, None, site=site)
    with TemporaryDirectory(prefix="backupguard-") as name:
        file = Path(name) / "backupguard.toml"
        file.write_text(text, encoding="utf-8")
        loaded = load_located(file, environ={}, check_secrets=False)
    return _Plan(loaded=loaded, text=text, seen=seen)


def _look() -> Mapping[str, Any]:
    from backupguard.daemon.discovery import look_unconfigured
    from backupguard.daemon.log import configure
    from backupguard.settings.proposal import defaults

    configure(quiet=not common.options().verbose)
    settings = defaults()
    common.become_owner(settings)
    return look_unconfigured(settings)


def _site(name: str | None, timezone: str | None, *, ask: bool) -> Mapping[str, str]:
    """Return the keys of `[site]`: what options say, what people answer, what the host says."""
    words = common.words()
    zone, language = timezone or _host_zone(), common.language()
    if ask:
        name = name or typer.prompt(words.text("setup.ask-name"), default=socket.gethostname())
        language = typer.prompt(words.text("setup.ask-language"), default=language)
        zone = timezone or typer.prompt(words.text("setup.ask-timezone"), default=zone)
    if language not in list(common.Language):
        raise UsageError("usage", Message(id="setup.bad-language", values={"language": language}))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        values: dict[str, int | str] = {"timezone": zone}
        raise UsageError("usage", Message(id="setup.bad-timezone", values=values)) from error
    return {"name": name or socket.gethostname(), "timezone": zone, "language": language}


def _host_zone() -> str:
    """Return this host's time zone, as localtime(5) links to it."""
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return _FALLBACK_ZONE
    zone = target.partition("zoneinfo/")[2]
    # "UTC" and "Etc/UTC" are what nobody has set.
    return zone if "/" in zone and not zone.startswith("Etc/") else _FALLBACK_ZONE


# ------------------------------------------------------------------------------------ what is written


def _is_the_services(path: Path) -> bool:
    from backupguard.settings.loading import DEFAULT_PATH

    return path == DEFAULT_PATH


def _shown(
    path: Path,
    plan: _Plan,
    place: setup_credentials.Place,
    wanted: Sequence[setup_credentials.Needed],
) -> int:
    if plan.text is not None:
        print(plan.text, end="")
    for one in wanted:
        there = "there" if place.has(one.name) else "lacking"
        common.say(f"setup.credential-{there}", name=one.name, use=one.uses[0])
    if plan.text is not None:
        common.say("setup.would-write", path=str(path))
    return EXIT_DONE


def _put_down(
    path: Path,
    plan: _Plan,
    place: setup_credentials.Place,
    wanted: Sequence[setup_credentials.Needed],
    values: Mapping[str, bytes],
) -> None:
    """Write credentials, the drop-in that hands them over, and the configuration last."""
    from backupguard.settings.presence import says_nothing

    new = {name: value for name, value in values.items() if not place.has(name)}
    for name in values.keys() - new.keys():
        common.say("setup.credential-kept", name=name)
    for made in setup_credentials.store(place, new):
        sealed = made.suffix == ".cred"
        common.say("setup.sealed" if sealed else "setup.credential-written", path=str(made))
    if _is_the_services(path):
        drop_in = setup_credentials.hand_over(place, wanted)
        if drop_in is not None:
            common.say("setup.handed-over", path=str(drop_in))
        if not setup_credentials.taken_note_of():
            common.say("setup.not-reloaded")
    elif any(place.has(one.name) for one in wanted):
        common.say("setup.no-service", directory=str(place.directory))
    if plan.text is None:
        return
    _refuse_wrong_moment(path, empty=says_nothing(path), complete=False)  # asking took its time
    setup_files.put(path, plan.text.encode(), mode=0o644)
    _tell_written(path, plan)


def _tell_written(path: Path, plan: _Plan) -> None:
    from backupguard.resources import shipped

    seen = plan.seen or {}
    common.say("setup.found", databases=len(seen["databases"]), jobs=len(seen["jobs"]))
    if seen["lacking"]:
        common.say("setup.lacking", count=len(seen["lacking"]), path=str(path))
    common.say("setup.written", path=str(path))
    if not plan.loaded.settings.repositories:
        common.say("setup.nothing-found", path=str(path), example=str(shipped("backupguard.toml")))


# -------------------------------------------------------------------------------------- what is tried


def _tried(
    path: Path,
    plan: _Plan,
    place: setup_credentials.Place,
    wanted: Sequence[setup_credentials.Needed],
    *,
    restore_test: bool,
) -> int:
    """Check the configuration with its credentials, restore one application, tell what is left."""
    from backupguard.daemon import client
    from backupguard.settings import load_located

    settings = load_located(path, check_secrets=False).settings  # as commands will find it
    setup_apart.looked(lambda: common.become_owner(settings))  # the state directory is there now
    found = {one.name: place.value(one.name) for one in wanted}
    secrets = {name: value for name, value in found.items() if value is not None}
    before = ["--config", str(path), *(["--quiet"] if common.options().quiet else [])]
    alive = client.daemon_alive(settings)
    with setup_apart.lent(settings, secrets) as directory:
        lent = {"CREDENTIALS_DIRECTORY": str(directory)}
        # Without all of them, only what can be checked is: those that lack are told below.
        whole = len(secrets) == len(wanted)
        code = setup_apart.done(
            [*before, "config", "check"], lent if whole else {"CREDENTIALS_DIRECTORY": None}
        )
        if code == EXIT_DONE and restore_test and not alive:
            application = _restorable(plan, secrets)
            if application is None:
                common.say("setup.nothing-to-restore")
            else:
                common.say("setup.restoring", application=application)
                code = setup_apart.done([*before, "restore-test", application], lent)
    for one in wanted:
        if one.name not in secrets:
            common.say("setup.credential-lacking", name=one.name, use=one.uses[0])
    if wanted and len(secrets) < len(wanted):
        common.say("setup.complete-later")
    if alive:
        common.say("setup.restart")
    elif _is_the_services(path):
        common.say("setup.next")
    else:
        common.say("setup.next-elsewhere", path=str(path))
    return code


def _restorable(plan: _Plan, secrets: Mapping[str, bytes]) -> str | None:
    """Return an application whose copies can all be opened, one with a known database first."""
    data = plan.loaded.merged.data.get("repositories", {})

    def opens(repository: str) -> bool:
        credentials = data.get(repository, {}).get("credentials", {})
        uses = (credentials.get("reader"), credentials.get("backend"))
        named = [use["credential"] for use in uses if isinstance(use, dict) and "credential" in use]
        return all(name in secrets for name in named)

    able = [
        (not any(job.covers for job in owner.backups.values()), number, name)
        for number, (name, owner) in enumerate(plan.loaded.settings.applications.items())
        if owner.backups and all(opens(job.repository) for job in owner.backups.values())
    ]
    return min(able)[2] if able else None
