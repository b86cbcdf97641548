"""`backupguard state`: BackupGuard's own state, taken elsewhere and brought back."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
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
    file: Annotated[
        Path, typer.Argument(help="The file to make; one that exists must be yours and empty.")
    ],
) -> None:
    """Write store, signing key and reports to one file, while no daemon is alive.

    The chain of evidence is verified on the way. Whoever holds the file can sign as this site:
    keep it as you keep the keys of the backups. The configuration in /etc is not in it.
    """
    settings = common.settings()
    # Opened before root is given up: the file may lie where only root may write.
    handle = _opened(file)
    try:
        common.become_owner(settings)
        from backupguard.state import export_state

        with os.fdopen(handle, "wb", closefd=False) as target:
            manifest = export_state(
                settings.state_directory, settings.store.url, target, datetime.now(UTC)
            )
    except BaseException:
        # Through the descriptor: what root opened can no longer be reached by its name.
        with suppress(OSError):
            os.ftruncate(handle, 0)
        with suppress(OSError):
            file.unlink()
        raise
    finally:
        os.close(handle)
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


def _opened(file: Path) -> int:
    """Open the file of an export and hold it: a new one, or an empty one that only we can reach.

    An empty one is what a refused export leaves where only root may write.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            handle, new = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o600), True
        except FileExistsError:
            handle, new = os.open(file, flags), False
        try:
            _hold(handle)
            if not new and not _is_empty_and_ours(os.fstat(handle)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        except OSError:
            os.close(handle)
            raise
    except OSError as error:
        raise _refused(file, error) from error
    return handle


def _hold(handle: int) -> None:
    """Be the only export to this file: one that is refused would empty the other's."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # a share that knows no locks


def _is_empty_and_ours(found: os.stat_result) -> bool:
    private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return stat.S_ISREG(found.st_mode) and private and found.st_size == 0 and found.st_nlink == 1


def _refused(file: Path, error: OSError) -> UsageError:
    values: dict[str, int | str] = {"file": str(file), "why": error.strerror or ""}
    return UsageError("usage", Message(id="state.file", values=values))
