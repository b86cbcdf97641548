"""What the tests of paper share: a store in memory that knows its records, and PDF read back."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from backupguard.evidence.records import Record, chain_hash, genesis, record_body, sha256
from backupguard.model import Fact, Observation

from .records import Records, full_month


class Chained(Records):
    """Records whose bodies and hashes are those that a store would keep."""

    def __init__(self, of: Records) -> None:
        super().__init__()
        self._records: dict[int, Record] = {}
        previous = genesis(self.store_id)
        for fact in of.facts():
            body = record_body(
                fact.observation,
                seq=fact.seq,
                recorded_at=fact.recorded_at,
                run=fact.run,
                author=fact.author,
                site="CH",
            )
            previous = chain_hash(previous, sha256(body))
            self._records[fact.seq] = Record(
                seq=fact.seq,
                body=body,
                body_hash=sha256(body),
                hash=previous,
                kind=fact.observation.kind,
            )
            self._facts.append(
                Fact(
                    seq=fact.seq,
                    recorded_at=fact.recorded_at,
                    run=fact.run,
                    author=fact.author,
                    hash=previous,
                    observation=fact.observation,
                )
            )

    def record(self, identifier: str) -> Record | None:
        return self._records.get(int(identifier))

    def issued(self, *observations: Observation) -> None:
        """Keep what was issued, as a run records it."""
        for one in observations:
            self.add(one.kind, one.subject, one.data, one.observed_at)


def month_of_records() -> Chained:
    """Return the month in which everything happened, as a chain."""
    return Chained(full_month())


def tool(*argv: str | Path) -> str:
    """Run one of poppler's programs; return what it says."""
    done = subprocess.run([str(part) for part in argv], capture_output=True, check=True)
    return done.stdout.decode()


def text_of(pdf: Path) -> str:
    """Return a document's text, spaces as one."""
    return " ".join(tool("pdftotext", "-layout", pdf, "-").split())


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
