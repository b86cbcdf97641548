"""What stands, for whoever asks: chosen from a `status.json`, as JSON or as a monitoring plugin.

The same for the command line and for `GET /api/v1/status`. Output follows the Monitoring Plugins
Development Guidelines: one short line, "|", performance data, then long output; exit 0 OK, 1 WARNING,
2 CRITICAL, 3 UNKNOWN. Our "not measurable" is their UNKNOWN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from backupguard.errors import UsageError
from backupguard.model import Json, Message, from_us, to_us

if TYPE_CHECKING:
    from backupguard.language import Words

NOT_MEASURABLE = 3
#: Worst first, with the exit code of each.
EXITS = {"non_compliant": 2, "not_measurable": 3, "warning": 1}
SHOWN = ("non_compliant", "not_measurable", "warning", "compliant", "waived")
STATES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
#: Lines of long output: pollers cut what is longer than a few kilobytes.
LONGEST = 30

Findings = Sequence[Json]


def exit_code(findings: Findings) -> int:
    """Return 2 for anything non-compliant, else 3, 1 or 0; nothing at all measures nothing."""
    states = {finding["status"] for finding in findings}
    if not states:
        return NOT_MEASURABLE
    return next((code for state, code in EXITS.items() if state in states), 0)


def unwatched(code: int) -> int:
    """Return what an exit code becomes where nothing is watched: nothing is known but what is wrong."""
    return code if code == EXITS["non_compliant"] else NOT_MEASURABLE


def chosen(document: Json, application: str | None, control: str | None) -> list[Json]:
    """Return the findings of an application (its jobs and repositories too) and of a control.

    Raises UsageError for one that does not exist.
    """
    findings: list[Json] = document["findings"]
    if control is not None:
        name = control.upper().removeprefix("D4-")
        if name not in document["titles"]:
            message = Message(id="status.unknown_control", values={"control": control})
            raise UsageError("unknown_subject", message)
        findings = [finding for finding in findings if finding["control"] == name]
    if application is not None:
        copies = document["copies"].get(application)
        if copies is None:
            message = Message(id="status.unknown_application", values={"application": application})
            raise UsageError("unknown_subject", message)
        own = {f"application/{application}", *(f"repository/{name}" for name in copies)}
        findings = [
            finding
            for finding in findings
            if finding["subject"] in own or finding["subject"].startswith(f"job/{application}.")
        ]
    return findings


def counts(findings: Findings) -> dict[str, int]:
    """Return how many findings have each status, the worst first."""
    counted = Counter(finding["status"] for finding in findings)
    return {state: counted[state] for state in (*SHOWN, "not_applicable")}


def worst_first(findings: Findings) -> list[Json]:
    """Return what applies, the worst first."""
    shown = [finding for finding in findings if finding["status"] in SHOWN]
    return sorted(
        shown,
        key=lambda f: (SHOWN.index(f["status"]), f["criticality"], f["control"], f["subject"]),
    )


def said(finding: Json, words: Words) -> str:
    """Return a finding's reason in words."""
    reason = finding["reason"]
    return words.say(Message(id=reason["id"], values=reason["values"]))


def moment(microseconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return from_us(microseconds).isoformat() if microseconds is not None else None


def stale(document: Json, now: datetime) -> bool:
    """Tell whether a status is too old to be believed, or comes from a time that has not come."""
    return not document["judged_at"] - 60_000_000 <= to_us(now) <= document["stale_after"]


# ---------------------------------------------------------------------------------------- as JSON


def as_json(document: Json, findings: Findings, words: Words) -> dict[str, Json]:
    """Return findings for `--json` and the API: times in ISO 8601, words beside the ids."""
    return {
        "site": document["site"],
        "judged_at": moment(document["judged_at"]),
        "head_seq": document["head_seq"],
        "exit_code": exit_code(findings),
        "counts": counts(findings),
        "waivers": list(document.get("waivers", ())),
        "overrides": list(document.get("overrides", ())),
        "aligned": dict(document.get("aligned", {})),
        "attestations": list(document.get("attestations", ())),
        "findings": [finding_json(document, finding, words) for finding in findings],
    }


def finding_json(document: Json, finding: Json, words: Words) -> dict[str, Json]:
    """Return a finding: times in ISO 8601, title and reason in words beside the ids."""
    return {
        **finding,
        "title": document["titles"].get(finding["control"], {}).get(words.language),
        "name": document["names"].get(finding["subject"]),
        "reason": {**finding["reason"], "text": said(finding, words)},
        "since": moment(finding["since"]),
        "last_non_compliant": moment(finding["last_non_compliant"]),
    }


def applications(document: Json) -> list[dict[str, Json]]:
    """Return every application with its name, its criticality and how it stands: for discovery."""
    classes = {finding["subject"]: finding["criticality"] for finding in document["findings"]}
    return [
        {
            "id": name,
            "name": document["names"].get(f"application/{name}", name),
            "criticality": classes.get(f"application/{name}"),
            "exit_code": exit_code(chosen(document, name, None)),
        }
        for name in sorted(document["copies"])
    ]


# -------------------------------------------------------------------------- as a monitoring plugin


def _line(text: str) -> str:
    """Return text that neither ends a line nor begins performance data."""
    return " ".join(text.split()).replace("|", "/")


def unknown(text: str) -> str:
    """Return what a plugin says when it cannot tell: state UNKNOWN, in words."""
    return f"BACKUPGUARD UNKNOWN - {_line(text)}"


def plugin(
    document: Json, findings: Findings, words: Words, now: datetime, absent: str | None = None
) -> str:
    """Return a plugin's output: a line with counts and performance data, then what is not in order.

    `absent` says that no daemon is alive, where that is so.
    """
    if stale(document, now):
        message = Message(id="status.silent", values={"judged_at": document["judged_at"]})
        return unknown(words.say(message))
    counted = counts(findings)
    wrong = [one for one in worst_first(findings) if one["status"] in EXITS]
    text = words.say(Message(id="status.counts", values=counted)) if findings else ""
    code = exit_code(findings) if absent is None else unwatched(exit_code(findings))
    text = " ".join(filter(None, (absent, text or words.text("status.none"))))
    first = f"BACKUPGUARD {STATES[code]} - {_line(text)}"
    lines = [f"{first} | {_performance(counted, document, now)}"]
    for one in wrong[:LONGEST]:
        state = words.text(f"status.state.{one['status']}")
        lines.append(_line(f"{state} {one['control']} {one['subject']}: {said(one, words)}"))
    if len(wrong) > LONGEST:
        lines.append(_line(words.text("status.more", count=len(wrong) - LONGEST)))
    return "\n".join(lines)


def _performance(counted: Mapping[str, int], document: Json, now: datetime) -> str:
    """Return the figures: how many in each status, and how old the judgement is.

    Thresholds are ranges: "0" alerts above none.
    """
    total = sum(counted[state] for state in SHOWN)
    limits = {"non_compliant": ";0", "not_measurable": "0;", "warning": "0;"}
    parts = [f"{state}={counted[state]};{limits.get(state, ';')};0;{total}" for state in SHOWN]
    age = max(0, (to_us(now) - document["judged_at"]) // 1_000_000)
    within = (document["stale_after"] - document["judged_at"]) // 1_000_000
    return " ".join([*parts, f"judgement_age={age}s;;{within};0;"])
