"""Evidence: verifying a million records, and what one durable record costs.

Verifying reads a bundle as `backupguard evidence verify` does: bytes, hashes, chain, seals, anchors and
fingerprint. The reference takes the same file and does what no verifier can do without: it parses each
record, writes it in the canonical form of RFC 8785 (the library of that name) and hashes it. Each works
in a process of its own, whose peak memory is told; ours must not grow with the number of records.

An append is one record through the store, from its check to the commit; the reference inserts the same
bytes into a table of two columns, with the same journal and the same fsync, and commits.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness import finish

from backupguard.evidence.records import Record, chain_hash, genesis, record_body, sha256
from backupguard.evidence.seals import (
    Anchor,
    Seal,
    anchor_line,
    fingerprint,
    load_key,
    make_seal,
    new_key,
)
from backupguard.model import Observation
from backupguard.store import open_store
from backupguard.store.bundle import write_bundle

STORE = "01M80000000000000000000000"
START = datetime(2026, 1, 1, tzinfo=UTC)
RECORDS = int(os.environ.get("BENCH_RECORDS", "1000000"))
FEW = RECORDS // 10
SEAL_EVERY = 200
ROUNDS = 3
APPENDS = 400
VERIFY_GOAL, APPEND_GOAL, MEMORY_GOAL = 0.5, 3.0, 1.2


class Chain:
    """A chain made while it is read: results of restore tests, listings, closings, with their seals."""

    store_id = STORE

    def __init__(self, count: int) -> None:
        self.count = count
        pem, self.public = new_key()
        self._key = load_key(pem)
        self._seals: list[Seal] = []
        self._head = (0, genesis(STORE))
        for record in self.records():
            if record.seq % SEAL_EVERY == 0 or record.seq == count:
                self._seals.append(
                    make_seal(
                        self._key,
                        store=STORE,
                        seq=record.seq,
                        digest=record.hash,
                        sealed_at=START + timedelta(minutes=record.seq),
                        previous=self._seals[-1] if self._seals else None,
                    )
                )
            self._head = (record.seq, record.hash)

    def head(self) -> tuple[int, bytes]:
        """Return the newest record's number and hash."""
        return self._head

    def seals(self) -> tuple[Seal, ...]:
        """Return the seals."""
        return tuple(self._seals)

    def records(self) -> Iterator[Record]:
        """Yield the records, made anew each time."""
        link = genesis(STORE)
        for seq in range(1, self.count + 1):
            observation = self._observation(seq)
            at = START + timedelta(minutes=seq)
            body = record_body(
                observation,
                seq=seq,
                recorded_at=at,
                run=f"R{seq:025d}",
                author="uid/999",
                site="CH",
            )
            digest = sha256(body)
            link = chain_hash(link, digest)
            yield Record(seq=seq, body=body, body_hash=digest, hash=link, kind=observation.kind)

    def _observation(self, seq: int) -> Observation:
        at = START + timedelta(minutes=seq)
        if seq == 1:
            data = {"public_key": self.public.hex(), "key_id": "", "fingerprint": ""}
            return Observation(
                kind="evidence.key-created", subject="site", observed_at=at, key="key", data=data
            )
        checks = [
            {
                "name": f"table-{number}",
                "level": 3,
                "verdict": "passed",
                "code": "rows",
                "numbers": {"rows": 1000 + seq, "expected": 990 + seq},
            }
            for number in range(seq % 4)
        ]
        data = {
            "application": f"app-{seq % 300}",
            "engine": "postgresql",
            "repository": "coffre-établissement",
            "verdict": "passed",
            "level": 3,
            "bytes": 1_000_000 + seq,
            "duration_ms": 60_000 + seq,
            "checks": checks,
        }
        return Observation(
            kind="restore-test.closed" if seq % 7 == 0 else "restore-test.result",
            subject=f"application/app-{seq % 300}",
            observed_at=at,
            key=f"run/{seq}/result",
            data=data,
        )


def ours(bundle: Path) -> None:
    """Verify a bundle as the command does, with its fingerprint and an anchor; it must be proved."""
    from backupguard.cli.evidence import _verify
    from backupguard.evidence.seals import read_anchors
    from backupguard.evidence.verify import Standing

    trusted = (bundle / "fingerprint").read_text()
    anchors = list(read_anchors((bundle / "anchor").read_text().splitlines()))
    found = _verify(bundle, [trusted], anchors)
    if found.standing is not Standing.PROVED:
        raise SystemExit(f"{found.standing}: {found.problem} {found.unproved}")


def reference(bundle: Path) -> None:
    """Parse, write in canonical form and hash each record, and nothing more."""
    import hashlib

    import rfc8785

    with (bundle / "records.jsonl").open("rb") as file:
        for line in file:
            hashlib.sha256(rfc8785.dumps(json.loads(line))).digest()


def child(name: str, bundle: Path) -> tuple[float, int]:
    """Let a process of its own do it; return seconds of work and KiB of peak memory."""
    done = subprocess.run(
        [sys.executable, __file__, name, str(bundle)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def made(directory: Path, count: int) -> Path:
    """Write a bundle of so many records, with what is needed to prove it."""
    chain = Chain(count)
    bundle = directory / str(count)
    write_bundle(chain, bundle)
    seq, digest = chain.head()
    (bundle / "anchor").write_text(anchor_line(Anchor(store=STORE, seq=seq, hash=digest)))
    (bundle / "fingerprint").write_text(fingerprint(chain.public))
    return bundle


def verifying(directory: Path) -> tuple[float, float]:
    """Return how fast ours is in multiples of the reference, and how its memory grows by ten times."""
    few, many = made(directory, FEW), made(directory, RECORDS)
    _, small = child("ours", few)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    peak = 0
    for _ in range(ROUNDS):
        for name in times:
            seconds, used = child(name, many)
            times[name].append(seconds)
            peak = max(peak, used) if name == "ours" else peak
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"  {name:12} {median:8.2f} s   {RECORDS / median:10,.0f} records/s")
    print(f"  memory       {small / 1024:.0f} MiB for {FEW:,}, {peak / 1024:.0f} for {RECORDS:,}")
    ratio = statistics.median(times["reference"]) / statistics.median(times["ours"])
    return ratio, peak / small


def appending(directory: Path) -> float:
    """Return what a durable record costs, in multiples of a bare insert and commit."""
    store = open_store(directory / "state")
    bare = sqlite3.connect(directory / "state" / "bare.sqlite3", isolation_level=None)
    times: dict[str, list[float]] = {"append": [], "bare": []}
    with closing(bare), closing(store):
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, body BLOB)")
        for number in range(APPENDS + 20):
            observation = Observation(
                kind="clock.stepped",
                subject="site",
                observed_at=datetime.now(UTC),
                key=f"bench/{number}",
                data={"step_ms": number},
            )
            begun = time.perf_counter()
            store.append([observation])
            between = time.perf_counter()
            body = store.record(f"bench/{number}")
            content = body.body if body is not None else b""
            again = time.perf_counter()
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO records VALUES (?, ?)", (number, content))
            bare.execute("COMMIT")
            ended = time.perf_counter()
            if number >= 20:
                times["append"].append(between - begun)
                times["bare"].append(ended - again)
    for name, seconds in times.items():
        print(f"  {name:12} {statistics.median(seconds) * 1000:8.3f} ms")
    return statistics.median(times["append"]) / statistics.median(times["bare"])


def main() -> int:
    """Measure both."""
    with tempfile.TemporaryDirectory(prefix="backupguard-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        ratio = appending(directory)
        speed, growth = verifying(directory)
    status = finish("evidence append", ratio, APPEND_GOAL)
    status |= finish("evidence memory", growth, MEMORY_GOAL)
    return status | finish("evidence verify", speed, VERIFY_GOAL, unit="speed", at_least=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        work = {"ours": ours, "reference": reference}[sys.argv[1]]
        started = time.perf_counter()
        work(Path(sys.argv[2]))
        took = time.perf_counter() - started
        print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        sys.exit(0)
    sys.exit(main())
