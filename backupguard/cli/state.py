"""`backupguard state`: BackupGuard's own state, taken elsewhere and brought back."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from backupguard.cli import common
from backupguard.errors import UsageError
from backupguard.model import Message

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="The file to make; it must not exist.")],
) -> None:
    """Write store, signing key and reports to one file, while no daemon is alive.

    The chain of evidence is verified on the way. Whoever holds the file can sign as this site:
    keep it as you keep the keys of the backups. The configuration in /etc is not in it.
    """
    settings = common.settings()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Opened before root is given up: the file may lie where only root may write.
        target = os.fdopen(os.open(file, flags, 0o600), "wb")
    except OSError as error:
        raise _refused(file, error) from error
    done = False
    try:
        common.become_owner(settings)
        from backupguard.state import export_state

        with target:
            manifest = export_state(
                settings.state_directory, settings.store.url, target, datetime.now(UTC)
            )
        done = True
    finally:
        if not done:
            with suppress(OSError):
                os.truncate(file, 0)
            with suppress(OSError):
                file.unlink()
    common.say(
        "state.exported",
        file=str(file),
        files=len(manifest.files),
        seq=manifest.head_seq,
        total_bytes=manifest.size,
    )


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `state export` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Set the state that exists aside.")
    ] = False,
) -> None:
    """Put an exported state in place, while no daemon is alive, after every byte was checked."""
    settings = common.settings()
    try:
        source = file.open("rb")
    except OSError as error:
        raise _refused(file, error) from error
    common.become_owner(settings)
    from backupguard.state import import_state

    with source:
        manifest, aside = import_state(
            settings.state_directory,
            settings.store.url,
            source,
            datetime.now(UTC),
            replace=replace,
        )
    if aside is not None:
        common.say("state.aside", path=str(aside))
    common.say(
        "state.imported",
        host=manifest.host,
        seq=manifest.head_seq,
        exported=common.words().time(datetime.fromisoformat(manifest.exported_at)),
    )


def _refused(file: Path, error: OSError) -> UsageError:
    values: dict[str, int | str] = {"file": str(file), "why": error.strerror or ""}
    return UsageError("usage", Message(id="state.file", values=values))
