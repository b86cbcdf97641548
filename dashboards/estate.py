"""The estate: what is wrong, how bad, since when, what to do; applications against controls."""

from __future__ import annotations

from dashboards.building import dashboard, variable
from dashboards.panels import Query, lines, matrix, stat, table
from dashboards.showing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Json,
    Say,
    ago,
    control_columns,
    links_of,
    mapped,
    override,
    plain,
    statuses,
    steps,
    to_both,
    to_runbook,
    worst,
)

SITE = 'site=~"$site"'
STATUS = f'backupguard_control_status{{{SITE},control=~"$control"}}'
#: Findings of an application and of its jobs, with the application as a label.
OF_APPLICATIONS = f"""
    label_replace(
      backupguard_control_status{{{SITE},control=~"$control",subject=~"(application|job)/.+"}},
      "application", "$1", "subject", "(?:application|job)/([^.]+)(?:[.].*)?"
    )
"""


def firing(say: Say, selector: str, size: tuple[int, int]) -> Json:
    """Return the table of alerts that fire now: since when, how bad, what to do."""
    expr = f"""
        1000 * max by (site, alertname, severity, control, subject) (
          ALERTS_FOR_STATE{{alertname=~"BackupGuard.+",severity!="none",{selector}}}
            and ignoring (alertstate)
          ALERTS{{alertname=~"BackupGuard.+",severity!="none",alertstate="firing",{selector}}}
        )
    """
    since = say("since", "depuis")
    alert = say("alert", "alerte")
    severity = say("severity", "gravité")
    urgencies = [
        {"type": "value", "options": {
            "critical": {"text": say("▲ critical", "▲ critique"), "color": RED, "index": 0},
            "high": {"text": say("△ high", "△ élevée"), "color": ORANGE, "index": 1},
            "warning": {"text": say("· warning", "· avertissement"), "color": BLUE, "index": 2},
        }}
    ]  # fmt: skip
    return table(
        say("What is wrong now", "Ce qui ne va pas"),
        say(
            "Alerts that fire. The name leads to its runbook. Empty when nothing is wrong, or when "
            "Prometheus does not load backupguard.rules.yml.",
            "Alertes en cours. Le nom mène à la fiche réflexe. Vide si tout va bien, ou si Prometheus "
            "ne charge pas backupguard.rules.yml.",
        ),
        [Query(expr=expr, name=since, table=True)],
        size=size,
        columns=[
            ("severity", severity),
            ("alertname", alert),
            ("subject", say("subject", "sujet")),
            ("control", say("control", "contrôle")),
            ("site", "site"),
        ],
        overrides=[
            override(alert, links_of(to_runbook(say, "${__value.raw}"))),
            override(
                severity,
                ("mappings", urgencies),
                ("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            ),
            override(since, ("unit", "dateTimeFromNow")),
        ],
        sort=severity,
    )


def _counts(say: Say) -> Json:
    named = [
        Query(expr=f"count({STATUS} == {value}) or vector(0)", name=words)
        for value, words, _ in statuses(say)
    ]
    return stat(
        say("Controls by state", "Contrôles par état"),
        say(
            "How many judgements stand in each state.",
            "Combien de jugements sont dans chaque état.",
        ),
        named,
        size=(24, 4),
        defaults={"unit": "short", "decimals": 0, "thresholds": plain()},
        overrides=[
            override(
                words,
                ("thresholds", steps((None, GREY), (1, colour))),
                ("color", {"mode": "thresholds"}),
            )
            for _, words, colour in statuses(say)
        ],
    )


def _history(say: Say) -> Json:
    return lines(
        say("Controls by state over time", "Contrôles par état dans le temps"),
        say(
            "The same counts, over the chosen period.", "Les mêmes nombres, sur la période choisie."
        ),
        [
            Query(expr=f"count({STATUS} == {value}) or vector(0)", name=words)
            for value, words, _ in statuses(say)
        ],
        size=(12, 9),
        unit="short",
        stacked=True,
        overrides=[
            override(words, ("color", {"mode": "fixed", "fixedColor": colour}))
            for _, words, colour in statuses(say)
        ],
    )


def _itself(say: Say) -> list[Json]:
    """Return whether BackupGuard itself can be believed."""

    def since(title: str, description: str, metric: str, good: float) -> Json:
        return stat(
            title,
            description,
            [
                Query(
                    expr=f"time() - min by (site) ({metric}{{{SITE}}})",
                    name="{{site}}",
                    instant=True,
                )
            ],
            size=(4, 4),
            defaults={
                "unit": "s",
                "thresholds": steps((None, GREEN), (good, RED)),
                "color": {"mode": "thresholds"},
            },
        )

    def word(title: str, description: str, metric: str, yes: str, no: str) -> Json:
        known = f"min by (site) ({metric}{{{SITE}}})"
        unknown = f"0 * max by (site) (backupguard_build_info{{{SITE}}}) - 1"
        words = mapped(
            (1, f"✓ {yes}", GREEN),
            (0, f"✗ {no}", RED),
            (-1, say("? not yet looked at", "? pas encore regardé"), PURPLE),
        )
        return stat(
            title,
            description,
            [Query(expr=f"{known} or {unknown}", name="{{site}}", instant=True)],
            size=(4, 4),
            defaults={"mappings": words},
        )

    return [
        since(
            say("Last judged", "Dernier jugement"),
            say(
                "How long ago the last cycle ended. Beyond 15 minutes, what is shown is old.",
                "Ancienneté du dernier cycle. Au-delà de 15 minutes, ce qui est affiché est périmé.",
            ),
            "backupguard_last_cycle_timestamp_seconds",
            900,
        ),
        word(
            say("Evidence", "Preuves"),
            say(
                "Whether the chain of records was found whole.",
                "Si la chaîne des enregistrements a été trouvée intacte.",
            ),
            "backupguard_evidence_valid",
            say("whole", "intactes"),
            say("broken", "rompues"),
        ),
        since(
            say("Last anchor", "Dernière ancre"),
            say(
                "How long ago the chain’s head was last kept off this host.",
                "Ancienneté du dernier dépôt de la tête de chaîne hors de la machine.",
            ),
            "backupguard_evidence_anchor_timestamp_seconds",
            8 * 86_400,
        ),
        word(
            say("Self-test", "Auto-test"),
            say(
                "Whether BackupGuard noticed the last copy that it broke on purpose.",
                "Si BackupGuard a vu la dernière copie qu’il a abîmée exprès.",
            ),
            "backupguard_self_test_noticed",
            say("noticed", "vu"),
            say("missed", "manqué"),
        ),
        stat(
            say("Pause", "Pause"),
            say(
                "For how long no test or probe will run.",
                "Pendant combien de temps aucun test ni sonde ne sera lancé.",
            ),
            [
                Query(
                    expr="clamp_min(max by (site) (backupguard_paused_until_timestamp_seconds"
                    f"{{{SITE}}}) - time(), 0)",
                    name="{{site}}",
                    instant=True,
                )
            ],
            size=(4, 4),
            defaults={
                "unit": "s",
                "mappings": mapped((0, say("✓ working", "✓ en service"), GREEN)),
                "thresholds": steps((None, GREEN), (1, ORANGE)),
                "color": {"mode": "thresholds"},
            },
        ),
        stat(
            "Version",
            say("Version of BackupGuard.", "Version de BackupGuard."),
            [
                Query(
                    expr=f"max by (site, version) (backupguard_build_info{{{SITE}}})",
                    name="{{version}}",
                    instant=True,
                )
            ],
            size=(4, 4),
            defaults={"mappings": mapped((1, " ", GREY)), "thresholds": plain()},
        ),
    ]


def _exceptions(say: Say) -> Json:
    ends = say("first one ends", "fin de la première")
    return stat(
        say("Exceptions", "Dérogations"),
        say(
            "Non-compliances that somebody signed for, or asked to; and when the first one ends.",
            "Non-conformités acceptées par quelqu’un, ou en attente ; et la fin de la première.",
        ),
        [
            Query(
                expr=f"sum by (state) (backupguard_waivers{{{SITE}}})",
                name="{{state}}",
                instant=True,
            ),
            Query(
                expr=f"1000 * (min(backupguard_waivers_next_end_timestamp_seconds{{{SITE}}} > 0) "
                "or vector(0))",
                name=ends,
                instant=True,
            ),
        ],
        size=(24, 3),
        defaults={"unit": "short", "decimals": 0, "thresholds": plain()},
        overrides=[
            override("in_force", ("displayName", say("◇ in force", "◇ en vigueur"))),
            override("waiting", ("displayName", say("… second person", "… deuxième personne"))),
            override(
                ends,
                ("unit", "dateTimeFromNow"),
                ("mappings", mapped((0, say("none", "aucune"), GREY))),
            ),
        ],
    )


def _probes(say: Say) -> Json:
    by = "site, probe, subject"
    seen, last, expected = (
        say("could see", "a pu voir"),
        say("last run", "dernier passage"),
        say("every", "tous les"),
    )
    return table(
        say("What was looked at", "Ce qui a été regardé"),
        say(
            "Whether each probe could see what it looks at; what it saw is in the controls.",
            "Si chaque sonde a pu voir ce qu’elle regarde ; ce qu’elle a vu est dans les contrôles.",
        ),
        [
            Query(
                expr=f"max by ({by}) (backupguard_probe_success{{{SITE}}})", name=seen, table=True
            ),
            Query(
                expr=f"1000 * max by ({by}) (backupguard_probe_last_run_timestamp_seconds{{{SITE}}})",
                name=last,
                table=True,
            ),
            Query(
                expr=f"max by ({by}) (backupguard_probe_expected_interval_seconds{{{SITE}}})",
                name=expected,
                table=True,
            ),
        ],
        size=(12, 9),
        columns=[
            ("probe", say("probe", "sonde")),
            ("subject", say("subject", "sujet")),
            ("site", "site"),
        ],
        overrides=[
            override(
                seen,
                (
                    "mappings",
                    mapped((1, say("✓ yes", "✓ oui"), GREEN), (0, say("✗ no", "✗ non"), RED)),
                ),
                ("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            ),
            ago(say, last, ORANGE),
            override(expected, ("unit", "s")),
        ],
        sort=seen,
    )


def build(say: Say) -> Json:
    """Return the dashboard of the estate."""
    words = mapped(*statuses(say))
    columns = control_columns(say)
    control = variable(
        "control",
        say("Control", "Contrôle"),
        f"label_values(backupguard_control_status{{{SITE}}}, control)",
        allValue=".*",
    )
    return dashboard(
        say,
        "estate",
        say("BackupGuard: the estate", "BackupGuard : vue d’ensemble"),
        say(
            "CaRE D4: every application against every control.",
            "CaRE D4 : chaque application face à chaque contrôle.",
        ),
        [
            _counts(say),
            firing(say, 'site=~"$site|"', (24, 9)),
            matrix(
                say("Applications × controls: $site", "Applications × contrôles : $site"),
                say(
                    "The worst state of the application and its jobs. A row leads to the "
                    "application, a cell to the runbook.",
                    "Le pire état de l’application et de ses travaux. Une ligne mène à "
                    "l’application, une case à la fiche réflexe.",
                ),
                worst(OF_APPLICATIONS, "site, application, control"),
                row="application",
                row_name="application",
                column="control",
                size=(24, 10),
                words=words,
                overrides=columns,
                row_links=to_both(say),
                repeat="site",
            ),
            matrix(
                say("Everything else × controls: $site", "Tout le reste × contrôles : $site"),
                say(
                    "The site, its repositories, its media and its hosts.",
                    "Le site, ses dépôts, ses supports et ses machines.",
                ),
                f"""max by (site, subject, control) (
                  backupguard_control_status{{
                    {SITE},control=~"$control",subject!~"(application|job)/.+"
                  }}
                )""",
                row="subject",
                row_name=say("subject", "sujet"),
                column="control",
                size=(24, 8),
                words=words,
                overrides=columns,
                repeat="site",
            ),
            _exceptions(say),
            *_itself(say),
            _history(say),
            _probes(say),
        ],
        variables=[control],
    )
