"""From a fact to what is told of it: pure functions, one per kind of fact, in one table.

Nothing that a person wrote freely (reasons, texts of statements) and no value of restored data goes
into an event; who wants them reads the evidence, whose number every event has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backupguard.model import Fact, Message, Severity
from backupguard.notify.catalogue import EVENTS, Event, Level

_Data = Mapping[str, Any]
_Told = Iterator["_One"]

#: What a device, a policy or a configuration is called is cut after so many characters.
LONGEST = 200

_BAD = frozenset({"non_compliant", "warning", "not_measurable"})
_LEVELS = {
    Severity.CRITICAL: Level.CRITICAL,
    Severity.HIGH: Level.ERROR,
    Severity.WARNING: Level.WARNING,
    Severity.INFO: Level.NOTICE,
}
_LOCKS = frozenset(
    {
        *("lock_removed", "lock_weakened", "append_only_dropped", "versioning_suspended"),
        "protection_weakened",
    }
)


@dataclass(frozen=True, slots=True)
class _One:
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    level: Level | None = None
    said: Mapping[str, Message] = field(default_factory=dict)


def derive(fact: Fact, before: Fact | None, store: str) -> tuple[Event, ...]:
    """Return what is told of a fact: nothing for most of them, nor for one whose body was pruned.

    `before` is the fact of the same kind and subject before it, where `COMPARED` asks for it; `store`
    is the id of the store, so that the events of two daemons never have the same id.
    """
    told = _BY_KIND.get(fact.observation.kind)
    data = fact.observation.data
    if told is None or not isinstance(data, Mapping):
        return ()
    earlier = before.observation.data if before is not None else None
    known = earlier if isinstance(earlier, Mapping) else None
    return tuple(
        _event(fact, one, f"{store}-{fact.seq}-{number}")
        for number, one in enumerate(told(fact, data, known))
    )


def _event(fact: Fact, one: _One, identifier: str) -> Event:
    kind = EVENTS[one.code]
    values = {name: _plain(value) for name, value in one.values.items() if value is not None}
    return Event(
        id=identifier,
        code=one.code,
        level=one.level if one.level is not None else kind.level,
        subject=fact.observation.subject,
        seq=fact.seq,
        happened_at=fact.observation.observed_at,
        recorded_at=fact.recorded_at,
        author=fact.author,
        run=fact.run,
        values=values,
        said=one.said,
    )


def _plain(value: Any) -> int | str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, int) else str(value)[:LONGEST]


def _name(subject: str) -> str:
    return subject.partition("/")[2]


# ---------------------------------------------------------------------------------------- findings


def _finding(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    before, after = data["before"], data["after"]
    reason = Message(id=data["reason"]["id"], values=data["reason"]["values"])
    values = {
        "control": data["control"],
        "status": after,
        "before": before,
        "severity": data["severity"],
        "cause": data["cause"],
        "reason": reason.id,
    }
    if after in _BAD and reason.id == "reason.PRV-01.broken":
        yield _One("evidence.broken", {"record": reason.values.get("seq")})
    if after in _BAD and reason.id == "reason.RET-01.loss":
        names = ("job", "repository", "lost", "before")
        yield _One("points.deleted", {name: reason.values.get(name) for name in names})
    if before == "waived" and after in _BAD:
        yield _One("waiver.lapsed", {"control": data["control"], "status": after})
    if before == after:
        return
    said = {"reason": reason, "state": Message(id=f"status.state.{after}")}
    if after in _BAD:
        code = "finding.changed" if before in _BAD else "finding.opened"
        yield _One(code, values, _level(data["severity"], after), said)
    elif after == "waived":
        yield _One("finding.waived", values, said=said)
    elif before in _BAD:
        yield _One("finding.closed", values, said=said)


def _level(severity: str, status: str) -> Level:
    level = _LEVELS[Severity(severity)]
    return level if status == "non_compliant" else max(level, Level.WARNING)


# ----------------------------------------------------------------------------------- restore tests

_TEST_CODES = {
    "passed": "restore-test.passed",
    "failed": "restore-test.failed",
    "could_not_verify": "restore-test.could-not-verify",
}


def _restore_test(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    code = _TEST_CODES.get(data["verdict"])
    if code is not None:
        names = ("application", "engine", "repository", "level", "code", "duration_ms")
        yield _One(code, {name: data[name] for name in names}, said=_why(data["code"]))


def _why(code: str | None) -> Mapping[str, Message]:
    return {"why": Message(id=f"error.{code}" if code else "event.no-code")}


def _self_test(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    values = {name: data[name] for name in ("application", "engine", "harm")}
    if data["noticed"] is True:
        yield _One("self-test.noticed", values)
    elif data["noticed"] is False:
        yield _One("self-test.missed", {**values, "code": data["code"]})


# ------------------------------------------------------------------------------------ repositories


def _inspected(fact: Fact, data: _Data, before: _Data | None) -> _Told:
    values = {"repository": _name(fact.observation.subject)}
    same = before is not None and before["reachable"] == data["reachable"]
    if not data["reachable"]:
        if not same or (before or {})["code"] != data["code"]:
            yield _One(
                "repository.unreachable", {**values, "code": data["code"]}, said=_why(data["code"])
            )
    elif before is not None and not same:
        yield _One("repository.reachable", values)


def _verified(fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    if data["verdict"] == "failed":
        damaged = sum(unit["verdict"] == "failed" for unit in data["units"])
        values = {"repository": _name(fact.observation.subject), "units": damaged}
        yield _One("integrity.failed", {**values, "code": data["code"]}, said=_why(data["code"]))


# ------------------------------------------------------------------------------------- protections

_PROOFS = {
    "passed": "immutability.proved",
    "failed": "immutability.refuted",
    "could_not_verify": "immutability.inconclusive",
}


def _tried(fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    code = _PROOFS.get(data["verdict"])
    # a lock that does not hold is told each time, the rest when it is news
    if code is None or (data["verdict"] == data["before"] != "failed"):
        return
    yield _One(
        code,
        {
            "repository": _name(fact.observation.subject),
            "attacker": data["attacker"],
            "worked": ", ".join(data["worked"]) or None,
            "refused": ", ".join(data["refused"]) or None,
            "code": data["code"],
            "before": data["before"],
        },
        said=_why(data["code"]),
    )


def _attempt(fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    if data["outcome"] is not None:
        yield _One(
            "immutability.attempted",
            {
                "repository": _name(fact.observation.subject),
                "attacker": data["attacker"],
                "attempt": data["name"],
                "target": data["target"],
                "result": data["outcome"],
                "code": data["code"],
                "request_id": data["request_id"],
            },
        )


def _policy(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    weaker = [change for change in data["changes"] if change["weakening"]]
    for change in weaker:
        code = change["weakening"]
        tool, _, rest = change["path"].partition("|")
        where, _, item = rest.rpartition("|")
        values = {"place": f"{tool}|{where}", "item": item, "weakening": code}
        if code == "retention_shortened" or code in _LOCKS:  # others may quote what is backed up
            values |= {name: change.get(name) for name in ("before", "after")}
        yield _One(_weakening(code), values, said={"what": Message(id=f"weakening.{code}")})
    if not weaker and data["changes"]:
        yield _One("policy.changed", {"changes": len(data["changes"])})


def _weakening(code: str) -> str:
    if code in _LOCKS:
        return "lock.lost"
    named = {"retention_shortened": "retention.shortened", "admin_added": "administrator.added"}
    return named.get(code, "policy.weakened")


# ------------------------------------------------------------------------------------------- media


def _medium(_fact: Fact, data: _Data, before: _Data | None) -> _Told:
    medium = data["medium"]
    if data["mismatch"] and data["mismatch"] != (before or {}).get("mismatch"):
        yield _One("medium.mismatch", {"medium": medium, "mismatch": data["mismatch"]})
    was = before["attached"] if before is not None else False
    if data["attached"] and not was:
        yield _One("medium.attached", {"medium": medium, "device": data["device"]})
    elif was and not data["attached"]:
        yield _One("medium.detached", {"medium": medium})


def _unknown_media(_fact: Fact, data: _Data, before: _Data | None) -> _Told:
    known = {one.get("value") for one in (before or {}).get("media", ())}
    for one in data["media"]:
        if one.get("value") not in known:
            names = ("device", "identity", "tool")
            yield _One("medium.unknown", {name: one.get(name) for name in names})


def _moved(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    yield _One("medium.moved", {"medium": data["medium"], "direction": data["direction"]})


# --------------------------------------------------------------------------------------- isolation


def _open(data: _Data | None) -> set[tuple[str, str, int]]:
    rows = data["rows"] if data is not None else ()
    return {
        (row["target"], row["address"] or row["name"], row["port"])
        for row in rows
        if row["outcome"] == "open" and not row["announced"]
    }


def _isolation(_fact: Fact, data: _Data, before: _Data | None) -> _Told:
    new = sorted(_open(data) - _open(before))
    if new:
        target, address, port = new[0]
        values = {"vantage": data["vantage"], "target": target, "address": address}
        yield _One("isolation.open", {**values, "port": port, "ports": len(new)})


def _joined(_fact: Fact, data: _Data, before: _Data | None) -> _Told:
    if data["joined"] and not (before is not None and before["joined"]):
        yield _One("host.joined", {"host": data["host"], "domains": ", ".join(data["domains"])})


# -------------------------------------------------------------------------------------- the daemon


def _configuration(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    differences = data["differences"]
    values = {"changes": len(differences), "sha256": data["sha256"]}
    weaker = [one for one in differences if one["weakened"]]
    if weaker:
        first = weaker[0]
        yield _One(
            "configuration.weakened",
            {
                **values,
                "weakened": len(weaker),
                "item": first["path"],  # not its value, which may quote a question to the data
            },
        )
    elif differences:
        yield _One("configuration.changed", values)


def _rejected(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    values = {"problems": data["problems"], "file": data["first_file"], "item": data["first_key"]}
    yield _One("configuration.rejected", values)


def _started(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    values = {"version": data["program_version"], "host": data["host"]}
    code = "daemon.started" if data["clean"] else "daemon.recovered"
    yield _One(code, {**values, "interrupted": len(data["recovered"])})


# ------------------------------------------------------------------------------- the simple ones


def _copied(code: str, **names: str) -> Callable[[Fact, _Data, _Data | None], _Told]:
    """Return a function that tells `code` with these values: its own name = the fact's name."""

    def told(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
        yield _One(code, {own: data[name] for own, name in names.items()})

    return told


def _attested(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    values = {"topic": data["topic"], "person": data["person"], "until_at": data["expires_at"]}
    yield _One("attestation.made", {**values, "signed": data["signature"] is not None})


def _acknowledged(_fact: Fact, data: _Data, _before: _Data | None) -> _Told:
    values = {"month": data["month"], "method": data["method"], "sha256": data["sha256"]}
    yield _One("report.acknowledged", {**values, "certificate": data["certificate"] or "—"})


_BY_KIND: Mapping[str, Callable[[Fact, _Data, _Data | None], _Told]] = {
    "attestation.made": _attested,
    "attestation.withdrawn": _copied("attestation.withdrawn"),
    "baseline.accepted": _copied("baseline.accepted"),
    "baseline.reset": _copied("baseline.reset"),
    "clock.stepped": _copied("clock.stepped", step_ms="step_ms"),
    "configuration.loaded": _configuration,
    "configuration.rejected": _rejected,
    "daemon.started": _started,
    "daemon.stopped": _copied("daemon.stopped", host="host", reason="reason"),
    "evidence.anchored": _copied("evidence.anchored", place="place", record="seq", sha256="hash"),
    "evidence.key-created": _copied("evidence.key-created", fingerprint="fingerprint"),
    "evidence.pruned": _copied("evidence.pruned", first="first_seq", last="last_seq"),
    "finding.changed": _finding,
    "host.joined": _joined,
    "immutability.attempt": _attempt,
    "immutability.tried": _tried,
    "isolation.seen": _isolation,
    "media.unknown": _unknown_media,
    "medium.moved": _moved,
    "medium.seen": _medium,
    "override.asked": _copied(
        "override.asked",
        control="control",
        threshold="threshold",
        given="given",
        loosens="loosens",
        until_at="until_at",
    ),
    "override.confirmed": _copied("override.confirmed", person="person"),
    "override.ended": _copied("override.ended"),
    "pause.ended": _copied("pause.ended"),
    "pause.started": _copied("pause.started", until_at="until_at"),
    "policy.changed": _policy,
    "report.acknowledged": _acknowledged,
    "report.issued": _copied("report.issued", month="month", format="format", sha256="sha256"),
    "report.reminded": _copied(
        "report.reminded", month="month", issued_at="issued_at", time="time"
    ),
    "repository.inspected": _inspected,
    "repository.verified": _verified,
    "restore-test.result": _restore_test,
    "self-test.result": _self_test,
    "store.replaced": _copied("store.replaced", file="old_file", sha256="old_sha256"),
    "waiver.asked": _copied("waiver.asked", control="control", until_at="until_at"),
    "waiver.confirmed": _copied("waiver.confirmed", person="person"),
    "waiver.ended": _copied("waiver.ended"),
}

#: The kinds of fact that have a function here.
KINDS = frozenset(_BY_KIND)
