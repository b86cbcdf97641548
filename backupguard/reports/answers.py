"""The six questions of a RSSI, answered from a report's own rows in sentences of counts and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from backupguard.model import Criticality, Message, Origin, Verdict, to_us
from backupguard.reports.actions import loses_too_much
from backupguard.reports.model import ApplicationRow, MonthlyReport, Standing, TestRow
from backupguard.reports.outlook import Answer, ReturnRow

QUESTIONS = ("restored", "not_restored", "lost", "back", "accepted", "not_proved")
#: So many names or applications are named in an answer; the rest is counted.
NAMED = 6
#: What is said of a long name.
LONGEST = 40
#: So many returns are told one by one.
RETURNS = 4
#: What a report that came back signed can be worth, as `report.acknowledged.WORTH` says it.
_WORTH = ("signature", "unchecked", "scan")


def answers(told: MonthlyReport) -> tuple[Answer, ...]:
    """Return the answers, in the order of the questions."""
    made = (_restored, _not_restored, _lost, _back, _accepted, _not_proved)
    return tuple(
        Answer(question=question, sentences=tuple(make(told)))
        for question, make in zip(QUESTIONS, made, strict=True)
    )


def _said(identifier: str, /, **values: int | str) -> Message:
    return Message(id=f"report.answer.{identifier}", values=values)


def _names(rows: Iterable[str]) -> dict[str, int | str]:
    found = list(rows)
    named = (name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in found[:NAMED])
    return {"names": ", ".join(named), "more": max(0, len(found) - NAMED)}


def _people(names: Iterable[str]) -> dict[str, int | str]:
    """Return people for a sentence, each once."""
    return _names(dict.fromkeys(names))


def _listed(identifier: str, rows: Iterable[TestRow | ApplicationRow | ReturnRow]) -> Message:
    """Return a sentence that counts applications, each once, and names the first of them."""
    found = {row.application: row.name for row in rows}
    form = "more" if len(found) > NAMED else "all"
    values = {**_names(found.values()), "more": max(0, len(found) - NAMED)}
    return _said(f"{identifier}.{form}", count=len(found), **values)


def _restored(told: MonthlyReport) -> Iterator[Message]:
    passed = [test for test in told.tests if test.verdict is Verdict.PASSED]
    if not told.tests:
        yield _said("restored.none")
        return
    yield _said("restored.tests", count=len(told.tests), passed=len(passed))
    observed = [test for test in passed if test.origin is Origin.OBSERVED]
    checked = [test for test in observed if test.level >= 3]
    if checked:
        yield _listed("restored.checked", checked)
    proved = {test.application for test in checked}
    weaker = [test for test in observed if test.application not in proved]
    if weaker:
        yield _listed("restored.weaker", weaker)


def _not_restored(told: MonthlyReport) -> Iterator[Message]:
    for standing in (Standing.FAILED, Standing.DUE, Standing.NO_ENGINE):
        stand = [row for row in told.applications if row.standing is standing]
        if stand:
            yield _listed(f"not_restored.{standing.value}", stand)
    tests = [row for row in told.undecided if row.task == "restore-test"]
    for code, count in Counter(row.code or "" for row in tests).most_common(3):
        yield _said("not_restored.why", count=count, code=code)
    if not any(
        row.standing in (Standing.FAILED, Standing.DUE, Standing.NO_ENGINE)
        for row in told.applications
    ):
        yield _said("not_restored.none")


def _vital(told: MonthlyReport) -> list[ApplicationRow]:
    return [row for row in told.applications if row.criticality is Criticality.C1]


def _lost(told: MonthlyReport) -> Iterator[Message]:
    vital = _vital(told)
    if not vital:
        yield _said("no_vital")
        return
    known = [row for row in vital if row.tonight.loss_ms is not None]
    worst = max(known, key=lambda row: row.tonight.loss_ms or 0, default=None)
    if worst is not None:
        form = "at_least" if worst.tonight.at_least else "worst"
        lost = worst.tonight.loss_ms or 0
        yield _said(f"lost.{form}", name=worst.name, loss_ms=lost, count=len(known))
    beyond = [row for row in vital if loses_too_much(row)]
    unknown = [row for row in vital if row.tonight.pruned]
    if beyond:
        yield _listed("lost.beyond", beyond)
    elif not unknown:
        yield _said("lost.none_beyond")
    if unknown:
        yield _listed("lost.pruned", unknown)
    nothing = [row for row in vital if row.tonight.loss_ms is None and not row.tonight.pruned]
    if nothing:
        yield _listed("lost.nothing_kept", nothing)


def _is_patient_record(row: ReturnRow) -> bool:
    return "dpi" in row.application.casefold() or "dossier patient" in row.name.casefold()


def _return(row: ReturnRow) -> Message:
    if not row.measured and row.end_ms == 0:
        return _said("back.unknown", name=row.name)
    name = "back.at" if row.measured else "back.not_before"
    if row.rto_ms is None:
        return _said(f"{name}.undeclared", name=row.name, end_ms=row.end_ms)
    late = "late" if row.late else "in_time" if row.measured else "open"
    return _said(f"{name}.{late}", name=row.name, end_ms=row.end_ms, rto_ms=row.rto_ms)


def _back(told: MonthlyReport) -> Iterator[Message]:
    vital = [row for row in told.recovery.returns if row.criticality is Criticality.C1]
    if not vital:
        yield _said("no_vital")
        return
    for row in sorted(vital, key=lambda one: (not _is_patient_record(one), one.position))[:RETURNS]:
        yield _return(row)
    if len(vital) > RETURNS:
        unmeasured = sum(not row.measured for row in vital[RETURNS:])
        yield _said("back.more", count=len(vital) - RETURNS, unmeasured=unmeasured)
    late_ones = [row for row in told.recovery.returns if row.late]
    if late_ones:
        yield _listed("back.late_ones", late_ones)


def _accepted(told: MonthlyReport) -> Iterator[Message]:
    held = [one for one in told.waivers if one.state == "in_force"]
    waiting = sum(one.state == "waiting" for one in told.waivers)
    looser = [one for one in told.overrides if one.loosens and one.state == "in_force"]
    stated = [one for one in told.attestations if one.state == "in_force"]
    if held or waiting:
        people = [one.confirmed_by or one.person or one.author or "—" for one in held]
        yield _said("accepted.waivers", count=len(held), waiting=waiting, **_people(people))
    if looser:
        people = [one.confirmed_by or one.person or one.author or "—" for one in looser]
        yield _said("accepted.thresholds", count=len(looser), **_people(people))
    if stated:
        unsigned = sum(one.key is None for one in stated)
        people = [one.person or one.author or "—" for one in stated]
        yield _said(
            "accepted.statements",
            count=len(stated),
            unsigned=unsigned,
            **_people(people),
        )
    baselines = [one for one in told.events if one.message.id == "report.event.baseline.accepted"]
    if baselines:
        people = [one.author or "—" for one in baselines]
        yield _said("accepted.baselines", count=len(baselines), **_people(people))
    signed = [
        one.message.values
        for one in told.events
        if one.message.id == "report.event.report.acknowledged"
    ]
    for worth in _WORTH:
        people = [str(v["who"]) for v in signed if v["worth"] == f"@report.acknowledged.{worth}"]
        if people:
            yield _said(f"accepted.reports.{worth}", count=len(people), **_people(people))
    if told.weakenings:
        unexplained = sum(one.reason is None for one in told.weakenings)
        yield _said("accepted.weakenings", count=len(told.weakenings), unexplained=unexplained)
    if not (held or waiting or looser or stated or baselines or signed or told.weakenings):
        yield _said("accepted.none")


def _not_proved(told: MonthlyReport) -> Iterator[Message]:
    yield _said("not_proved.always")
    untested = sum(not one.attested_by for row in told.protections for one in row.others)
    if told.protections:
        never = sum(row.verdict is None for row in told.protections)
        yield _said("not_proved.attackers", count=untested, never=never)
    unmeasured = sum(not row.measured for row in told.recovery.returns)
    if unmeasured:
        yield _said("not_proved.forecast", count=unmeasured)
    below = [
        row
        for row in told.applications
        if row.standing in (Standing.OPENED, Standing.BYTES_ONLY, Standing.DECLARED)
    ]
    if below:
        yield _said("not_proved.content", count=len(below))
    if told.evidence.anchored_at is None:
        yield _said("not_proved.anchor")
    elif told.evidence.anchor_old:
        yield _said("not_proved.anchor_old", anchored_at=to_us(told.evidence.anchored_at))
