"""A real S3 server on loopback, SeaweedFS: versions, Object Lock, identities with fewer rights.

The demonstration keeps a copy there, and the tests use it as well.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupguard.errors import MissingMeans
from backupguard.model import Message

#: The identities there are unless others are asked for.
RIGHTS: Mapping[str, Sequence[str]] = {
    "admin": ["Admin", "Read", "Write", "List", "Tagging"],
    "writer": ["Read", "Write", "List"],
    "reader": ["Read", "List"],
    # What a reader needs who is to see locks as well.
    "auditor": [
        *("Read", "List", "GetBucketObjectLockConfiguration", "GetObjectRetention"),
        "GetObjectLegalHold",
    ],
}
_WITHIN_S = 60.0
_STARTS = 3


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. Each identity's access key is its name, its secret key "NAME-secret".

    `argv` and `environment` start it again.
    """

    endpoint: str
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def credentials(self, identity: str) -> str:
        """Return a shared credentials file."""
        return (
            f"[default]\naws_access_key_id = {identity}\n"
            f"aws_secret_access_key = {identity}-secret\n"
        )

    def client(self, identity: str = "admin") -> Any:
        """Return a boto3 client of an identity."""
        from boto3.session import Session
        from botocore.config import Config

        return Session(identity, f"{identity}-secret", region_name="us-east-1").client(
            "s3",
            endpoint_url=self.endpoint,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
        )


def program() -> Path:
    """Return SeaweedFS' program, which the extra `demo` puts beside the interpreter.

    Raises MissingMeans (program_missing).
    """
    found = Path(sys.executable).with_name("weed")
    if not found.exists():
        remedy = Message(id="demo.install_extra")
        raise MissingMeans("program_missing", remedy=remedy, program="weed", package="demo")
    return found


def _free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those 10,000 above, which the server takes for itself."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1] % 20_000 + 20_000
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@contextmanager
def running(
    directory: Path, *, keep: bool = False, rights: Mapping[str, Sequence[str]] = RIGHTS
) -> Iterator[S3Server]:
    """Run a server whose files lie in `directory`, which is removed afterwards unless `keep`.

    `rights` says which identities there are and what each may do, in SeaweedFS' words.
    Raises MissingMeans (program_missing, server_refused).
    """
    directory.mkdir(parents=True)
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
            "actions": list(actions),
        }
        for name, actions in rights.items()
    ]
    try:
        made, process = _started(directory, json.dumps({"identities": identities}))
        try:
            yield made
        finally:
            _end(process)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _started(directory: Path, identities: str) -> tuple[S3Server, subprocess.Popen[bytes]]:
    """Start the server; anew with other ports where another program was quicker to take one."""
    log = directory / "log"
    for left in reversed(range(_STARTS)):
        shutil.rmtree(directory)  # what was begun remembers its ports
        directory.mkdir()
        (directory / "s3.json").write_text(identities)
        made = _server(directory)
        with log.open("wb") as output:
            process = subprocess.Popen(
                made.argv,
                env=os.environ | made.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
            )
        try:
            _wait(made, process, log)
        except BaseException as error:
            ended = process.poll() is not None
            _end(process)
            if not (ended and left and isinstance(error, MissingMeans)):
                raise
        else:
            break
    return made, process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it does not end on one SIGTERM
    process.wait()


def _server(directory: Path) -> S3Server:
    s3, master, volume, filer = _free_ports(4)
    return S3Server(
        endpoint=f"http://127.0.0.1:{s3}",
        argv=(
            *(str(program()), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-dir={directory}", "-s3", f"-s3.port={s3}", "-s3.iam=false"),
            # Each has a port that is the same for all servers of a host.
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-s3.config={directory}/s3.json", f"-master.port={master}"),
            *(f"-volume.port={volume}", f"-filer.port={filer}", "-volume.max=500"),
            *("-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
        ),
        # Without it each bucket takes seven volumes.
        environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
    )


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something can be stored: the port answers long before."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()
    until = time.monotonic() + _WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="x", Body=b"x")
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > until:
                raise MissingMeans("server_refused", name=str(log)) from None
            time.sleep(0.2)
        else:
            return
