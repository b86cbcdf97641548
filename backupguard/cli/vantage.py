"""`backupguard vantage`: what a vantage point in production needs: the program, its file, its key."""

from __future__ import annotations

import os
import secrets
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.errors import AccessRefused, UsageError
from backupguard.model import Message

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_KEY_BYTES = 32
_KEY_FILE = "/etc/backupguard-vantage/key"


@app.command()
def config(
    vantage: Annotated[str, typer.Argument(metavar="ID", help="The vantage point's id.")],
    url: Annotated[
        str | None,
        typer.Option(help="Where it reports: https://HOST/api/v1/vantage; else [isolation] url."),
    ] = None,
    key_file: Annotated[str, typer.Option(help="Where its key will lie there.")] = _KEY_FILE,
) -> int:
    """Print the configuration of a vantage point, as JSON: give it again when targets change."""
    from backupguard.settings.isolation import wanted

    settings = common.settings()
    known = settings.isolation.vantages.get(vantage)
    if known is None:
        raise UsageError("unknown_subject", subject=f"vantage/{vantage}")
    place = url or settings.isolation.url
    if place is None or not place.startswith(("http://", "https://")):
        raise UsageError("usage", Message(id="vantage.no-url"))
    targets: dict[str, dict[str, list[str | int]]] = {}
    for target, host, port in wanted(settings.isolation, vantage, settings.repositories):
        one = targets.setdefault(target, {"hosts": [], "ports": []})
        one["hosts"] += [host] if host not in one["hosts"] else []
        one["ports"] += [port] if port not in one["ports"] else []
    common.print_json(
        {
            "version": 1,
            "vantage": vantage,
            "url": place,
            "witness": known.witness,
            "key-file": key_file,
            "max-age-s": int(known.max_age.total_seconds()),
            "targets": targets,
        }
    )
    return 0


@app.command()
def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
) -> int:
    """Make a key for a vantage point, in a new file that nobody else may read.

    The same file goes to the vantage point and to this host; one key per vantage point.
    """
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        message = Message(id="vantage.key-exists", values={"file": str(file)})
        raise UsageError("usage", message) from error
    except OSError as error:
        raise AccessRefused("permission", name=str(file)) from error
    with os.fdopen(handle, "w", encoding="ascii") as written:
        written.write(secrets.token_hex(_KEY_BYTES) + "\n")
    common.say("vantage.key-made", file=str(file))
    return 0


@app.command()
def program() -> int:
    """Print the program of a vantage point: one file, Python 3.7 or later, nothing to install."""
    text = resources.files("probes").joinpath("isolation_vantage.py").read_text(encoding="utf-8")
    print(text, end="")
    return 0
