"""Until when does a restic repository of 20,000 objects survive? Against a serial HEAD per object.

Both answer the same question of the same bucket on a SeaweedFS on loopback, which shares the machine:
ours with all it does (settings, listing, which packs the snapshot needs by restic, every lock), without
anything remembered; `lock_audit_serial` with a listing and one boto3 HEAD after another. Serial is
measured on all objects as well. `BENCH_SERVER=ceph` asks the second server that the tests know, Ceph's
gateway, instead. What ours takes a second time, when it need not ask again for locks
that nobody can shorten, is printed apart and is not the goal. The repository is what `many_packs` says.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from harness import CHECKOUT, finish, timed
from many_packs import RESTIC, make
from reference.lock_audit_serial import survives_until
from s3_inventory import Peak

from backupguard.contracts import CountsRequests, Credentials, JobSelector, SecretReference
from backupguard.demo.s3_server import S3Server, running
from backupguard.repositories.restic import RESTIC as TYPE
from backupguard.repositories.restic_settings import ResticSettings
from backupguard.testing import context

OBJECTS = int(os.environ.get("BENCH_OBJECTS", "20000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
GOAL = 8.0
MEMORY_GOAL_MIB = 50
BUCKET = "hospital"
#: Which server is asked, and by which of its identities.
SERVER = os.environ.get("BENCH_SERVER", "seaweedfs")
AUDITOR = {"seaweedfs": "auditor", "ceph": "admin"}[SERVER]
#: Of the objects, those that are no packs of data: configuration, key, index, snapshot, pack of trees.
OTHERS = 5


def serving(directory: Path) -> AbstractContextManager[S3Server]:
    """Return the server, to be started in a directory."""
    if SERVER == "seaweedfs":
        return running(directory)
    sys.path.insert(0, str(CHECKOUT))
    from tests.integration.repositories import ceph

    return ceph.running(directory)


def fill(server: S3Server, repository: Path) -> None:
    """Put a repository into a bucket that locks what it gets for thirty days."""
    client = server.client()
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}
    client.put_object_lock_configuration(
        Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )

    def put(path: Path) -> None:
        key = f"dpi/{path.relative_to(repository)}"
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())

    with ThreadPoolExecutor(16) as pool:
        files = [path for path in repository.rglob("*") if path.is_file()]
        for _ in pool.map(put, files, chunksize=100):
            pass


class Audit:
    """Ours, over and over; what it remembers is thrown away before each cold run."""

    def __init__(self, directory: Path, server: S3Server) -> None:
        self.directory = directory
        keys = directory / "keys.ini"
        keys.write_text(server.credentials(AUDITOR))
        self.settings = ResticSettings(
            type="restic",
            url=f"s3:{server.endpoint}/{BUCKET}/dpi",
            program=RESTIC,
            credentials=Credentials(
                reader=SecretReference(file=directory / "password"),
                backend=SecretReference(file=keys),
            ),
        )
        self.runs = 0
        self.here = context(directory / "context-0")
        self.requests: dict[str, int] = {}
        with TYPE.open("cloud", self.settings, self.here) as repository:
            (self.point,) = repository.points((JobSelector(job="dpi.nightly", application="dpi"),))

    def cold(self) -> None:
        """Look as if for the first time."""
        self.runs += 1
        self.here = context(self.directory / f"context-{self.runs}")
        self.look()

    def look(self) -> None:
        """Look, with whatever is remembered."""
        with TYPE.open("cloud", self.settings, self.here) as repository:
            (found,) = repository.protection([self.point])
            assert isinstance(repository, CountsRequests)
            self.requests = dict(repository.requests())
        assert found.locked_until is not None
        assert (found.objects, found.unlocked, found.exact) == (OBJECTS, 0, True), found


def main() -> int:
    """Measure, and say whether the goals are reached."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory(prefix="bg-") as name, serving(Path(name) / "s3") as server:
        directory = Path(name)
        fill(server, make(directory, OBJECTS - OTHERS))
        audit = Audit(directory, server)
        client = server.client(AUDITOR)

        def serial() -> None:
            end, count = survives_until(client, BUCKET, "dpi/")
            assert end is not None
            assert count == OBJECTS, count

        with Peak() as peak:
            audit.cold()
        heads, lists = audit.requests["HeadObject"], audit.requests["ListObjectVersions"]
        ratios = []
        for _ in range(ROUNDS):
            slow, quick = timed(serial), timed(audit.cold)
            again = timed(audit.look)
            ratios.append(slow / quick)
            print(
                f"  serial {slow:7.2f} s   ours {quick:6.2f} s   ratio {slow / quick:5.2f}"
                f"   ours a second time {again:5.2f} s"
            )
    print(f"  {OBJECTS} objects, {heads} HEAD and {lists} listings; memory +{peak.mib:.1f} MiB")
    reached = finish("lock-audit", statistics.median(ratios), GOAL, at_least=True)
    return reached or int(peak.mib > MEMORY_GOAL_MIB) or int(heads > OBJECTS)


if __name__ == "__main__":
    sys.exit(main())
