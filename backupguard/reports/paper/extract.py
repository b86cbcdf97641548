"""What a report rests on, taken out of the chain: the exact records that it names, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from backupguard.evidence.records import Record, genesis
from backupguard.reports.model import MonthlyReport

FORMAT = "backupguard-extract-1"
#: The name under which the extract lies in a report.
NAME = "backupguard-records.json"


class Chain(Protocol):
    """What an extract is taken from: a store."""

    store_id: str

    def record(self, identifier: str) -> Record | None:
        """Return the record with this sequence number, as stored."""


def cited(report: MonthlyReport) -> tuple[int, ...]:
    """Return the numbers of all records that a report names anywhere, in order."""
    return tuple(sorted({seq for seq in _numbers(report) if seq > 0}))


def _numbers(value: Any) -> Iterator[int]:
    if is_dataclass(value):
        for field in fields(value):
            member = getattr(value, field.name)
            if field.name in ("seq", "record") or field.name.endswith("_seq"):
                if isinstance(member, int):
                    yield member
            else:
                yield from _numbers(member)
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _numbers(member)
    elif isinstance(value, tuple):
        for member in value:
            yield from _numbers(member)


def write_extract(chain: Chain, report: MonthlyReport, path: Path) -> int:
    """Write the records that a report names to a file; return how many there are.

    `body` is the text whose SHA-256 (as UTF-8) is `body_hash`; null where it was pruned. `hash` is the
    SHA-256 of "backupguard-record-1", a zero byte, `previous` and `body_hash`, both as bytes: with
    these few lines anybody can check a record without this program.
    """
    count = 0
    before: tuple[int, bytes] | None = None
    with path.open("w", encoding="utf-8") as file:
        head = {"seq": report.evidence.head_seq, "hash": report.evidence.head_hash}
        about = {"format": FORMAT, "store": chain.store_id, "month": report.month, "head": head}
        file.write(json.dumps(about, sort_keys=True)[:-1] + ', "records": [')
        for seq in cited(report):
            record = chain.record(str(seq))
            if record is None:
                continue
            previous = before[1] if before and before[0] == seq - 1 else _hash(chain, seq - 1)
            before = (seq, record.hash)
            line = {
                "seq": seq,
                "previous": previous.hex(),
                "hash": record.hash.hex(),
                "body_hash": record.body_hash.hex(),
                "body": None if record.body is None else record.body.decode(),
            }
            text = json.dumps(line, ensure_ascii=False, sort_keys=True)
            file.write(("\n" if count == 0 else ",\n") + text)
            count += 1
        file.write("\n]}\n")
    return count


def _hash(chain: Chain, seq: int) -> bytes:
    record = chain.record(str(seq)) if seq else None
    return genesis(chain.store_id) if record is None else record.hash
