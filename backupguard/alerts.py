"""The shipped alert rules: read, fitted to a site, and told on a page.

`python -m backupguard.alerts` prints the page `docs/soc/alerts.md`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from backupguard.resources import shipped

FILE = "prometheus/backupguard.rules.yml"
#: Those of a Prometheus that sees several sites.
GHT_FILE = "prometheus/backupguard-ght.rules.yml"

#: Where the links of the shipped rules begin: at the daemon that the alert is about.
_BASES = ("http://{{ $labels.instance }}/runbooks/", "http://127.0.0.1:9789/runbooks/")

#: A base goes between single quotes of YAML and through Go's templates: nothing of either.
_BASE = re.compile(r"https?://[A-Za-z0-9.\[\]:_~/%?=&+-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert rule: its name, expression, how long it waits, and what it carries."""

    name: str
    expr: str
    wait: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def shipped_text(file: str = FILE) -> str:
    """Return the rules as they are shipped."""
    return shipped(file).read_text(encoding="utf-8")


def rules() -> list[Rule]:
    """Return the shipped alert rules, in their order; recording rules are left out."""
    import yaml

    groups = yaml.safe_load(shipped_text())["groups"]
    return [
        Rule(
            name=one["alert"],
            expr=one["expr"],
            wait=one["for"],
            labels=one["labels"],
            annotations=one["annotations"],
        )
        for group in groups
        for one in group["rules"]
        if "alert" in one
    ]


def is_base(text: str) -> bool:
    """Tell whether links can begin with a text: an http or https URL, without quotes or braces."""
    return _BASE.match(text) is not None


def fitted(base: str | None, language: str, file: str = FILE) -> str:
    """Return the rules with links that begin with `base`, and this language's sentences first.

    `file` is `FILE`, or `GHT_FILE` for those of several sites.

    None leaves the links at the daemon that the alert is about. In French, `summary` and `description`
    are French and the English ones are called `summary_en` and `description_en`. Raises ValueError for
    a base that is none (`is_base`).
    """
    text = shipped_text(file)
    if base is not None:
        if not is_base(base):
            raise ValueError(base)
        for usual in _BASES:
            text = text.replace(f"'{usual}", f"'{base.rstrip('/')}/")
    if language == "fr":
        text = re.sub(r"(?m)^( +)(summary|description): ", r"\1\2_en: ", text)
        text = re.sub(r"(?m)^( +)(summary|description)_fr: ", r"\1\2: ", text)
    return text


_PAGE = """\
# Alerts

Made from the rules by `script/reference`; a test fails when the two differ.

The rules are `config/prometheus/backupguard.rules.yml`, the routes
`config/alertmanager/alertmanager.yml`. On a host with the package both lie beside the program;
`backupguard alerts rules` prints the rules as this site wants them.

## Setting up

1. Print the rules, and check them:

   ```
   backupguard --language fr alerts rules --runbook-base https://wiki.example/dr >site.rules.yml
   promtool check rules site.rules.yml
   ```

   Without `--runbook-base`, and without `http.runbook-base` in the configuration, a link leads to the
   daemon that the alert is about: `http://INSTANCE/runbooks/ALERT`. A daemon that is silent serves no
   page: have the runbooks elsewhere too (`config/runbooks/`, one file per alert and language). French
   sentences are in `summary` and `description` with `--language fr`, else in `summary_fr` and
   `description_fr`. A Prometheus that sees several sites: the same with `--ght`, see [ght.md](ght.md).

2. Scrape the daemon, with `honor_labels` as it is by default (false):

   ```yaml
   rule_files: [site.rules.yml]
   scrape_configs:
     - job_name: backupguard
       scrape_interval: 30s
       static_configs:
         - targets: ["sauvegarde.example:9789"]
   ```

   The rules bring their own evaluation interval, 20 s. From a stored fact to the alert in Alertmanager
   it takes at most two scrape intervals, from 30 s up.

3. Take over the routes, and name your receivers in the place of ours:
   `amtool check-config alertmanager.yml`.

Rules and routes need Prometheus 2.42 and Alertmanager 0.25 (Debian 12) or newer.

## Severities

| severity | route | who is meant |
|---|---|---|
| critical | `page` | somebody is called, at night too |
| high | `ticket` | the same day |
| warning | `ticket`, once a day | this week |
| none | `nobody` | only holds others back |

The severity of an alert about a control is the finding's own: the criticality of the application
decides, and it stays at warning during commissioning.

## One cause, one notification

Alerts of a site with the same name make one notification. Some hold others back while they fire:

- BackupGuardSilent: everything else of the site.
- BackupGuardRepositoryUnavailable: what is about that repository and its jobs; not what is seen of it
  in another way, whether it can be reached from production or its policy was weakened.
- BackupGuardCopiesUnseen: what is about applications that have copies in a repository that cannot be
  read. A failed restore test, points that vanished elsewhere and an RPO that was seen to be broken are
  told all the same; doubtful content and recovery times too, unless all copies are out of sight.
- BackupGuardProgramMissing: restore tests of the application that are overdue or were never done, and
  what they would have shown of its content and recovery time.
- BackupGuardAnomalyStorm: each single anomaly of the site.
- BackupGuardEvidenceBroken, BackupGuardAnchorStale: BackupGuardEvidenceGap.

An alert that is held back is seen in Alertmanager as inhibited. One that was sent before stays sent.
After a restart of Alertmanager one that was held back can be told, once, before Prometheus has repeated
the one that holds it back (a minute at most); what was told already is not told again.

A page ends on compliant, not applicable or waived only. A gap in the scrapes of less than twenty
minutes ends no alert; a longer one is BackupGuardSilent.

## All alerts
"""


def _plain(text: str) -> str:
    return re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", lambda m: m[1].upper(), text)


def _severity(rule: Rule) -> str:
    severity = rule.labels["severity"]
    return "the finding's" if "{{" in severity else severity


def reference() -> str:
    """Return the page as Markdown."""
    lines = [
        _PAGE,
        "| alert | control | severity | waits | says | dit |",
        "|---|---|---|---|---|---|",
    ]
    for one in rules():
        books = " ".join(
            f"[{language}](../../config/runbooks/{one.name}.{language}.md)"
            for language in ("en", "fr")
        )
        told = (_plain(one.annotations[name]) for name in ("summary", "summary_fr"))
        lines.append(
            f"| `{one.name}` {books} | {one.labels['control']} | {_severity(one)} | {one.wait} "
            f"| {' | '.join(told)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
