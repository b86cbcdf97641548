"""What `backupguard why` says: at most 24 lines about one finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backupguard.cli import common, locks, weakenings
from backupguard.errors import StoreError
from backupguard.evidence.statements import override_told
from backupguard.model import SITE, Criticality, Fact, Json, Message, to_us

if TYPE_CHECKING:
    from backupguard.contracts import Store
    from backupguard.controls.catalogue import Threshold, ThresholdValue
    from backupguard.language import Words

MOST_FACTS = 6

#: Reason → message id of the next step; the longest matching beginning counts.
_NEXT = {
    "reason.never_seen": "next.inventory",
    "reason.unseen": "next.inventory",
    "reason.clock_behind": "next.clock",
    "reason.bug": "next.log",
    "reason.removed": "next.configuration",
    "reason.unproven": "next.confirm",
    "reason.waived": "next.waived",
    "reason.321-01": "next.copies",
    "reason.321-01.few_broken": "next.damaged",
    "reason.321-01.few_stale": "next.job",
    "reason.321-01.few_empty": "next.job",
    "reason.321-01.no_job": "next.configuration",
    "reason.321-01.unseen": "next.inventory",
    "reason.321-01.undeclared": "next.declare",
    "reason.321-01.production_undeclared": "next.declare",
    "reason.321-01.attestation": "next.attest",
    "reason.321-01.kept": "next.nothing",
    "reason.321-01.offline_reached": "next.media",
    "reason.321-01.no_offline": "next.register",
    "reason.321-01.offline_declared": "next.offline_proof",
    "reason.CHF-01": "next.escrow_test",
    "reason.CHF-01.good": "next.nothing",
    "reason.CHF-01.on_site": "next.nothing",
    "reason.CHF-01.clear": "next.encrypt",
    "reason.CHF-01.unknown": "next.encrypt",
    "reason.CHF-01.unseen": "next.inventory",
    "reason.CHF-01.never_seen": "next.inventory",
    "reason.CHF-01.wrong_key": "next.escrow_key",
    "reason.CHF-01.never_attested": "next.escrow_attest",
    "reason.CHF-01.no_escrow": "next.escrow_attest",
    "reason.CHF-01.escrow_expired": "next.escrow_attest",
    "reason.CHF-01.attested_only": "next.escrow_by_hand",
    "reason.CFG-01": "next.policies",
    "reason.CFG-01.kept": "next.nothing",
    "reason.CFG-01.weakened": "next.change",
    "reason.CFG-01.unsigned": "next.sign",
    "reason.CFG-01.rejected": "next.rejected",
    "reason.CFG-01.unknown_medium": "next.unknown_medium",
    "reason.CFG-01.unread": "next.policy_rights",
    "reason.CFG-01.never_read": "next.policy_rights",
    "reason.INV-01": "next.cover",
    "reason.INV-01.covered": "next.nothing",
    "reason.INV-01.no_reference": "next.reference",
    "reason.INV-01.old_reference": "next.reference",
    "reason.INV-01.lacking": "next.rights",
    "reason.INV-02": "next.job",
    "reason.INV-02.saved": "next.nothing",
    "reason.INV-02.nothing_declared": "next.declare",
    "reason.INV-02.undeclared": "next.declare",
    "reason.INV-02.place_undeclared": "next.declare",
    "reason.INV-02.same_place": "next.copies",
    "reason.JOB-01": "next.job",
    "reason.JOB-01.done": "next.nothing",
    "reason.JOB-01.not_due": "next.nothing",
    "reason.JOB-01.clock_change": "next.nothing",
    "reason.PDM-01": "next.job",
    "reason.PDM-01.met": "next.nothing",
    "reason.PDM-01.met_default": "next.declare",
    "reason.PDM-01.undeclared": "next.declare",
    "reason.PDM-01.stale_declaration": "next.declare",
    "reason.PDM-01.exposed": "next.exposure",
    "reason.PDM-01.no_logs": "next.logs",
    "reason.PDM-01.no_job": "next.configuration",
    "reason.PDM-01.unseen": "next.inventory",
    "reason.RET-01": "next.retention",
    "reason.RET-01.kept": "next.nothing",
    "reason.RET-01.young": "next.nothing",
    "reason.RET-01.no_point_yet": "next.nothing",
    "reason.RET-01.uncounted": "next.nothing",
    "reason.RET-01.no_point": "next.job",
    "reason.RET-01.loss": "next.loss",
    "reason.ANO-01": "next.anomaly",
    "reason.ANO-01.usual": "next.nothing",
    "reason.ANO-01.young": "next.nothing",
    "reason.ANO-01.none": "next.nothing",
    "reason.ANO-01.no_numbers": "next.nothing",
    "reason.IMM-01": "next.locks",
    "reason.IMM-01.locked": "next.nothing",
    "reason.IMM-01.tried": "next.nothing",
    "reason.IMM-01.not_claimed": "next.claim",
    "reason.IMM-01.never": "next.immutability",
    "reason.IMM-01.old": "next.immutability",
    "reason.IMM-01.unsure": "next.immutability",
    "reason.IMM-01.untried": "next.immutability",
    "reason.IMM-01.no_points": "next.immutability",
    "reason.IMM-01.unread": "next.lock-unread",
    "reason.IMM-01.no_right": "next.lock-rights",
    "reason.IMM-01.refuted": "next.unprotected",
    "reason.IMM-01.weak": "next.unprotected",
    "reason.IMM-01.hidden": "next.hidden",
    "reason.IMM-01.missing": "next.damaged",
    "reason.IMM-01.vendor": "next.vendor",
    "reason.IMM-02": "next.immutability",
    "reason.IMM-02.proved": "next.nothing",
    "reason.IMM-02.refuted": "next.unprotected",
    "reason.IMM-02.lost_protection": "next.unprotected",
    "reason.IMM-02.not_set_up": "next.writer",
    "reason.IMM-02.wrong_credentials": "next.writer",
    "reason.IMM-02.nothing_to_try": "next.nothing_to_try",
    "reason.IMM-02.inconclusive": "next.try_again",
    "reason.IMM-02.unsure": "next.try_again",
    "reason.IMM-02.stale": "next.try_again",
    "reason.INT-01": "next.integrity",
    "reason.INT-01.complete": "next.nothing",
    "reason.INT-01.failed": "next.damaged",
    "reason.OFF-01": "next.bring",
    "reason.OFF-01.away": "next.nothing",
    "reason.OFF-01.no_medium": "next.register",
    "reason.OFF-01.vtl": "next.register",
    "reason.OFF-01.attached": "next.detach",
    "reason.OFF-01.left_attached": "next.detach",
    "reason.OFF-01.still_attached": "next.detach",
    "reason.OFF-01.swapped": "next.swapped",
    "reason.OFF-01.no_look": "next.offline",
    "reason.OFF-01.unlooked": "next.offline",
    "reason.OFF-01.answers": "next.stop_answering",
    "reason.OFF-01.undeclared": "next.move",
    "reason.OFF-01.corrupt": "next.damaged",
    "reason.OFF-01.no_vantage": "next.vantage_point",
    "reason.OFF-01.no_target": "next.target",
    "reason.OFF-01.vantage_silent": "next.vantage_host",
    "reason.ISO-01": "next.vantage_point",
    "reason.ISO-01.open": "next.isolation",
    "reason.ISO-01.switched_on": "next.switch_off",
    "reason.ISO-01.host_unseen": "next.isolation_look",
    "reason.ISO-01.join": "next.join",
    "reason.ISO-01.join_old": "next.isolation_look",
    "reason.ISO-01.join_unread": "next.join_rights",
    "reason.ISO-01.no_target": "next.target",
    "reason.ISO-01.changed": "next.vantage_config",
    "reason.ISO-01.never_reported": "next.vantage_point",
    "reason.ISO-01.not_yet": "next.vantage_host",
    "reason.ISO-01.silent": "next.vantage_host",
    "reason.ISO-01.stale": "next.vantage_host",
    "reason.ISO-01.untried": "next.vantage_host",
    "reason.ISO-01.witness": "next.witness",
    "reason.ISO-01.family": "next.witness",
    "reason.ISO-01.unresolved": "next.target_name",
    "reason.ISO-01.attest": "next.vantage_point",
    "reason.ISO-01.closed": "next.nothing",
    "reason.RST-01": "next.restore_test",
    "reason.RST-01.failed_declared": "next.failed_declared",
    "reason.RST-01.unsigned": "next.sign_test",
    "reason.RST-02.declared": "next.nothing",
    "reason.RST-02.failed_declared": "next.failed_declared",
    "reason.RST-02.unsigned": "next.sign_test",
    "reason.RST-04": "next.rebuild",
    "reason.RST-04.rebuilt": "next.nothing",
    "reason.RST-04.without": "next.nothing",
    "reason.RST-04.unsigned": "next.sign_test",
    "reason.RST-04.not_started": "next.rebuild_elsewhere",
    "reason.RST-04.failed": "next.failed_declared",
    "reason.RST-01.passed": "next.nothing",
    "reason.RST-01.failed": "next.failed",
    "reason.RST-02": "next.restore_test",
    "reason.RST-02.proved": "next.nothing",
    "reason.RST-02.no_business_check": "next.checks",
    "reason.RST-02.provisional": "next.baseline",
    "reason.RST-02.failed": "next.content",
    "reason.RST-02.reached": "next.clean_point",
    "reason.RST-02.reached_between": "next.bisect",
    "reason.RST-02.canary_missing": "next.canary",
    "reason.RST-03": "next.duration",
    "reason.RST-03.within": "next.nothing",
    "reason.RST-03.never": "next.restore_test",
    "reason.RST-03.old": "next.restore_test",
    "reason.ACC-01": "next.account",
    "reason.ACC-01.kept": "next.nothing",
    "reason.ACC-01.no_repository": "next.declare",
    "reason.ACC-01.unseen": "next.drift",
    "reason.ACC-01.look_lost": "next.drift",
    "reason.ACC-01.old_secret": "next.rotate",
    "reason.ACC-01.shared_secret": "next.own_secret",
    "reason.ACC-01.mfa": "next.attest_mfa",
    "reason.ACC-01.mfa_partial": "next.mfa",
    "reason.ACC-01.admins": "next.attest_admins",
    "reason.ACC-01.rotation": "next.attest_secrets",
    "reason.PRV-01": "next.verify",
    "reason.PRV-01.kept": "next.nothing",
    "reason.PRV-01.blind": "next.self_test",
    "reason.PRV-01.self_test_old": "next.self_test",
    "reason.PRV-01.self_test_never": "next.self_test",
    "reason.PRV-01.no_report": "next.report",
    "reason.PRV-01.not_acknowledged": "next.acknowledge",
    "reason.PRV-01.no_anchor": "next.anchor",
    "reason.PRV-01.old_anchor": "next.anchor",
    "reason.not_built": "next.nothing",
}


#: What a next step may repeat of its reason.
_NAMES = ("medium", "console", "vantage", "target", "name", "zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One finding, explained: labelled lines, and the same as JSON."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    facts_label: str
    facts: tuple[str, ...]
    next_label: str
    next_step: str
    json: dict[str, Json] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return fewer than 25 lines."""
        width = max(len(label) for label, _ in self.rows)
        lines = [*self.head, ""]
        lines += [f"{label.ljust(width)}  {text}" for label, text in self.rows]
        lines += ["", self.facts_label, *(f"  {fact}" for fact in self.facts), ""]
        return [*lines, f"{self.next_label}  {self.next_step}"]

    def as_json(self) -> dict[str, Json]:
        """Return the same as JSON values."""
        return self.json


def explained(document: Json, finding: Json, words: Words) -> Explained:
    """Explain a finding; what only the store knows is left out when it cannot be opened."""
    from backupguard.controls import catalogue_of
    from backupguard.notify.standing import finding_json, said

    rows = [
        ("status.why.state", _state(finding, words)),
        ("status.why.reason", said(finding, words)),
        ("status.why.since", words.text("status.time", moment_at=finding["since"])),
    ]
    facts: list[Fact] = []
    good_at: int | None = None
    known = True
    weaker: list[str] = []
    try:
        with closing(common.store(common.settings(), replace_corrupt=False)) as store:
            facts = [f for seq in finding["facts"][-MOST_FACTS:] if (f := store.fact(seq))]
            good_at = last_good(store, finding)
            weaker = list(weakenings.said(store, finding, words))
    except StoreError:
        known = False
    if known:
        never = words.text("status.why.never")
        good = words.text("status.time", moment_at=good_at) if good_at is not None else never
        rows.append(("status.why.good", good))
    rows += [("status.why.weakened", line) for line in weaker]
    held = [line for fact in facts for line in locks.said(fact, words)]
    if held:
        rows.append(("status.why.locks", " ".join(held)))
    entry = catalogue_of(common.settings()).entries.get(finding["control"])
    if entry is not None:
        criticality = Criticality(finding["criticality"])
        demands = [
            f"{words.text(f'threshold.{name}')} {_amount(threshold, value, words)} "
            f"({value.source or words.text(f'threshold.{value.origin.value}')})"
            for name, threshold in entry.thresholds.items()
            if (value := threshold.of(criticality)) is not None
        ]
        if demands:
            rows.append(("status.why.demand", ", ".join(demands)))
        rows += [
            ("status.why.override", words.say(override_told(row)))
            for row in document.get("overrides", ())
            if row["control"] == finding["control"] and row["subject"] in (SITE, finding["subject"])
        ]
        rows.append(("status.why.sources", ", ".join(entry.sources)))
    title = document["titles"].get(finding["control"], {}).get(words.language, "")
    name = document["names"].get(finding["subject"], "")
    step = next_step(finding, words)
    return Explained(
        head=(
            f"{finding['control']} — {title}",
            f"{finding['subject']} — {name} ({finding['criticality']})",
        ),
        rows=tuple((words.text(label), text) for label, text in rows),
        facts_label=words.text("status.why.facts"),
        facts=tuple(_fact_line(fact, words) for fact in facts)
        or (words.text("status.why.no_facts"),),
        next_label=words.text("status.why.next"),
        next_step=step,
        json={
            **finding_json(document, finding, words),
            "last_compliant": good_at,
            "facts_in_words": [_fact_line(fact, words) for fact in facts],
            "next": step,
        },
    )


def _amount(threshold: Threshold, value: ThresholdValue, words: Words) -> str:
    """Return a threshold's value in words: "31 j", "80 %"."""
    amount = threshold.number(value)
    if threshold.unit == "duration":
        return words.duration(amount * 1000)
    if threshold.unit == "percent":
        return f"{amount}\u00a0%" if words.language == "fr" else f"{amount}%"
    return str(value.value)


def last_good(store: Store, finding: Json) -> int | None:
    """Return the last time a finding was known to be compliant, in microseconds."""
    if finding["status"] == "compliant":
        return int(finding["since"]) if finding["since"] else None
    last: int | None = None
    compliant = False
    for fact in store.facts(kinds=("finding.changed",), subject=finding["subject"]):
        data = fact.observation.data
        if not isinstance(data, Mapping) or data.get("control") != finding["control"]:
            continue
        if compliant or data.get("after") == "compliant":
            last = to_us(fact.observation.observed_at)
        compliant = data.get("after") == "compliant"
    return last


def _state(finding: Json, words: Words) -> str:
    parts = [words.text(f"status.state.{finding['status']}")]
    if finding["cause"]:
        parts.append(words.text(f"status.why.cause.{finding['cause']}"))
    if finding["status"] in {"non_compliant", "warning"}:
        parts.append(words.text(f"status.severity.{finding['severity']}"))
    return ", ".join(parts)


def _fact_line(fact: Fact, words: Words) -> str:
    observation = fact.observation
    parts = [
        f"#{fact.seq}",
        words.time(observation.observed_at),
        words.text(f"status.origin.{observation.origin.value}"),
        observation.kind,
        *_outcome(observation.data, words),
    ]
    return "  ".join(parts)


def _outcome(data: Any, words: Words) -> Iterator[str]:
    if not isinstance(data, Mapping):
        return
    if data.get("verdict"):
        yield words.text(f"verdict.{data['verdict']}")
    if data.get("repository"):
        yield str(data["repository"])
    if data.get("code"):
        yield words.text(f"code.{data['code']}")


def next_step(finding: Json, words: Words) -> str:
    """Return what to do about a finding: a command, or who has to act."""
    reason: str = finding["reason"]["id"]
    values: dict[str, int | str] = finding["reason"]["values"]
    step = max((known for known in _NEXT if reason.startswith(known)), key=len, default=None)
    subject = finding["subject"].partition("/")[2]
    said = {
        "application": subject.split(".", 1)[0],
        "subject": finding["subject"],
        "repository": values.get("repository", subject),
        "month": values.get("month", ""),
        "check": values.get("check", ""),
        "seq": values.get("seq", ""),
        **{name: values.get(name, "…") for name in _NAMES},
    }
    return words.say(Message(id=_NEXT[step] if step else "next.log", values=said))
