"""`backupguard status` and `backupguard why`: what stands, how bad it is, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backupguard.cli import common, status_file
from backupguard.errors import BackupGuardError, ConfigurationError, UsageError
from backupguard.evidence.statements import attestation_told, override_told, waiver_told
from backupguard.model import SITE, Json, Message, to_us
from backupguard.notify import standing
from backupguard.notify.standing import exit_code, said, worst_first

if TYPE_CHECKING:
    from backupguard.language import Words

_STARTED = "daemon.started"


def status(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    nagios: Annotated[
        bool, typer.Option("--nagios", help="Answer as a plugin of Nagios, Icinga or Centreon.")
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
    except ConfigurationError as error:
        if not nagios:
            raise
        common.show_error(error)
        print(standing.unknown(common.words().text("status.no-configuration")))
        return standing.NOT_MEASURABLE
    except BackupGuardError as error:
        return _silent(error, nagios=nagios)
    words = words_for(document)
    try:
        findings = standing.chosen(document, application, control)
    except UsageError as error:
        if not nagios:
            raise
        print(standing.unknown(words.say(error.message)))
        return standing.NOT_MEASURABLE
    alone = _unwatched(words)
    code = standing.unwatched(exit_code(findings)) if alone else exit_code(findings)
    if json:
        told = standing.as_json(document, findings, words)
        common.print_json({**told, "exit_code": code, "daemon_absent": alone is not None})
    elif nagios:
        text = standing.plugin(document, findings, words, datetime.now(UTC), alone)
        print("\n".join(map(common.printable, text.split("\n"))))
    else:
        lines = [*([alone, ""] if alone else []), *_lines(document, findings, words)]
        if application is None and control is None:
            lines += _statements(document, words)
        for line in lines:
            print(common.printable(line))
    return code


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


# ----------------------------------------------------------------------------------------- output


def _unwatched(words: Words) -> str | None:
    """Return the sentence that no daemon is alive, None where one is or never was."""
    places = status_file.directories(common.options().config, os.environ)
    started = status_file.absent(*places) if places is not None else _absent()
    if started is None:
        return None
    return words.say(Message(id="status.absent", values={"started_at": started}))


def _absent() -> int | None:
    """Do as `status_file.absent` where only the settings, loaded by now, say where things are."""
    settings = common.settings()
    url = settings.store.url
    if url is None or url.startswith("sqlite"):
        return status_file.absent(settings.state_directory, settings.runtime_directory)
    if status_file.answers(settings.runtime_directory):
        return None
    from contextlib import closing

    with closing(common.store(settings, replace_corrupt=False)) as store:
        found = store.latest([SITE], [_STARTED]).get(SITE, {}).get(_STARTED)
    return to_us(found.recorded_at) if found is not None else None


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
    print(standing.unknown(text) if nagios else text)
    return standing.NOT_MEASURABLE


def _lines(document: Json, findings: Sequence[Json], words: Words) -> list[str]:
    counted = standing.counts(findings)
    head = {"site": document["site"], "judged_at": document["judged_at"]}
    lines = [
        words.say(Message(id="status.head", values=head)),
        words.say(Message(id="status.counts", values=counted)),
        "",
    ]
    rows = [
        (
            words.text(f"status.state.{finding['status']}"),
            finding["control"],
            finding["subject"],
            said(finding, words),
        )
        for finding in worst_first(findings)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines += ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    if not rows:
        lines.append(words.text("status.none"))
    if counted["not_applicable"]:
        lines += ["", words.text("status.not_applicable", count=counted["not_applicable"])]
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
