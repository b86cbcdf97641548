"""The reference page of all metrics, made from the table: `python -m backupguard.metrics.reference`."""

from __future__ import annotations

import sys

from backupguard.metrics.families import FAMILIES, Family

_HEAD = """\
# Metrics

Made from the code by `script/reference`; a test fails when the two differ.

`http://127.0.0.1:9789/metrics`, in text format 0.0.4. [configuration.md](configuration.md#who-may-read)
says how the port is opened to Prometheus, with TLS and a password. A scrape reads what the last
assessment left; it starts nothing.

- Every series carries `site`. Labels come from the configuration and the control catalogue only: never
  a point, a path or a message. `job` and `instance` are Prometheus' own: a backup job is `backup_job`.
- Times are timestamps in seconds since 1970, not ages: `time() - METRIC` is the age. 0 means never.
- What is configured has its series from the first second, and after a restart from what is recorded. A
  series is absent only where the table says so.
- There are as many series as there are jobs, copies, probes and findings; refreshes add none.
- `control_status` goes from 2 to 3 when a broken thing cannot be looked at any more: a page ends on 0,
  4 or 5 only.
"""

_TAIL = """\

## The process

`process_*` and `python_*` are the figures of prometheus_client about the daemon's own process: memory,
processor time, open files, start time.
"""


def _row(family: Family) -> str:
    labels = ", ".join(f"`{name}`" for name in family.labels) or "—"
    return f"| `{family.full}` | {family.kind} | {labels} | {family.unit} | {family.text} |"


def reference() -> str:
    """Return the page as Markdown."""
    lines, part = [_HEAD], ""
    for family in FAMILIES:
        if family.part != part:
            part = family.part
            lines.append(f"\n## {part}\n\n| metric | type | labels | unit | meaning |")
            lines.append("\n|---|---|---|---|---|")
        lines.append("\n" + _row(family))
        if family is [one for one in FAMILIES if one.part == part][-1]:
            lines.append("\n")
    return "".join(lines) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(reference())
