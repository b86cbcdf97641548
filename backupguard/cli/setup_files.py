"""Files that `setup` makes: whole or not at all, whenever it is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backupguard.errors import UsageError
from backupguard.model import Message


def cannot_write(path: Path, why: str) -> UsageError:
    """Return the error of a file that cannot be made."""
    values: dict[str, int | str] = {"path": str(path), "why": why}
    return UsageError("usage", Message(id="setup.cannot-write", values=values))


def refuse_unwritable(path: Path) -> None:
    """Raise UsageError unless a file can be put there; nothing is made."""
    if path.is_symlink():
        raise cannot_write(path, os.strerror(40))  # ELOOP: whoever linked it manages it elsewhere
    place = next(parent for parent in path.parents if parent.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise cannot_write(path, os.strerror(30 if os.geteuid() == 0 else 13))  # EROFS, EACCES


def put(path: Path, content: bytes, *, mode: int, directory_mode: int = 0o755) -> None:
    """Put a file in place of what is there, or where nothing is; it keeps the mode that it had.

    A kill leaves what was there, or all of the new file. Raises UsageError.
    """
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode & 0o777
    _made(path, content, mode, directory_mode, os.replace)


def add(path: Path, content: bytes, *, mode: int, directory_mode: int) -> None:
    """Make a file that must not exist: another's is never replaced. Raises UsageError."""
    _made(path, content, mode, directory_mode, _link)


def _link(made: Path, path: Path) -> None:
    os.link(made, path)
    made.unlink()


def _made(
    path: Path,
    content: bytes,
    mode: int,
    directory_mode: int,
    place: Callable[[Path, Path], None],
) -> None:
    made = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=directory_mode, parents=True, exist_ok=True)
        made.unlink(missing_ok=True)  # of one that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(made, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        place(made, path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        with suppress(OSError):
            made.unlink()
        raise cannot_write(path, error.strerror or "") from error
