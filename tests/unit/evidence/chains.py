"""A small chain in memory, with its seals, for the tests to tamper with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from backupguard.evidence.records import Record, chain_hash, genesis, record_body, sha256
from backupguard.evidence.seals import Anchor, Seal, fingerprint, load_key, make_seal, new_key
from backupguard.model import SITE, Json, Observation, to_us

STORE = "01M80000000000000000000000"
START = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)


@dataclass
class Chain:
    records: list[Record] = field(default_factory=list)
    seals: list[Seal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pem, self.public = new_key()
        self.fingerprint = fingerprint(self.public)

    def add(
        self, kind: str = "clock.stepped", data: Json = None, body: bytes | None = None
    ) -> None:
        seq = len(self.records) + 1
        at = START + timedelta(minutes=seq)
        observation = Observation(
            kind=kind, subject=SITE, observed_at=at, data=data or {"step_ms": seq}, key=f"k/{seq}"
        )
        made = body or record_body(
            observation, seq=seq, recorded_at=at, run=None, author=None, site="CH"
        )
        previous = self.records[-1].hash if self.records else genesis(STORE)
        columns = {
            "author": None,
            "key": f"k/{seq}",
            "kind": kind,
            "observed_at": to_us(at),
            "origin": "observed",
            "recorded_at": to_us(at),
            "run": None,
            "subject": SITE,
            "version": 1,
        }
        self.records.append(
            Record(
                seq=seq,
                body=made,
                body_hash=sha256(made),
                hash=chain_hash(previous, sha256(made)),
                kind=kind,
                columns=columns,
            )
        )

    def seal(self) -> None:
        head = self.records[-1]
        self.seals.append(
            make_seal(
                load_key(self.pem),
                store=STORE,
                seq=head.seq,
                digest=head.hash,
                sealed_at=START + timedelta(hours=head.seq),
                previous=self.seals[-1] if self.seals else None,
            )
        )

    def change(self, seq: int, **columns: object) -> None:
        self.records[seq - 1] = replace(self.records[seq - 1], **columns)

    def anchor(self, seq: int) -> Anchor:
        return Anchor(store=STORE, seq=seq, hash=self.records[seq - 1].hash)

    def head(self) -> tuple[int, bytes]:
        return self.records[-1].seq, self.records[-1].hash


def sealed_chain(length: int = 12, every: int = 4) -> Chain:
    chain = Chain()
    for seq in range(1, length + 1):
        chain.add()
        if seq % every == 0:
            chain.seal()
    return chain
