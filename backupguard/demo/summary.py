"""What the demonstration tells at its end: what was restored, how long it took, what was lost."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backupguard.demo.story import Told
from backupguard.language import Words
from backupguard.model import Finding, Phase, Status, Verdict

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
    console.print(_tests(told, words, console))
    _findings(told, words, console)
    _places(told, words, console)


def _table(words: Words, columns: Sequence[str], console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        right = number >= 4
        table.add_column(
            words.text(f"demo.column.{column}"), justify="right" if right else "left", no_wrap=True
        )
    if not console.is_terminal:
        table.box = None
    return table


def _tests(told: Told, words: Words, console: Console) -> Table:
    phases = [phase.value for phase in _SHOWN_PHASES]
    columns = ("application", "copy", "verdict", "level", *phases, "total", "loss")
    table = _table(words, columns, console)
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
    for finding in sorted(assessment.findings, key=_worst_first):
        if finding.status in _BAD:
            line = Text("  ")
            style = _STYLES.get(finding.status, "dim")
            line.append(words.text(f"report.status.{finding.status}"), style)
            line.append(f"  {finding.control}  {finding.subject}  {words.say(finding.reason)}")
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
    console.print()
    for identifier, path in lines:
        console.print(Text(words.text(identifier, path=path)), soft_wrap=True)
    console.print()
    console.print(Text(words.text("demo.summary.next")))
    for identifier, call in (
        ("demo.next.status", f"{command} status"),
        ("demo.next.why", f"{command} why RST-01 application/dpi"),
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
