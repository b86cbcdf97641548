"""Runbooks: what to do for each alert; those of alerts that stand now come first."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from backupguard.web.downloads import read
from backupguard.web.pages.markdown import first_paragraph, rendered
from backupguard.web.pages.rendering import View

ALERT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")
#: Bytes of one runbook.
LIMIT = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """One runbook as a line: its alert, what that means, and for how many findings it stands now."""

    alert: str
    address: str
    meaning: str
    standing: int


def text_of(directory: Path | None, alert: str, language: str) -> str | None:
    """Return the runbook of an alert, in English where there is none in `language`."""
    if directory is None or not ALERT.match(alert):
        return None
    for candidate in (f"{alert}.{language}.md", f"{alert}.en.md"):
        content = read(directory / candidate, LIMIT)
        if content is not None:
            return content.decode("utf-8", "replace")
    return None


def index(view: View) -> str:
    """Return the list of runbooks."""
    directory = view.outputs.runbooks
    names = (
        {path.name.partition(".")[0] for path in directory.glob("*.md")}
        if directory is not None
        else set()
    )
    standing = Counter(view.found.alerts.values()) if view.found is not None else Counter()
    every = [
        Runbook(
            alert=alert,
            address=view.asked.link(f"/runbooks/{alert}"),
            meaning=first_paragraph(text_of(directory, alert, view.words.language) or ""),
            standing=standing[alert],
        )
        for alert in sorted(names, key=lambda name: (-standing[name], name))
        if ALERT.match(alert)
    ]
    now = [one for one in every if one.standing]
    shown, turned = view.turned([one for one in every if not one.standing])
    return view.render("runbooks.html", now=now, others=shown, turned=turned)


def page(view: View) -> str | None:
    """Return one runbook as a page."""
    alert = view.asked.parts["alert"]
    text = text_of(view.outputs.runbooks, alert, view.words.language)
    if text is None:
        return None
    return view.render("runbook.html", alert=alert, content=rendered(text))
