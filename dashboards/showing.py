"""The words of states, thresholds, columns and links: how values are shown.

States are told by a word and a sign as well as by a colour, and the colours are those of Okabe and
Ito, which the colour-blind tell apart.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from backupguard.resources import shipped

Json = dict[str, Any]

GREEN, ORANGE, RED, PURPLE = "#009E73", "#E69F00", "#D55E00", "#CC79A7"
BLUE, GREY = "#56B4E9", "#8e8e8e"

#: Where a browser reaches BackupGuard, as a variable that the reader of a dashboard can set.
DAEMON = "${daemon:raw}"


@dataclass(frozen=True, slots=True)
class Say:
    """Chooses between English and French: `say("Jobs", "Travaux")`."""

    language: str

    def __call__(self, english: str, french: str) -> str:
        """Return the words of this language; French signs keep their no-break spaces."""
        if self.language != "fr":
            return english
        return re.sub(r"(?<=\S) (?=[:;!?%»])|(?<=«) ", "\u00a0", french)

    def uid(self, name: str) -> str:
        """Return a dashboard's identifier: the French ones stand beside the English ones."""
        return f"backupguard-{name}" + ("-fr" if self.language == "fr" else "")


def mapped(*words: tuple[float, str, str]) -> list[Json]:
    """Return the mapping of values to words: (value, text, colour)."""
    options = {
        f"{value:g}": {"text": text, "color": colour, "index": index}
        for index, (value, text, colour) in enumerate(words)
    }
    return [{"type": "value", "options": options}]


def statuses(say: Say) -> list[tuple[int, str, str]]:
    """Return the six values of `backupguard_control_status`, worst first: value, words, colour."""
    return [
        (2, say("✗ non-compliant", "✗ non conforme"), RED),
        (3, say("? not measurable", "? non mesurable"), PURPLE),
        (1, say("! warning", "! avertissement"), ORANGE),
        (5, say("◇ waived", "◇ dérogation"), BLUE),
        (0, say("✓ compliant", "✓ conforme"), GREEN),
        (4, say("– not applicable", "– non applicable"), GREY),
    ]


def severities(say: Say) -> list[Json]:
    """Return the mapping of `backupguard_control_severity`."""
    return mapped(
        (0, say("no hurry", "sans urgence"), GREY),
        (1, say("this week", "cette semaine"), BLUE),
        (2, say("same day", "le jour même"), ORANGE),
        (3, say("now", "maintenant"), RED),
    )


def levels(say: Say) -> list[Json]:
    """Return the mapping of `backupguard_restore_test_level`."""
    return mapped(
        (0, say("0 nothing", "0 rien"), RED),
        (1, say("1 bytes", "1 octets"), ORANGE),
        (2, say("2 opened", "2 ouvert"), ORANGE),
        (3, say("3 content", "3 contenu"), GREEN),
        (4, say("4 replayed", "4 rejoué"), GREEN),
    )


def never(say: Say, colour: str = RED) -> list[Json]:
    """Return the mapping of a time that is 0: it never happened."""
    return mapped((0, say("never", "jamais"), colour))


def steps(*given: tuple[float | None, str]) -> Json:
    """Return thresholds: (value, colour), the first value None."""
    return {"mode": "absolute", "steps": [{"value": at, "color": colour} for at, colour in given]}


def plain() -> Json:
    """Return thresholds that colour nothing."""
    return steps((None, GREY))


COLOURED_CELL = {"type": "color-background", "mode": "basic"}


def override(column: str, *properties: tuple[str, Any], regex: bool = False) -> Json:
    """Return how one column, or all that a regular expression matches, differs from the others."""
    return {
        "matcher": {"id": "byRegexp" if regex else "byName", "options": column},
        "properties": [{"id": name, "value": value} for name, value in properties],
    }


def ago(say: Say, column: str, colour: str = RED) -> Json:
    """Return the override of a column of times in milliseconds: how long ago, or never."""
    return override(column, ("unit", "dateTimeFromNow"), ("mappings", never(say, colour)))


def duration(column: str) -> Json:
    """Return the override of a column of seconds."""
    return override(column, ("unit", "s"), ("decimals", 1))


def link(title: str, url: str, *, new_tab: bool = False) -> Json:
    """Return a link of a panel's data."""
    return {"title": title, "url": url, "targetBlank": new_tab}


def links_of(*links: Json) -> tuple[str, list[Json]]:
    """Return links as the property of an override."""
    return ("links", list(links))


def to_application(say: Say, application: str) -> Json:
    """Return the link to an application's dashboard; `application` is Grafana's expression."""
    url = f"/d/{say.uid('application')}?${{datasource:queryparam}}&${{site:queryparam}}"
    return link(
        say("This application", "Cette application"),
        f"{url}&var-application={application}&${{daemon:queryparam}}",
    )


def to_page(say: Say, application: str) -> Json:
    """Return the link to an application's page, which the daemon serves."""
    title = say("Its page in BackupGuard", "Sa page dans BackupGuard")
    return link(title, f"{DAEMON}/applications/{application}", new_tab=True)


def to_both(say: Say) -> list[Json]:
    """Return the links of a cell that holds an application's id."""
    return [to_application(say, "${__value.raw}"), to_page(say, "${__value.raw}")]


def to_runbook(say: Say, alert: str) -> Json:
    """Return the link to an alert's runbook, which the daemon serves."""
    return link(say("What to do", "Que faire"), f"{DAEMON}/runbooks/{alert}", new_tab=True)


def controls() -> dict[str, dict[str, str]]:
    """Return the titles of the catalogue's controls by identifier and language."""
    with shipped("controls/care-d4.toml").open("rb") as file:
        catalogue = tomllib.load(file)
    return {control["id"]: control["title"] for control in catalogue["control"]}


def alert_of() -> dict[str, str]:
    """Return the alert whose runbook tells what to do about each control: its first one."""
    text = shipped("prometheus/backupguard.rules.yml").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for alert, control in re.findall(
        r"^\s+- alert: (\w+)$.*?^\s+control: (\S+)$", text, re.MULTILINE | re.DOTALL
    ):
        found.setdefault(control, alert)
    return found


def control_columns(say: Say) -> list[Json]:
    """Return the overrides of a matrix whose columns are controls: what each is, and its runbook."""
    alerts = alert_of()
    found = []
    for control, titles in controls().items():
        properties: list[tuple[str, Any]] = [("description", titles[say.language])]
        if control in alerts:
            properties.append(links_of(to_runbook(say, alerts[control])))
        found.append(override(control, *properties))
    return found


def worst(vector: str, by: str) -> str:
    """Return the worst status of `vector` for each value of the labels `by`.

    The values are no order of their own, so each is asked for in turn, worst first; `or` keeps the
    first that is there.
    """
    return "\nor ".join(f"max by ({by}) ({vector} == {value})" for value in (2, 3, 1, 5, 0, 4))
