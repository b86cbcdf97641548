"""Report: the signed monthly report of 300 applications, beside the D4 table as one document.

A real store holds a month of facts of 300 applications: a restore test of each, a judgement of each by
every control that judges applications. Ours is the report as it is issued, with its data and records
inside, in the process that makes paper, start included; the reference is the table of all judgements as
one WeasyPrint document, in a process of its own as well. Beside it: the annex that takes its place
(tables of forty rows) and the minutes (PV) of a tenth of the restore tests, each a PDF of its own, as
minutes are made once and kept; and how much larger the process that asked is after one report more.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import structlog
from harness import CHECKOUT, alternate, finish, run, timed

from backupguard.controls import Catalogue, load_catalogue
from backupguard.language import Words
from backupguard.model import Observation, Scope, application_subject, to_us
from backupguard.reports import monthly, render_html
from backupguard.reports.paper.annexes import Paper
from backupguard.reports.paper.standings import standings
from backupguard.settings import Settings, load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore

APPLICATIONS, SAMPLE, ROUNDS, GOAL = 300, 30, 3, 0.5
BEGAN, NOW = datetime(2026, 11, 1, 2, tzinfo=UTC), datetime(2026, 12, 1, 6, tzinfo=UTC)
MONTH = "2026-11"
#: What may be left in the process that asked, in bytes.
LEFT_GOAL_MB = 16.0
STATUSES = ("compliant", "compliant", "compliant", "warning", "non_compliant", "not_measurable")


def configured(directory: Path) -> Settings:
    """Return settings of that many applications, a third of them vital."""
    (directory / "held").mkdir()
    lines = [
        '[site]\nname = "Banc"\ntimezone = "Europe/Paris"\n',
        f'[store]\ndirectory = "{directory / "state"}"\n',
        f'[repositories.a]\ntype = "directory"\npath = "{directory / "held"}"\n',
    ]
    lines += [
        f'[applications.app-{number:03d}]\nname = "Application {number}"\n'
        f'criticality = "C{number % 3 + 1}"\nrpo = "24h"\nrto = "8h"\n'
        'declared-by = "DSI"\ndeclared-on = "2026-03-02"\n'
        f'[applications.app-{number:03d}.backups.daily]\nrepository = "a"\n'
        'select.pattern = "dump-%Y%m%d"\nevery = "24h"\n'
        for number in range(APPLICATIONS)
    ]
    file = directory / "backupguard.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return load(file)


def tested(number: int) -> Observation:
    """Return the restore test of an application."""
    name, when = f"app-{number:03d}", BEGAN + timedelta(hours=2 * number)
    phases = ("select", "fetch", "prepare", "load", "open", "verify", "discard")
    verdict = "failed" if number % 29 == 0 else "passed"
    code = "rows_lost" if verdict == "failed" else None
    check = {"level": 3, "verdict": "passed", "code": "ok", "times": {}, "configured": True}
    checks = [
        {**check, "name": f"check {one}", "numbers": {"rows": 12_000 + one}} for one in range(4)
    ]
    data = {
        "application": name,
        "engine": "postgresql",
        "repository": "a",
        "point": f"{number:08x}",
        "point_at": to_us(when - timedelta(hours=4)),
        "target_at": None,
        "verdict": verdict,
        "code": code,
        "level": 3,
        "phases": [
            {"phase": one, "verdict": "passed", "duration_ms": 1200, "code": None} for one in phases
        ],
        "checks": checks,
        "checks_configured": 4,
        "baseline_accepted": True,
        "data_loss_ms": 420_000,
        "freshness_heuristic_at": None,
        "bytes": 1_430_000_000,
        "duration_ms": 68_000,
        "fingerprint": None,
        "tools": {"postgresql": "15.14", "restic": "0.14.0"},
    }
    return Observation(
        kind="restore-test.result",
        subject=application_subject(name),
        observed_at=when,
        data=data,
        key=f"t{number}",
    )


def judged(number: int, controls: list[str]) -> Iterator[Observation]:
    """Yield what every control of applications says of one."""
    subject = application_subject(f"app-{number:03d}")
    for place, control in enumerate(controls):
        status = STATUSES[(number + place) % len(STATUSES)]
        values = {"tested_at": to_us(BEGAN), "period_ms": 30 * 86_400_000}
        reason = {"id": "reason.RST-01.overdue", "values": values}
        data = {
            "control": control,
            "before": None,
            "after": status,
            "cause": None,
            "severity": "high",
            "reason": reason,
            "facts": [number + 1],
        }
        yield Observation(
            kind="finding.changed",
            subject=subject,
            observed_at=BEGAN + timedelta(hours=2 * number),
            data=data,
            key=f"j{number}/{control}",
        )


def filled(store: SqlStore, catalogue: Catalogue) -> int:
    """Record a month; return how many judgements stand."""
    controls = [name for name, one in catalogue.entries.items() if one.scope is Scope.APPLICATION]
    store.append([tested(number) for number in range(APPLICATIONS)])
    for number in range(APPLICATIONS):
        store.append(list(judged(number, controls)))
    store.seal()
    return len(controls) * APPLICATIONS


def one_table(paper: Paper, store: SqlStore, catalogue: Catalogue, settings: Settings) -> Path:
    """Write the reference's HTML: one table, what the annex says of every judgement in a row."""
    from html import escape

    report = monthly(store, settings, catalogue, MONTH, "fr", NOW)
    words = Words("fr", "Europe/Paris")
    cells = [
        (
            one.control,
            each.status.value,
            each.subject,
            words.say(each.reason),
            words.time(each.since),
            f"{each.seq}: {', '.join(map(str, each.facts))}",
            ", ".join(f"{source.id} {row.identifier}" for source, row in one.references),
        )
        for one in standings(store, report, catalogue)
        for each in one.judged
    ]
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    path = paper.work / "reference.html"
    path.write_text(
        '<!doctype html><html lang="fr"><head><meta charset="utf-8"><title>D4</title><style>'
        "@page { size: A4; margin: 15mm } body { font: 7.4pt 'DejaVu Sans' }"
        "table { width: 100%; border-collapse: collapse } td { border-bottom: .3pt solid #999 }"
        f"</style></head><body><table>{rows}</table></body></html>",
        encoding="utf-8",
    )
    return path


def measured(directory: Path) -> int:
    """Make both in turn, then the rest once; print and judge."""
    settings, catalogue = configured(directory), load_catalogue()
    words = Words("fr", "Europe/Paris")
    with closing(
        open_store(settings.state_directory, site="Banc", timezone="Europe/Paris")
    ) as store:
        count = filled(store, catalogue)
        paper = Paper(store=store, directory=directory, work=directory / "work")
        paper.work.mkdir()
        table = one_table(paper, store, catalogue, settings)
        report = monthly(store, settings, catalogue, MONTH, "fr", NOW)
        print(f"  {APPLICATIONS} applications, {count} judgements, {len(report.tests)} tests")
        process = psutil.Process()
        sample = replace(report, tests=report.tests[:SAMPLE])
        made = []
        seconds = timed(lambda: made.append(paper.annexes(sample, catalogue, words)))
        rows, files = made[0]
        print(f"  annexes and the minutes of {SAMPLE} tests: {len(files)} PDFs in {seconds:.1f} s")
        minutes = rows[-SAMPLE:]
        rows = (*rows[:-SAMPLE], *(minutes * (APPLICATIONS // SAMPLE)))

        def ours() -> Path:
            again = replace(monthly(store, settings, catalogue, MONTH, "fr", NOW), annexes=rows)
            return paper.report(again, render_html(again, words), words)

        def reference() -> None:
            other = CHECKOUT / "benchmarks" / "reference" / "report.py"
            run([sys.executable, other, table, paper.work / "reference.pdf"])

        medians = alternate(ROUNDS, ours=ours, reference=reference)
        before = process.memory_info().rss
        pages = (pages_of(ours()), pages_of(paper.work / "reference.pdf"))
        left = (process.memory_info().rss - before) / 1e6
        print(f"  pages: {pages[0]}, reference {pages[1]}; {len(rows)} annexes are named")
    status = finish("report-memory", left, LEFT_GOAL_MB, unit="MB")
    return finish("report", medians["ours"] / medians["reference"], GOAL) or status


def pages_of(pdf: Path) -> int:
    """Return how many pages a document has."""
    said = run(["pdfinfo", pdf]).decode()
    return int(next(line for line in said.splitlines() if line.startswith("Pages:")).split()[1])


def main() -> int:
    """Fill a store, then measure."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="bg-") as name:
        return measured(Path(name))


if __name__ == "__main__":
    sys.exit(main())
