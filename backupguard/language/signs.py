"""How a verdict or a status looks, on paper and on pages: never by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from backupguard.model import Status, Verdict

#: A class for the eye, and a sign that says the same in black and white.
LOOKS: Mapping[StrEnum, tuple[str, str]] = {
    Status.COMPLIANT: ("good", "✓"),
    Status.WARNING: ("due", "!"),
    Status.NON_COMPLIANT: ("bad", "✕"),
    Status.NOT_MEASURABLE: ("none", "?"),
    Status.NOT_APPLICABLE: ("none", "–"),
    Status.WAIVED: ("part", "✎"),
    Verdict.PASSED: ("good", "✓"),
    Verdict.FAILED: ("bad", "✕"),
    Verdict.COULD_NOT_VERIFY: ("none", "?"),
    Verdict.SKIPPED: ("none", "–"),
}
