"""An empty PostgreSQL cluster: made once by `initdb` in a sandbox, unpacked from a copy after that.

`initdb` takes 0.8 s, unpacking its result 0.1 s. The copy is packed before the sandbox that made it has
run a byte of any dump, lies in BackupGuard's own cache, and reaches a sandbox as its standard input
only: what was restored can read it and never change it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from backupguard.contracts import Trial
from backupguard.errors import MissingMeans

DATA = "/scratch/data"
_CACHE = "postgresql-clusters"
_LARGEST = 256 << 20
#: What an empty cluster is made of besides the programs: it lists the host's locales.
_LOCALES = (Path("/usr/lib/locale"), Path("/usr/lib/locale/locale-archive"))


def make_cluster(
    trial: Trial,
    programs: Path,
    *,
    superuser: str,
    environment: Mapping[str, str],
    timeout_s: int,
) -> None:
    """Put an empty cluster of these programs into `/scratch/data`.

    Raise MissingMeans (server_refused) when `initdb` cannot make one.
    """
    kept = trial.context.remember(_CACHE) / f"{_name(programs, superuser)}.tar"
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
        sandbox.run(["rm", "-rf", DATA], scratch=True, timeout_s=timeout_s)
    done = sandbox.run(
        [
            *(str(programs / "initdb"), "--pgdata", DATA, "--username", superuser),
            *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        scratch=True,
        environment=environment,
        timeout_s=timeout_s,
    )
    if done.returncode != 0:
        raise MissingMeans("server_refused", program="initdb", status=done.returncode)
    packed = sandbox.run(
        ["tar", "-cf", "-", "-C", "/scratch", Path(DATA).name],
        scratch=True,
        environment=environment,
        timeout_s=timeout_s,
        output_limit=_LARGEST,
    )
    if packed.returncode == 0 and not packed.truncated:
        with suppress(OSError):  # a full disk costs the next test 0.7 s
            _keep(kept, packed.stdout)


def _name(programs: Path, superuser: str) -> str:
    """Return the name of the copy: another one after every change of what it was made with."""
    made_with = [programs / "postgres", programs / "initdb", *_LOCALES]
    identity = [str(programs), superuser]
    for path in made_with:
        with suppress(FileNotFoundError):
            status = path.stat()
            identity.append(f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()
    return f"{programs.parent.name}-{digest[:32]}"


def _keep(path: Path, packed: bytes) -> None:
    """Put the copy in place at once or not at all, and remove older ones of the same version."""
    unfinished = path.with_name(f"{uuid4().hex}.part")
    try:
        unfinished.write_bytes(packed)
        os.replace(unfinished, path)  # noqa: PTH105
    finally:
        unfinished.unlink(missing_ok=True)
    version = path.name.partition("-")[0]
    for other in path.parent.glob(f"{version}-*.tar"):
        if other != path:
            other.unlink(missing_ok=True)
