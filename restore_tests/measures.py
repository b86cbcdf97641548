"""Invariants: what must hold from one recovery point to the next.

An engine measures inside the sandbox: a number, or how many rows a closed set has and a keyed digest of
them. Here it is held against the points that restore tests found clean, the nearest older one and the
nearest newer one by the points' own times, whenever they were tested.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from backupguard.contracts import Trial
from backupguard.model import CheckResult, CleanPoint, Fingerprint, Measured, Verdict
from restore_tests import shape
from restore_tests.settings import DatabaseSettings, Invariant

#: Greater numbers have no place in a record.
_LARGEST = 1 << 53
#: A digest is the sum over all rows of the first and of the second so many bits of each row's own: in
#: any order the same, of any number of rows as small.
DIGEST_BITS = 48


def wanted(trial: Trial) -> tuple[Invariant, ...]:
    """Return the invariants of the site that hold for the point under test."""
    settings = trial.settings
    if not isinstance(settings, DatabaseSettings):
        return ()
    zone = ZoneInfo(str(trial.memory.get("timezone") or "UTC"))
    day = trial.point_at.astimezone(zone).date()
    return tuple(one for one in settings.invariants if one.since is None or day >= one.since)


def asked(trial: Trial) -> tuple[Invariant, ...]:
    """Return those of them that are queries."""
    return tuple(one for one in wanted(trial) if one.table is None)


def key(trial: Trial) -> str:
    """Return the key of this host's digests, made when it is first needed; hexadecimal.

    It lies in a private directory that outlives the run: digests of two tests must be comparable.
    """
    path = trial.context.remember("invariants") / "key"
    if not path.exists():
        draft = path.with_name(f"draft-{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # another test may have been first
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()


def tell(trial: Trial, invariant: Invariant, said: str, first: str = "", second: str = "") -> None:
    """Remember what an engine answered.

    "value" with a whole number; "set" with how many rows and "A:B", the sums of a digest; "null";
    "error" with a code.
    """
    answers = trial.memory.setdefault("measured", {})
    answers[invariant.name] = (said, first, second)


def measured(trial: Trial, seen: Fingerprint | None) -> tuple[Measured, ...]:
    """Return what was measured, as far as it was answered."""
    found = (_measured(trial, one, seen) for one in wanted(trial))
    return tuple(one for one in found if isinstance(one, Measured))


def _measured(trial: Trial, invariant: Invariant, seen: Fingerprint | None) -> Measured | str:
    """Return what an invariant was measured to be, or the code of why it was not."""
    if invariant.table is not None:
        rows = _rows(invariant.table, seen)
        if rows is None:
            return "check_undefined"
        return Measured(name=invariant.name, definition=invariant.definition, value=rows)
    said, first, second = trial.memory.get("measured", {}).get(
        invariant.name, ("error", "check_error", "")
    )
    if said in {"error", "null"}:
        return first or "check_error" if said == "error" else "check_error"
    if not first.lstrip("-").isdigit() or abs(int(first)) >= _LARGEST:
        return "check_error"
    digest = None
    if invariant.closed:
        sums = second.split(":")
        if said != "set" or len(sums) != 2 or not all(one.isdigit() for one in sums):
            return "check_error"
        name = hashlib.sha256(key(trial).encode()).hexdigest()[:8]
        digest = f"{name}:" + "".join(f"{int(one) % (1 << DIGEST_BITS):012x}" for one in sums)
    return Measured(
        name=invariant.name, definition=invariant.definition, value=int(first), digest=digest
    )


def _rows(table: str, seen: Fingerprint | None) -> int | None:
    if seen is None:
        return None
    if table in seen.tables:
        return seen.tables[table]
    found = [rows for name, rows in seen.tables.items() if name.partition(".")[2] == table]
    return found[0] if len(found) == 1 else None


def judged(
    trial: Trial,
    seen: Fingerprint | None,
    clean: Sequence[CleanPoint],
    engine: str,
    accepted_at: datetime | None,
) -> Iterator[CheckResult]:
    """Yield a result per invariant that holds for this point.

    `accepted_at`: what a person accepted in a point of that time holds from there on, whatever older
    points were. What breaks only against a newer point accuses that one: this one is older.
    """
    before, after = _neighbours(trial.point_at, clean, engine, accepted_at)
    for invariant in wanted(trial):
        now = _measured(trial, invariant, seen)
        if not isinstance(now, Measured):
            yield CheckResult(
                name=invariant.name,
                level=3,
                verdict=Verdict.COULD_NOT_VERIFY,
                code=now,
                configured=True,
            )
            continue
        yield _held(now, _of(before, now), _of(after, now))


def _held(now: Measured, older: Measured | None, newer: Measured | None) -> CheckResult:
    broken = now.breaks(older) if older is not None else None
    later = newer.breaks(now) if newer is not None else None
    said, verdict = shape.OK, Verdict.PASSED
    if broken:
        said = "invariant_shrank" if now.digest is None else "invariant_reopened"
        verdict = Verdict.FAILED
    elif later:
        said = f"{shape.WARNING}invariant_later"
    elif broken is None and later is None:
        said = "invariant_first"
    numbers = {"now": now.value}
    if older is not None:
        numbers["before"] = older.value
    if newer is not None:
        numbers["after"] = newer.value
    # With nothing to be held against, it proves nothing.
    return CheckResult(
        name=now.name,
        level=3,
        verdict=verdict,
        code=said,
        numbers=numbers,
        configured=said != "invariant_first",
    )


def _of(points: Sequence[CleanPoint], now: Measured) -> Measured | None:
    """Return the nearest measurement that can be compared."""
    for point in points:
        found = point.measured.get(now.name)
        if found is not None and now.breaks(found) is not None:
            return found
    return None


def _neighbours(
    at: datetime, clean: Sequence[CleanPoint], engine: str, accepted_at: datetime | None
) -> tuple[list[CleanPoint], list[CleanPoint]]:
    """Return the clean points before and after a time, nearest first."""
    same = [one for one in clean if one.engine == engine]
    if accepted_at is not None:
        same = [one for one in same if (one.at >= accepted_at) == (at >= accepted_at)]
    older = sorted((one for one in same if one.at < at), key=lambda one: one.at, reverse=True)
    newer = sorted((one for one in same if one.at > at), key=lambda one: one.at)
    return older, newer
