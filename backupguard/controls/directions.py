"""Which way each threshold is loosened: what a higher value would let pass, and what a lower one.

What a threshold means is decided by the control that reads it, so this stands in code and not in the
catalogue, which a hospital may correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Looser(StrEnum):
    """Which values of a threshold demand less."""

    HIGHER = "higher"
    LOWER = "lower"


_LOWER = frozenset(
    {
        ("INV-01", "covered"),
        ("JOB-01", "success-rate"),
        ("RET-01", "daily-points"),
        ("RET-01", "monthly-points"),
        ("RET-01", "yearly-points"),
        ("RET-01", "floor"),
        ("321-01", "copies"),
        ("IMM-01", "locked-for"),
        ("ACC-01", "mfa"),
        ("CHF-01", "encrypted"),
        ("ANO-01", "settles"),
        ("RST-01", "failure-kept"),
        ("RST-02", "level"),
    }
)
_HIGHER: Mapping[str, frozenset[str]] = {
    "INV-01": frozenset({"reference-age", "discovery-age"}),
    "INV-02": frozenset({"directory-age", "catalogue-age", "other-age"}),
    "JOB-01": frozenset({"interval", "clock-change", "running-times"}),
    "PDM-01": frozenset({"default-rpo", "clock-change", "declaration-age"}),
    "RET-01": frozenset({"gaps", "loss"}),
    "321-01": frozenset({"attestation"}),
    "OFF-01": frozenset({"age", "declare-within", "rotation-grace"}),
    "IMM-01": frozenset({"period", "grace"}),
    "IMM-02": frozenset({"period", "attestation", "grace"}),
    "ISO-01": frozenset({"attestation", "join-age"}),
    "ACC-01": frozenset({"secret-age", "attestation"}),
    "CHF-01": frozenset({"escrow-attestation", "escrow-test", "first-proof"}),
    "INT-01": frozenset({"period", "grace"}),
    "ANO-01": frozenset({"deviation", "fall", "rise"}),
    "RST-01": frozenset({"period", "grace", "repository-period", "age-period"}),
    "RST-02": frozenset({"period", "grace"}),
    "RST-03": frozenset({"default-rto", "warn-at", "period", "grace"}),
    "RST-04": frozenset({"period"}),
    "CFG-01": frozenset({"weakenings", "age", "attestation"}),
    "PRV-01": frozenset({"report-day", "report-ack", "self-test-age", "anchor-age"}),
}


def looser(control: str, threshold: str) -> Looser | None:
    """Return which values of a threshold demand less; None where nobody wrote it down."""
    if (control, threshold) in _LOWER:
        return Looser.LOWER
    return Looser.HIGHER if threshold in _HIGHER.get(control, ()) else None


def loosens(control: str, threshold: str, before: int, after: int) -> bool:
    """Tell whether a value demands less than another; of what is not known, any other value does."""
    match looser(control, threshold):
        case Looser.HIGHER:
            return after > before
        case Looser.LOWER:
            return after < before
    return after != before
