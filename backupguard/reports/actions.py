"""Which three things to do first: a ranking over a report's own rows that anybody can follow.

What concerns vital applications, and what concerns the whole site, comes before what concerns the
others; within one criticality the order is that of `KINDS`, from what loses data for certain to what
is only not known yet. One action stands for all applications that need the same, so that three are
not spent on one cause. Nothing is weighed, and no figure is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from backupguard.model import Criticality, Message, Verdict
from backupguard.reports.model import ApplicationRow, ChangeRow, Standing
from backupguard.reports.outlook import Action, ProtectionRow

#: From what is lost for certain to what is only not known; the report prints this order.
KINDS = (
    "restore_fails",
    "protection_refuted",
    "loss_too_large",
    "not_restored",
    "no_engine",
    "back_too_late",
    "weakened_unexplained",
    "opened_only",
    "only_told",
    "never_attacked",
    "not_anchored",
)
MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What actions are taken from."""

    applications: Iterable[ApplicationRow]
    protections: Iterable[ProtectionRow]
    weakenings: Iterable[ChangeRow]
    anchored: bool


def loses_too_much(row: ApplicationRow) -> bool:
    """Tell whether more would be lost than was declared; no figure, no verdict."""
    lost = row.tonight.loss_ms
    return lost is not None and row.rpo_ms is not None and lost > row.rpo_ms


_OF_APPLICATIONS: dict[str, Callable[[ApplicationRow], bool]] = {
    "restore_fails": lambda row: row.standing is Standing.FAILED,
    "loss_too_large": loses_too_much,
    "not_restored": lambda row: row.standing is Standing.DUE,
    "no_engine": lambda row: row.standing is Standing.NO_ENGINE,
    "back_too_late": lambda row: row.forecast is not None and row.forecast.late,
    "opened_only": lambda row: row.standing in (Standing.OPENED, Standing.BYTES_ONLY),
    "only_told": lambda row: row.standing is Standing.DECLARED,
}


def ranked(seen: Seen) -> tuple[Action, ...]:
    """Return everything there is to do, what matters most first."""
    found = [*_of_applications(tuple(seen.applications)), *_of_site(seen)]
    return tuple(
        sorted(
            found,
            key=lambda one: (
                one.criticality or Criticality.C1,
                KINDS.index(one.kind),
                -one.count,
            ),
        )
    )


def first(seen: Seen) -> tuple[Action, ...]:
    """Return the three that matter most; fewer where there is less to do."""
    return ranked(seen)[:MOST]


def _of_applications(rows: tuple[ApplicationRow, ...]) -> Iterable[Action]:
    for criticality in Criticality:
        own = [row for row in rows if row.criticality is criticality]
        for kind, needed in _OF_APPLICATIONS.items():
            names = [row.name for row in own if needed(row)]
            if names:
                yield _action(kind, criticality, names)


def _of_site(seen: Seen) -> Iterable[Action]:
    protections = tuple(seen.protections)
    refuted = [one.repository for one in protections if one.verdict is Verdict.FAILED]
    never = [one.repository for one in protections if one.verdict is None]
    unexplained = [one.path for one in seen.weakenings if one.reason is None]
    for kind, names in (
        ("protection_refuted", refuted),
        ("weakened_unexplained", list(dict.fromkeys(unexplained))),
        ("never_attacked", never),
    ):
        if names:
            yield _action(kind, None, names)
    if not seen.anchored:
        yield _action("not_anchored", None, [""])


def _action(kind: str, criticality: Criticality | None, names: list[str]) -> Action:
    form = "one" if len(names) == 1 else "many"
    return Action(
        kind=kind,
        criticality=criticality,
        count=len(names),
        names=tuple(name for name in names if name),
        what=Message(id=f"report.action.{kind}.{form}", values={"count": len(names)}),
        why=Message(id=f"report.action.{kind}.why", values={}),
    )
