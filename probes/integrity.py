"""Are the copies as they were written: structure, and the data by turns within a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from backupguard.contracts import (
    Capability,
    Context,
    ProbeSettings,
    Repositories,
    Repository,
    Size,
    VerifiedUnit,
    VerifiesInUnits,
    VerifyPlan,
)
from backupguard.errors import BackupGuardError, Cancelled, Interrupted, TimedOut, verdict_of
from backupguard.model import (
    Listing,
    Observation,
    Scope,
    Subject,
    Verdict,
    repository_subject,
    to_us,
    worst,
)


class IntegritySettings(ProbeSettings):
    """How much of a repository one run reads. All of it is read in 100 / data-percent runs."""

    data_percent: Annotated[int, Field(ge=0, le=100)] = 5
    max_bytes: Size | None = None


class Integrity:
    """Probe `integrity`: one `repository.verified` per repository and run."""

    name = "integrity"
    scope = Scope.REPOSITORY
    settings: type[ProbeSettings] = IntegritySettings

    def observe(
        self, subject: Subject, repositories: Repositories, context: Context, settings: Any
    ) -> Iterator[Observation | Listing]:
        """Yield what was read of one repository and how it was found, also when it broke off.

        Raises Cancelled, and whatever nobody foresaw; what was read until then is yielded before.
        """
        identifier = subject.partition("/")[2]
        left = repositories.allowance(identifier)
        budget = min(
            (limit for limit in (settings.max_bytes, left) if limit is not None), default=None
        )
        plan = VerifyPlan(
            structure=True,
            data_percent=settings.data_percent,
            max_bytes=budget,
            jobs=tuple(repositories.jobs(identifier)),
        )
        units: list[VerifiedUnit] = []
        names: Sequence[str] = ()
        error: Exception | None = None
        try:
            with repositories.open(identifier) as repository:
                if Capability.VERIFY not in repository.capabilities:
                    yield _verified(identifier, context, (), (), (Verdict.SKIPPED, None))
                    return
                if left == 0:
                    raise TimedOut("daily_limit", left=left or 0)
                names = _unit_names(repository, plan)
                for unit in repository.verify(plan):
                    units.append(unit)
                    context.cancel.raise_if_set()
                told = _data_was_read(units, settings) or len(units) >= len(names) > 0
                if budget is not None and budget == left and not told:
                    raise TimedOut("daily_limit", left=left or 0)
        except Exception as raised:  # noqa: BLE001 - what was found until then must not be lost
            error = raised
        verdicts = [unit.verdict for unit in units]
        code = next((unit.code for unit in units if unit.code is not None), None)
        if error is not None:
            verdict, reason = verdict_of(error)
            verdicts.append(verdict)
            code = code or reason
        yield _verified(identifier, context, units, names, (worst(verdicts), code))
        expected = isinstance(error, BackupGuardError)
        if error is not None and (not expected or isinstance(error, Cancelled | Interrupted)):
            raise error


def _data_was_read(units: Sequence[VerifiedUnit], settings: IntegritySettings) -> bool:
    """Tell whether a run read any of the data that it was to read; an empty unit holds none."""
    return settings.data_percent == 0 or any(
        unit.unit != "structure" and unit.bytes for unit in units
    )


def _unit_names(repository: Repository, plan: VerifyPlan) -> Sequence[str]:
    return repository.units(plan) if isinstance(repository, VerifiesInUnits) else ()


def _verified(
    identifier: str,
    context: Context,
    units: Sequence[VerifiedUnit],
    names: Sequence[str],
    outcome: tuple[Verdict, str | None],
) -> Observation:
    now = context.now()
    complete = _complete_since(identifier, context, units, names, now)
    total = len(names) or max((unit.units_total for unit in units), default=0)
    return Observation(
        kind="repository.verified",
        subject=repository_subject(identifier),
        observed_at=now,
        key=f"verified/{identifier}/{context.work.name}",
        data={
            "units": [_data(unit) for unit in units],
            "units_total": total,
            "verdict": str(outcome[0]),
            "code": outcome[1],
            "complete_at": to_us(complete) if complete else None,
        },
    )


def _data(unit: VerifiedUnit) -> dict[str, Any]:
    data: dict[str, Any] = {
        "unit": unit.unit,
        "verdict": str(unit.verdict),
        "bytes": unit.bytes,
        "code": unit.code,
    }
    if unit.objects:
        data["objects"] = list(unit.objects)
    return data


def _complete_since(
    identifier: str,
    context: Context,
    units: Sequence[VerifiedUnit],
    names: Sequence[str],
    now: datetime,
) -> datetime | None:
    """Return the time since which every unit was read and found right, None while one is missing."""
    times = {
        name: covered.verified_at for name, covered in context.known.coverage(identifier).items()
    }
    for unit in units:
        if unit.verdict is Verdict.PASSED:
            times[unit.unit] = now
        else:
            times.pop(unit.unit, None)
    if not names or any(name not in times for name in names):
        return None
    return min(times[name] for name in names)


INTEGRITY = Integrity()
