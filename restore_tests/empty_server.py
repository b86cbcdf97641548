"""An empty server's data: made once by the server's own program, then unpacked from a copy.

Making one takes most of a second, unpacking its result a tenth of that. The copy is packed before the
sandbox that made it has run a byte of any dump, lies in BackupGuard's own cache, and reaches a sandbox
as its standard input only: what was restored can read it and never change it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from uuid import uuid4

from backupguard.contracts import Trial
from backupguard.errors import MissingMeans

_LARGEST = 512 << 20


def put_empty_server(
    trial: Trial,
    argv: Sequence[str],
    *,
    name: str,
    data: PurePosixPath,
    made_with: Iterable[Path],
    environment: Mapping[str, str],
    timeout_s: int,
) -> None:
    """Put an empty server's data into `data` below `/scratch`, as `argv` makes it.

    `name` tells the copies of one version from those of others; `made_with` are the files that another
    copy is needed after any change of. Raise MissingMeans (server_refused) when it cannot be made.
    """
    kept = trial.context.remember("empty-servers") / f"{name}-{_identity(argv, made_with)}.tar"
    sandbox = trial.sandbox
    if kept.is_file():
        done = sandbox.run(
            ["tar", "-xpf", "-", "-C", "/scratch"],
            scratch=True,
            stdin=kept,
            environment=environment,
            timeout_s=timeout_s,
        )
        if done.returncode == 0:
            return
        kept.unlink(missing_ok=True)
        sandbox.run(["rm", "-rf", str(data)], scratch=True, timeout_s=timeout_s)
    done = sandbox.run(argv, scratch=True, environment=environment, timeout_s=timeout_s)
    if done.returncode != 0:
        program = PurePosixPath(argv[0]).name
        raise MissingMeans("server_refused", program=program, status=done.returncode)
    packed = sandbox.run(
        ["tar", "-Scf", "-", "-C", "/scratch", data.name],
        scratch=True,
        environment=environment,
        timeout_s=timeout_s,
        output_limit=_LARGEST,
    )
    if packed.returncode == 0 and not packed.truncated:
        with suppress(OSError):  # a full disk costs the next test a second
            _keep(kept, packed.stdout, name)


def _identity(argv: Sequence[str], made_with: Iterable[Path]) -> str:
    identity = list(argv)
    for path in made_with:
        with suppress(FileNotFoundError):
            status = path.stat()
            identity.append(f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]


def _keep(path: Path, packed: bytes, name: str) -> None:
    """Put the copy in place at once or not at all, and remove older ones of the same version."""
    unfinished = path.with_name(f"{uuid4().hex}.part")
    try:
        unfinished.write_bytes(packed)
        os.replace(unfinished, path)  # noqa: PTH105
    finally:
        unfinished.unlink(missing_ok=True)
    for other in path.parent.glob(f"{name}-*.tar"):
        if other != path:
            other.unlink(missing_ok=True)
