"""Inventory of a bucket: 100,000 object versions against a bare paginated `list_object_versions` loop.

Ours is the listing as the inventory probe goes through it, from opening the repository to its last
point. Both use boto3 against a SeaweedFS on loopback. Memory is how much the resident set of this
process rises at most while ours runs, after one listing by the bare loop warmed the library up.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from harness import alternate, finish

from backupguard.contracts import Credentials, JobSelector, SecretReference
from backupguard.demo.s3_server import S3Server, running
from backupguard.repositories.s3 import S3
from backupguard.repositories.s3_settings import S3Settings
from backupguard.testing import context

VERSIONS = int(os.environ.get("BENCH_VERSIONS", "100000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MEMORY_GOAL_MIB = 50
BUCKET = "hospital"


def fill(server: S3Server) -> None:
    """Put objects with two versions each: dumps of a hundred jobs, by the second."""
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})

    def put(number: int) -> None:
        second = number // 2
        key = f"dumps/dpi-202603{second // 43200 + 1:02}-{second % 43200 // 3600:02}"
        key += f"{second // 60 % 60:02}{second % 60:02}.dump"
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(put, range(VERSIONS), chunksize=100):
            pass


class Peak:
    """The highest resident set of this process while the block runs, in MiB above its beginning."""

    def __enter__(self) -> Peak:
        self.process = psutil.Process()
        self.before = self.highest = self.process.memory_info().rss
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.02):
            self.highest = max(self.highest, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    @property
    def mib(self) -> float:
        """How much it rose."""
        return (self.highest - self.before) / (1 << 20)


def main() -> int:
    """Measure, and say whether both goals are reached."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory(prefix="bg-") as name, running(Path(name) / "s3") as server:
        directory = Path(name)
        fill(server)
        keys = directory / "keys.ini"
        keys.write_text(server.credentials("reader"))
        settings = S3Settings(
            type="s3",
            endpoint=server.endpoint,
            bucket=BUCKET,
            prefix="dumps/",
            timezone="Europe/Paris",
            credentials=Credentials(reader=SecretReference(file=keys)),
        )
        job = JobSelector(job="dpi.nightly", application="dpi", pattern="dpi-%Y%m%d-%H%M%S.dump")
        here = context(directory / "context")
        reader = server.client("reader")

        def bare() -> None:
            pages = reader.get_paginator("list_object_versions").paginate(
                Bucket=BUCKET, Prefix="dumps/dpi-"
            )
            found = sum(len(page.get("Versions", ())) for page in pages)
            assert found == VERSIONS, found

        def listing() -> None:
            with S3.open("cloud", settings, here) as repository:
                found = sum(1 for _ in repository.points((job,)))
            assert found == VERSIONS, found

        bare()
        with Peak() as peak:
            listing()
        seconds = alternate(ROUNDS, bare=bare, listing=listing)
    print(f"  {VERSIONS} versions, memory rises by {peak.mib:.1f} MiB (goal {MEMORY_GOAL_MIB})")
    reached = finish("s3-inventory", seconds["listing"] / seconds["bare"], 1.2)
    return reached or int(peak.mib > MEMORY_GOAL_MIB)


if __name__ == "__main__":
    sys.exit(main())
