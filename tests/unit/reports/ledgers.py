"""A year of records of many applications, each month another, for tests that count it again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupguard.assess.declared_estate import Estate, Job, Owner, Place
from backupguard.assess.forecast import Step
from backupguard.model import Criticality, Origin

from .records import Records, check

PERIODS = {
    Criticality.C1: {"period": 31 * 86_400, "grace": 4 * 86_400, "repository-period": 92 * 86_400},
    Criticality.C2: {"period": 92 * 86_400, "grace": 4 * 86_400, "repository-period": 92 * 86_400},
    Criticality.C3: {"period": 365 * 86_400, "grace": 0, "repository-period": 365 * 86_400},
}
#: What became of a test: verdict, code, level, origin.
OUTCOMES = (
    ("passed", None, 3, Origin.OBSERVED),
    ("passed", None, 4, Origin.OBSERVED),
    ("passed", None, 2, Origin.OBSERVED),
    ("failed", "corrupt", 1, Origin.OBSERVED),
    ("could_not_verify", "no_disk", 0, Origin.OBSERVED),
    ("passed", None, 3, Origin.IMPORTED),
    ("could_not_verify", "unrecognised_artifact", 0, Origin.OBSERVED),
    ("passed", None, 1, Origin.OBSERVED),
)


def estate(count: int, *, named: str = "Application", rpo_h: int = 24) -> Estate:
    """Return an estate of `count` applications in two repositories, all criticalities."""
    levels = tuple(Criticality)
    return Estate(
        applications={
            f"a{number:03d}": Owner(
                name=f"{named} {number:03d}",
                criticality=levels[number % 3],
                rpo_ms=rpo_h * 3_600_000,
                rto_ms=4 * 3_600_000,
                declared_by="direction des soins",
                declared_on=datetime(2026, 1, 5, tzinfo=UTC).date(),
                bia_reference="BIA-2026-04",
                steps=(Step(name="Serveur", duration_ms=1_800_000),) if number % 4 else (),
                jobs={
                    "nightly": Job(repository="nas", data="x"),
                    "weekly": Job(repository="coffre", data="x"),
                },
            )
            for number in range(count)
        },
        repositories={"nas": Place(type="restic"), "coffre": Place(type="restic", host="vault")},
        periods=PERIODS,
    )


def year(count: int, end: datetime, declared: Estate | None = None, *, months: int = 12) -> Records:
    """Return the last `months` of a year of records that ends at `end`: tests, points, judgements."""
    records = Records()
    begin = end - timedelta(days=365)
    records.loaded(begin, declared=declared or estate(count), author="uid/1000 (alice)")
    for month in range(12 - months, 12):
        first = begin + timedelta(days=30 * month + 10)
        for number in range(count):
            _month_of(records, month, number, first + timedelta(minutes=number))
    return in_order(records)


def in_order(records: Records) -> Records:
    """Return the same records in the order of their time, as a store would have taken them."""
    again = Records()
    for fact in sorted(records.facts(), key=lambda fact: fact.recorded_at):
        seen = fact.observation
        again.add(
            seen.kind, seen.subject, seen.data, fact.recorded_at,
            author=fact.author, origin=seen.origin,
        )  # fmt: skip
    return again


def _month_of(records: Records, month: int, number: int, when: datetime) -> None:
    name = f"a{number:03d}"
    verdict, code, level, origin = OUTCOMES[(number * 5 + month * (1 + number % 3)) % len(OUTCOMES)]
    if (number + month) % 7 != 6:
        repository = "coffre" if (number + month) % 4 == 3 else "nas"
        records.restored(
            name, when, repository=repository, verdict=verdict, code=code, level=level,
            origin=origin, checks=[check("admissions", numbers={"rows": 12})],
        )  # fmt: skip
        if verdict == "could_not_verify":
            records.closed("restore-test", f"application/{name}", when, verdict, code)
    if number % 9:
        at_night = when + timedelta(days=20 + number % 5)
        records.listed(f"{name}.nightly", "nas", at_night, at_night - timedelta(hours=number % 40))
    after = ("compliant", "warning", "non_compliant", "not_measurable")[(number + month) % 4]
    records.judged("RST-01", f"application/{name}", after, when, severity="high")
