"""Work of `setup` that root leaves to the service's account, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import typer

from backupguard.cli import common
from backupguard.errors import EXIT_NOT_PROVED, BackupGuardError
from backupguard.model import Json

if TYPE_CHECKING:
    from backupguard.settings import Settings

#: In memory, gone with the next start of the host whatever happens.
_LENT_BELOW = Path("/run")
_LENT = "backupguard-setup-"
#: What ends a process from outside: a closed terminal, a service manager, an administrator.
_ENDINGS = (signal.SIGHUP, signal.SIGTERM)


def looked(work: Callable[[], Json]) -> Json:
    """Return what `work` returns, done by a process that may give up root while we keep it.

    JSON comes back, so that nothing of what it looked at runs here. A child that fails has said why:
    then this call ends with its exit code.
    """
    if os.geteuid() != 0:
        return work()
    answer, tell = os.pipe()
    child = _forked(lambda: _tell(tell, work()), close=answer)
    os.close(tell)
    with os.fdopen(answer, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise typer.Exit(code if code > 0 else EXIT_NOT_PROVED)
    return json.loads(said)


def _tell(pipe: int, answer: Json) -> int:
    with os.fdopen(pipe, "wb") as file:
        file.write(json.dumps(answer).encode())
    return 0


def done(arguments: list[str], environment: Mapping[str, str | None]) -> int:
    """Call one of our own commands in a process of its own; return its exit code.

    Started as root, a command becomes the service's account by itself. `environment` is set on top of
    ours; None takes a variable away.
    """
    from backupguard.cli.main import main

    def work() -> int:
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        return main(arguments)

    child = _forked(work)
    while True:
        try:
            status = os.waitpid(child, 0)[1]
            break
        except KeyboardInterrupt:  # the child was told as well, and ends in order
            continue
        except SystemExit:  # we alone were told: what it lends from is about to go
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else EXIT_NOT_PROVED


def _forked(work: Callable[[], int], close: int | None = None) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = EXIT_NOT_PROVED
    try:
        for number in _ENDINGS:  # what `lent` does of them is its own process's
            if signal.getsignal(number) is _end:
                signal.signal(number, signal.SIG_DFL)
        if close is not None:
            os.close(close)
        code = work()
    except BackupGuardError as error:
        common.show_error(error)
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - nothing of the parent's may run here
        common.show_bug(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = EXIT_NOT_PROVED
        os._exit(code)


@contextmanager
def lent(settings: Settings, secrets: Mapping[str, bytes]) -> Iterator[Path]:
    """Lend secrets to the service's account as systemd would: a directory only it may read.

    It is gone at the end of the block, and when SIGHUP or SIGTERM ends this process; what a killed one
    left is removed by the next.
    """
    root = os.geteuid() == 0
    if root:
        _remove_left()
    before = {number: signal.getsignal(number) for number in _ENDINGS}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:  # nohup(1) ignores one: so do we
            signal.signal(number, _end)
    place = Path(mkdtemp(prefix=f"{_LENT}{os.getpid()}-", dir=_LENT_BELOW if root else None))
    try:
        for name, value in secrets.items():
            handle = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(handle, "wb") as file:
                file.write(value)
        if root:
            owner = settings.state_directory.stat()
            for path in (*place.iterdir(), place):
                os.chown(path, owner.st_uid, owner.st_gid)
        yield place
    finally:
        shutil.rmtree(place)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _remove_left() -> None:
    """Remove what was lent by processes that are dead."""
    for left in _LENT_BELOW.glob(f"{_LENT}*"):
        number = left.name.removeprefix(_LENT).partition("-")[0]
        if not Path("/proc", number).is_dir():
            shutil.rmtree(left, ignore_errors=True)
