"""Makes the specimen of a schema: a store with a chain, points, findings and runs, dumped as SQL.

Run once per schema, by the program that has it, from the root of its sources:

    python -m tests.integration.store.schemas.make

writes `SCHEMA.sql` beside this file. A specimen is added and never changed. (The first one was made
by this very file in the sources of its time: it uses nothing that they lacked.)
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
JOBS = ("dpi.nightly", "lab.daily")
#: Of kinds that tell of the chain itself: what these say must be true of this one.
OF_THE_CHAIN = ("evidence.", "store.", "finding.")


class Clock:
    """Moves on by a second whenever it is asked."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def put_key(state: Path) -> None:
    """Put down the key of every specimen: known to all, so that no private key lies in the sources."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"specimens of schemas").digest())
    (state / "keys").mkdir(mode=0o700, parents=True)
    private = state / "keys/signing.pem"
    private.touch(0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def observations(specimens: Path, clock: Clock):
    """Yield one observation of every kind of fact that the program knew."""
    from backupguard.model import Observation, Origin

    for path in sorted(specimens.glob("*.json")):
        record = json.loads(path.read_bytes())
        if record["kind"].startswith(OF_THE_CHAIN):
            continue
        yield Observation(
            kind=record["kind"],
            kind_version=record["version"],
            subject=record["subject"],
            origin=Origin(record["origin"]),
            observed_at=clock(),
            data=record["data"],
            key=record["key"],
        )


def fill(store, clock: Clock, specimens: Path) -> None:
    from backupguard.contracts import FindingChange
    from backupguard.model import (
        Closing,
        Finding,
        Listing,
        Message,
        Observation,
        RecoveryPoint,
        RunRequest,
        RunState,
        Severity,
        Status,
        Verdict,
    )

    for observation in observations(specimens, clock):
        store.append([observation], author="uid/1001 (claire)")
    store.seal()

    def point(job: str, number: int) -> RecoveryPoint:
        # Late in the evening, when it is tomorrow already where most sites are.
        at = NOW.replace(hour=23, minute=30) - timedelta(days=number + 1)
        return RecoveryPoint(
            repository="nas", job=job, native_id=f"{job}/p{number}", at=at, covers_until=at,
            bytes=1000 + number, extra={"tags": ["é"]},
        )  # fmt: skip

    points = tuple(point(job, number) for job in JOBS for number in range(12))
    for listed in (points, points[1:]):  # the newest of the first job vanishes
        listing = Listing(repository="nas", jobs=JOBS, points=listed, observed_at=clock())
        store.merge_listing(listing, run=None)

    def finding(status: Status) -> Finding:
        return Finding(
            control="RST-01", subject="application/dpi", status=status, since=clock(),
            severity=Severity.CRITICAL, reason=Message(id="reason.RST-01.never"),
        )  # fmt: skip

    for status in (Status.COMPLIANT, Status.NON_COMPLIANT):
        store.record_findings([FindingChange(before=None, after=finding(status))])

    def run(number: int) -> str:
        request = RunRequest(
            task="inventory", subject="repository/nas", due_at=NOW + timedelta(hours=number),
            exclusive=f"inventory/{number}", resource="probe", requested_by="agenda",
        )  # fmt: skip
        return store.enqueue(request).id

    ended, _waiting = run(1), run(2)
    store.start_run(ended, "srv-sauvegarde")
    store.append(
        [
            Observation(
                kind="daemon.started",
                subject="site",
                observed_at=clock(),
                key="specimen/last",
                data={"program_version": "0", "host": "srv", "recovered": [], "clean": True},
            )
        ],
        run=ended,
        closing=Closing(run=ended, state=RunState.FINISHED, verdict=Verdict.PASSED, code=None),
    )
    store.seal()


def main() -> int:
    from backupguard.store import open_store
    from backupguard.store.schema import SCHEMA

    target = HERE / f"{SCHEMA}.sql"
    if target.exists():
        print(f"{target.name} is there already; specimens are never changed", file=sys.stderr)
        return 1
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        put_key(state)
        store = open_store(state, now=clock, site="CH de Belle-Rive")
        fill(store, clock, Path("tests/unit/evidence/specimens"))
        store.close()
        with closing(sqlite3.connect(state / "store.sqlite3")) as database:
            target.write_text("\n".join(database.iterdump()) + "\n", encoding="utf-8")
    print(f"{target} ({target.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
