"""`backupguard status` and `backupguard why`: what stands, how bad it is, and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common, status_file
from backupguard.errors import BackupGuardError, ConfigurationError, UsageError
from backupguard.evidence.statements import attestation_told, override_told, waiver_told
from backupguard.model import Json, Message, from_us

if TYPE_CHECKING:
    from backupguard.language import Words

EXIT_NOT_MEASURABLE = 3
#: Worst first, with the exit code of each.
EXITS = {"non_compliant": 2, "not_measurable": 3, "warning": 1}
_SHOWN = ("non_compliant", "not_measurable", "warning", "compliant", "waived")
_NAGIOS = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}


def exit_code(findings: Sequence[Json]) -> int:
    """Return 2 for anything non-compliant, else 3, 1 or 0; nothing at all measures nothing."""
    states = {finding["status"] for finding in findings}
    if not states:
        return EXIT_NOT_MEASURABLE
    return next((code for state, code in EXITS.items() if state in states), 0)


def status(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    nagios: Annotated[
        bool, typer.Option("--nagios", help="Print one line for Nagios or Centreon.")
    ] = False,
    application: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only this application, its jobs and repositories."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this control, for example RST-01.")
    ] = None,
) -> int:
    """Show what stands. Exit code: 0 compliant, 1 warning, 2 non-compliant, 3 not measurable."""
    try:
        document = current()
    except ConfigurationError:
        raise
    except BackupGuardError as error:
        return _silent(error, nagios=nagios)
    findings = _chosen(document, application, control)
    words = words_for(document)
    if json:
        common.print_json(_as_json(document, findings, words))
    elif nagios:
        print(_nagios_line(findings, words))
    else:
        lines = _lines(document, findings, words)
        if application is None and control is None:
            lines += _statements(document, words)
        for line in lines:
            print(common.printable(line))
    return exit_code(findings)


def why(
    control: Annotated[str, typer.Argument(metavar="CONTROL", help="For example RST-01.")],
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="For example application/dpi, or just dpi.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Explain one finding: what, since when, last good, on which facts, what to do next."""
    from backupguard.cli import explain

    document = current()
    finding = find(document, control, subject)
    explained = explain.explained(document, finding, words_for(document))
    if json:
        common.print_json(explained.as_json())
    else:
        for line in explained.lines():
            print(common.printable(line))
    return exit_code([finding])


# ------------------------------------------------------------------------------------- the document


def current() -> dict[str, Json]:
    """Return what stands, as `status.json` holds it: the published one, else judged from the store.

    Raises ConfigurationError, StoreError.
    """
    published = status_file.fresh(common.options().config, os.environ, datetime.now(UTC))
    return published if published is not None else judged()


def judged() -> dict[str, Json]:
    """Judge from the store and publish that for the next who asks; records nothing."""
    settings = common.settings()
    from contextlib import closing, suppress

    from backupguard.assess import Assessor
    from backupguard.assess.published import publish, status_json
    from backupguard.controls import catalogue_of
    from backupguard.daemon.log import configure

    configure(quiet=True)  # what is wrong is said by the findings; output stays theirs
    with closing(common.store(settings, replace_corrupt=False)) as store:
        assessment = Assessor(store, settings, catalogue_of(settings)).judge(datetime.now(UTC))
    with suppress(OSError):
        publish(assessment, settings)
    return status_json(assessment, settings)


def words_for(document: Json) -> Words:
    """Return the words for a document: the language that was asked for, else the site's."""
    from backupguard.language import Words

    return Words(common.options().language or document["language"], document["timezone"])


def find(document: Json, control: str, subject: str) -> Json:
    """Return one finding of a document; "D4-RST-01" is RST-01 and "dpi" is application/dpi.

    Raises UsageError.
    """
    name = control.upper().removeprefix("D4-")
    if name not in document["titles"]:
        message = Message(id="status.unknown_control", values={"control": control})
        raise UsageError("unknown_subject", message)
    wanted = (subject, f"application/{subject}", f"repository/{subject}", f"job/{subject}")
    for candidate in wanted:
        for finding in document["findings"]:
            if finding["control"] == name and finding["subject"] == candidate:
                return finding
    message = Message(id="status.why.unknown", values={"control": name, "subject": subject})
    raise UsageError("unknown_subject", message)


def _chosen(document: Json, application: str | None, control: str | None) -> list[Json]:
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


# ----------------------------------------------------------------------------------------- output


def _silent(error: BackupGuardError, *, nagios: bool) -> int:
    """Say that nothing can be judged, and since when; exit 3."""
    common.show_error(error)
    document = status_file.last(common.options().config, os.environ)
    if document is None:
        message = Message(id="status.silent_ever")
        words = common.words()
    else:
        message = Message(id="status.silent", values={"judged_at": document["judged_at"]})
        words = words_for(document)
    text = words.say(message)
    print(f"BACKUPGUARD UNKNOWN - {text}" if nagios else text)
    return EXIT_NOT_MEASURABLE


def _by_state(findings: Sequence[Json]) -> list[Json]:
    shown = [finding for finding in findings if finding["status"] in _SHOWN]
    return sorted(
        shown,
        key=lambda f: (_SHOWN.index(f["status"]), f["criticality"], f["control"], f["subject"]),
    )


def _counts(findings: Sequence[Json]) -> dict[str, int]:
    counted = Counter(finding["status"] for finding in findings)
    return {state: counted[state] for state in (*_SHOWN, "not_applicable")}


def said(finding: Json, words: Words) -> str:
    """Return a finding's reason in words."""
    reason = finding["reason"]
    return words.say(Message(id=reason["id"], values=reason["values"]))


def _lines(document: Json, findings: Sequence[Json], words: Words) -> list[str]:
    counts = _counts(findings)
    head = {"site": document["site"], "judged_at": document["judged_at"]}
    lines = [
        words.say(Message(id="status.head", values=head)),
        words.say(Message(id="status.counts", values=counts)),
        "",
    ]
    rows = [
        (
            words.text(f"status.state.{finding['status']}"),
            finding["control"],
            finding["subject"],
            said(finding, words),
        )
        for finding in _by_state(findings)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines += ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    if not rows:
        lines.append(words.text("status.none"))
    if counts["not_applicable"]:
        lines += ["", words.text("status.not_applicable", count=counts["not_applicable"])]
    return lines


_FAMILIES = (
    ("waivers", waiver_told),
    ("overrides", override_told),
    ("attestations", attestation_told),
)


def _statements(document: Json, words: Words) -> Iterator[str]:
    """Yield exceptions, changed thresholds and statements that stand, and whose they are."""
    for family, told in _FAMILIES:
        rows = document.get(family) or ()
        if rows:
            yield from ("", words.text(f"status.{family}"))
        yield from (words.say(told(row)) for row in rows)


def _nagios_line(findings: Sequence[Json], words: Words) -> str:
    counts = _counts(findings)
    worst = next(iter(_by_state(findings)), None)
    text = words.text("status.none")
    if worst is not None:
        text = words.say(Message(id="status.counts", values=counts))
        if worst["status"] in EXITS:
            text += f": {worst['control']} {worst['subject']}: {said(worst, words)}"
    # "|" begins the performance data and a line break ends the first line.
    text = common.printable(text).replace("|", "/")
    performance = " ".join(f"{state}={counts[state]}" for state in _SHOWN)
    return f"BACKUPGUARD {_NAGIOS[exit_code(findings)]} - {text} | {performance}"


def _as_json(document: Json, findings: Sequence[Json], words: Words) -> Json:
    return {
        "site": document["site"],
        "judged_at": moment(document["judged_at"]),
        "head_seq": document["head_seq"],
        "exit_code": exit_code(findings),
        "counts": _counts(findings),
        "waivers": list(document.get("waivers", ())),
        "overrides": list(document.get("overrides", ())),
        "attestations": list(document.get("attestations", ())),
        "findings": [finding_json(document, finding, words) for finding in findings],
    }


def finding_json(document: Json, finding: Json, words: Words) -> dict[str, Json]:
    """Return a finding for `--json`: times in ISO 8601, title and reason in words beside the ids."""
    return {
        **finding,
        "title": document["titles"].get(finding["control"], {}).get(words.language),
        "name": document["names"].get(finding["subject"]),
        "reason": {**finding["reason"], "text": said(finding, words)},
        "since": moment(finding["since"]),
        "last_non_compliant": moment(finding["last_non_compliant"]),
    }


def moment(microseconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return from_us(microseconds).isoformat() if microseconds is not None else None
