"""`backupguard setup`: looks at this host and writes a first configuration, for people to complete."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, BinaryIO
from zoneinfo import ZoneInfo

import typer

from backupguard.cli import common
from backupguard.errors import UsageError
from backupguard.model import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

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
) -> None:
    """Look for databases and backup jobs on this host, and write a first configuration of them.

    A configuration that says something is never touched. What is written passes `config check`.
    """
    from backupguard.settings.loading import config_path
    from backupguard.settings.presence import says_nothing

    path = config_path(common.options().config, os.environ).absolute()
    if not says_nothing(path):
        raise UsageError(
            "usage",
            Message(id="setup.exists", values={"path": str(path)}),
            remedy=Message(id="setup.add"),
        )
    site = _site(name, timezone, ask=not non_interactive)
    new = not path.exists()
    # Opened before root is given up: nothing looks around this host as root.
    target = _opened(path)
    written = False
    try:
        with target:
            written = _written(path, site, target)
    finally:
        if not written and new:
            _remove(path)


def _opened(path: Path) -> BinaryIO:
    """Open the file that is to be written, and change nothing of it yet."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        values: dict[str, int | str] = {"path": str(path), "why": error.strerror or ""}
        raise UsageError("usage", Message(id="setup.cannot-write", values=values)) from error
    return os.fdopen(handle, "r+b")


def _remove(path: Path) -> None:
    """Take away the empty file of a setup that failed; one without the right leaves it empty."""
    try:
        path.unlink()
    except OSError:
        return


def _site(name: str | None, timezone: str | None, *, ask: bool) -> Mapping[str, str]:
    """Return the keys of `[site]`: what options say, what people answer, what the host says."""
    if ask and not sys.stdin.isatty():
        raise UsageError("usage", Message(id="setup.no-terminal"))
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
    return zone if "/" in zone else _FALLBACK_ZONE  # "UTC" is what nobody has set


def _written(path: Path, site: Mapping[str, str], target: BinaryIO) -> bool:
    from backupguard.daemon.discovery import look_unconfigured
    from backupguard.daemon.log import configure
    from backupguard.settings.proposal import defaults, proposal

    configure(quiet=not common.options().verbose)
    settings = defaults()
    common.become_owner(settings)
    seen = look_unconfigured(settings)
    text = proposal(seen, None, site=site)
    loaded = _checked(text)
    target.truncate(0)
    target.write(text.encode())
    target.flush()
    os.fsync(target.fileno())
    common.use_settings(loaded.settings)
    _tell(path, seen, loaded)
    return True


def _checked(text: str) -> Loaded:
    """Load a configuration as the daemon would; raises ConfigurationError."""
    from backupguard.settings import load_located

    with TemporaryDirectory(prefix="backupguard-") as place:
        file = Path(place) / "backupguard.toml"
        file.write_text(text, encoding="utf-8")
        return load_located(file, environ={}, check_secrets=False)


def _tell(path: Path, seen: Mapping[str, list[object]], loaded: Loaded) -> None:
    from backupguard.resources import shipped
    from backupguard.settings.rules import references_to_secrets

    common.say("setup.found", databases=len(seen["databases"]), jobs=len(seen["jobs"]))
    if seen["lacking"]:
        common.say("setup.lacking", count=len(seen["lacking"]), path=str(path))
    common.say("setup.written", path=str(path))
    if not loaded.settings.repositories:
        common.say("setup.nothing-found", path=str(path), example=str(shipped("backupguard.toml")))
    secrets = list(references_to_secrets(loaded.merged.data))
    if secrets:
        common.say("setup.credential", count=len(secrets))
    common.say("setup.next")
