"""The longest delay to detection also counts what is restored in parts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backupguard.assess.declared_estate import declared_estate
from backupguard.controls import load_catalogue
from backupguard.model import to_us
from backupguard.reports.history import read, span_of
from backupguard.reports.places import repository_rows

from .records import Records, at, settings

NEVER_WHOLE = {"covered_since": None}


def delay(part: dict[str, Any] | None, *, verified: bool = True) -> timedelta | None:
    records = Records()
    if verified:
        check = {
            "units": [], "units_total": 0, "verdict": "passed", "code": None,
            "complete_at": to_us(at(20)),
        }  # fmt: skip
        records.add("repository.verified", "repository/nas", check, at(21))
    seq = records.restored("pacs", at(25))
    if part is not None:
        told = {
            "percent": 12, "bytes": 12, "total_bytes": 100, "shares": 1, "shares_total": 8,
            "within_ms": 10, **part,
        }  # fmt: skip
        fact = records.fact(seq)
        assert fact is not None
        data = {**fact.observation.data, "partial": told}
        records.add("restore-test.result", "application/pacs", data, at(26))
    history = read(records, span_of("2026-11", "Europe/Paris"), at(30))  # type: ignore[arg-type]
    estate = declared_estate(settings(pacs="C1"), load_catalogue())
    (row,) = [row for row in repository_rows(estate, history) if row.repository == "nas"]
    return None if row.detection_ms is None else timedelta(milliseconds=row.detection_ms)


@pytest.mark.parametrize(
    ("part", "verified", "told"),
    [
        (None, True, timedelta(days=10)),
        ({"covered_since": to_us(at(12))}, True, timedelta(days=18)),
        ({"covered_since": to_us(at(24))}, True, timedelta(days=10)),
        (NEVER_WHOLE, True, None),
        (None, False, None),
        ({"covered_since": to_us(at(24))}, False, None),
    ],
    ids=["whole", "parts-are-slower", "parts-are-quicker", "never-all", "unverified", "parts-only"],
)
def test_the_slowest_of_what_would_find_it_counts(
    part: dict[str, Any] | None, verified: bool, told: timedelta | None
) -> None:
    assert delay(part, verified=verified) == told
