"""What the demonstration tells at its end: what was restored, how long it took, what was lost."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from backupguard.controls.copies import Count
from backupguard.demo import replay
from backupguard.demo.soc import Shown
from backupguard.demo.story import Told
from backupguard.language import Words
from backupguard.model import REPLAYED, Finding, Phase, Status, Verdict, from_us

_SHOWN_PHASES = (Phase.FETCH, Phase.LOAD, Phase.VERIFY)
_STYLES = {
    Verdict.PASSED.value: "green",
    Verdict.FAILED.value: "bold red",
    Status.NON_COMPLIANT.value: "bold red",
    Status.WARNING.value: "yellow",
}
_BAD = (Status.NON_COMPLIANT, Status.WARNING, Status.NOT_MEASURABLE)


def show(told: Told, words: Words, console: Console) -> None:
    """Print the summary; a pipe gets plain lines that are never folded."""
    console.print()
    console.print(Text(words.text("demo.summary.title", site=told.settings.site.name), "bold"))
    sizes = ", ".join(f"{name} {words.size(size)}" for name, size in told.made.sizes.items())
    console.print(
        words.text(
            "demo.summary.made",
            sizes=sizes,
            rows=words.number(told.made.rows),
            version=told.made.version,
        ),
        soft_wrap=True,
    )
    console.print(Text(words.text("demo.summary.copies"), "bold"))
    console.print(_copies(told, words, console))
    _uncovered(told, words, console)
    console.print(Text(words.text("demo.summary.tests"), "bold"))
    console.print(_tests(told, words, console))
    year = words.text(
        "demo.summary.replayed", count=told.replayed, months=replay.MONTHS, author=REPLAYED
    )
    console.print(Text(year), soft_wrap=True)
    _untested(told, words, console)
    _findings(told, words, console)
    _places(told, words, console)


def _copies(told: Told, words: Words, console: Console) -> Table:
    """Return what every repository holds of every application, and which of it 321-01 counts."""
    columns = ("application", "copy", "type", "newest", "points", "copies", "counts")
    table = _table(words, columns, console, right=("points", "copies"))
    for one in told.copies:
        owner = told.settings.applications[one.application]
        total = f"{len(one.count.independent)}/{one.needed}"
        for number, copy in enumerate(one.copies):
            newest = copy.get("newest_at")
            table.add_row(
                "" if number else f"{one.application} ({owner.criticality})",
                str(copy["repository"]),
                str(copy["type"]),
                words.time(from_us(newest)) if newest is not None else "—",
                str(copy["points"]),
                "" if number else total,
                _counts(str(copy["repository"]), one.count, words),
            )
    return table


def _counts(repository: str, count: Count, words: Words) -> str:
    """Return in words whether a copy counts, and why not."""
    why = count.excluded.get(repository)
    if why is not None:
        return words.text(f"inventory.why.{why.value}")
    if repository in count.contradicted:
        return words.text("inventory.why.one_place")
    return words.text("demo.counts")


def _uncovered(told: Told, words: Words, console: Console) -> None:
    """Name the databases that no job saves, which discovery found by asking the servers."""
    for name in told.uncovered:
        console.print(Text(words.text("demo.summary.uncovered", name=name), "bold red"))
    if told.lacking:
        console.print(Text(words.text("demo.summary.lacking", count=told.lacking)), soft_wrap=True)
    console.print()


def _untested(told: Told, words: Words, console: Console) -> None:
    """Name the copies that no engine of this version restores."""
    tested = {(fact.observation.data["application"], fact.observation.data["repository"])
              for fact in told.tests}  # fmt: skip
    names = [
        f"{name} ({', '.join(missing)})"
        for name, owner in told.settings.applications.items()
        for repositories in [dict.fromkeys(job.repository for job in owner.backups.values())]
        if (missing := [one for one in repositories if (name, one) not in tested])
    ]
    if names:
        console.print(
            Text(words.text("demo.summary.untested", names=", ".join(names))), soft_wrap=True
        )
    console.print()


def _table(words: Words, columns: Sequence[str], console: Console, right: Collection[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(words.text(f"demo.column.{column}"), justify=justify, no_wrap=True)
    if not console.is_terminal:
        table.box = None
    return table


def _tests(told: Told, words: Words, console: Console) -> Table:
    phases = [phase.value for phase in _SHOWN_PHASES]
    columns = ("application", "copy", "verdict", "level", *phases, "total", "loss")
    table = _table(words, columns, console, right=(*phases, "total", "loss"))
    for fact in told.tests:
        data: Mapping[str, Any] = fact.observation.data
        took = {phase["phase"]: phase["duration_ms"] for phase in data["phases"]}
        verdict = words.text(f"report.verdict.{data['verdict']}")
        if data["code"]:
            verdict = f"{verdict} ({data['code']})"
        table.add_row(
            data["application"],
            data["repository"] or "—",
            Text(verdict, _STYLES.get(data["verdict"], "yellow")),
            str(data["level"]),
            *(words.duration(took.get(phase)) for phase in phases),
            words.duration(data["duration_ms"]),
            words.duration(data["data_loss_ms"]),
        )
    return table


def _findings(told: Told, words: Words, console: Console) -> None:
    assessment = told.assessment
    if assessment is None:
        return
    counts = dict.fromkeys(Status, 0)
    for finding in assessment.findings:
        counts[finding.status] += 1
    console.print(
        words.text("demo.summary.findings", **{status.value: counts[status] for status in Status})
    )
    together: dict[tuple[Status, str, str], list[str]] = {}
    for finding in sorted(assessment.findings, key=_worst_first):
        if finding.status in _BAD:
            said = (finding.status, finding.control, words.say(finding.reason))
            together.setdefault(said, []).append(finding.subject)
    for (status, control, reason), subjects in together.items():
        line = Text("  ")
        line.append(words.text(f"report.status.{status}"), _STYLES.get(status, "dim"))
        line.append(f"  {control}  {', '.join(subjects)}  {reason}")
        console.print(line, soft_wrap=True)


def _worst_first(finding: Finding) -> tuple[int, str, str]:
    order = _BAD.index(finding.status) if finding.status in _BAD else len(_BAD)
    return order, finding.control, finding.subject


def _places(told: Told, words: Words, console: Console) -> None:
    place = told.layout
    command = f"backupguard --config {shlex.quote(str(place.configuration))}"
    lines = [("demo.summary.report", str(path)) for path in told.reports]
    if told.bundle is not None:
        proved = "verified" if told.bundle_verified else "unproved"
        lines.append((f"demo.summary.bundle_{proved}", str(told.bundle)))
    lines.append(("demo.summary.metrics", str(told.metrics or "—")))
    lines.append(("demo.summary.configuration", str(place.configuration)))
    if told.coffre:
        lines.append(("demo.summary.coffre", str(place.coffre_script)))
    lines.append(("demo.summary.cloud", str(place.cloud_script)))
    console.print()
    for identifier, path in lines:
        console.print(Text(words.text(identifier, path=path)), soft_wrap=True)
    console.print()
    console.print(Text(words.text("demo.summary.next")))
    for identifier, call in (
        ("demo.next.status", f"{command} status"),
        ("demo.next.inventory", f"{command} inventory --no-refresh"),
        ("demo.next.uncovered", f"{command} why INV-01 site"),
        ("demo.next.why", f"{command} why RST-01 application/dpi"),
        ("demo.next.plan", f"{command} plan --application dpi"),
        ("demo.next.break", _breaking(told)),
        ("demo.next.integrity", f"{command} probe integrity --repository nas; {command} status"),
    ):
        console.print(Text(f"  {call}    # {words.text(identifier)}"), soft_wrap=True)
    console.print()
    console.print(Text(words.text("demo.summary.took", took=words.duration(told.duration_ms))))


def _breaking(told: Told) -> str:
    """Return a command that flips one byte in the middle of the repository's largest pack."""
    code = (
        "import pathlib,sys; p=max((f for f in pathlib.Path(sys.argv[1]).rglob('*') if f.is_file()),"
        "key=lambda f: f.stat().st_size); p.chmod(0o600); b=bytearray(p.read_bytes());"
        " b[len(b)//2]^=1; p.write_bytes(b)"
    )
    return f"python3 -c {shlex.quote(code)} {shlex.quote(str(told.layout.nas / 'data'))}"


def show_alert(shown: Shown, words: Words, console: Console) -> None:
    """Print the alert that arrived, what it is about, its runbook, and where to look on."""
    alert = shown.alert
    console.print()
    console.print(Text(alert.summary, "bold red"), soft_wrap=True)
    console.print(Text(alert.description), soft_wrap=True)
    for name, value in (
        ("alert", alert.name),
        ("severity", alert.severity),
        ("control", alert.control),
        ("subject", alert.subject),
        ("receiver", alert.receiver),
        ("runbook", alert.runbook),
    ):
        console.print(Text(words.text(f"demo.soc.{name}", value=value)), soft_wrap=True)
    took = words.duration(shown.took_ms)
    identifier = "demo.soc.besides" if shown.others else "demo.soc.alone"
    console.print(Text(words.text(identifier, took=took, count=len(shown.others))), soft_wrap=True)
    console.print()
    console.print(Text(shown.runbook.strip()), soft_wrap=True)
    console.print()
    for name, url in shown.pages.items():
        console.print(Text(words.text(f"demo.soc.page.{name}", url=url)), soft_wrap=True)
