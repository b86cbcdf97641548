"""Several sites: which one is silent, which one is behind. Reads backupguard-ght.rules.yml."""

from __future__ import annotations

from dashboards.building import dashboard
from dashboards.estate import firing
from dashboards.panels import Query, lines, matrix, stat, table
from dashboards.showing import (
    COLOURED_CELL,
    GREEN,
    ORANGE,
    RED,
    Json,
    Say,
    control_columns,
    link,
    links_of,
    mapped,
    override,
    statuses,
    steps,
)

SITE = 'site=~"$site"'
SEEN = "backupguard:site:seen_timestamp_seconds"
LATE = 900  # seconds without a judgement, as in the alert


def _sites(say: Say) -> Json:
    reports, judged = say("reports", "transmet"), say("last judged", "dernier jugement")
    now, day = say("to do now", "à traiter maintenant"), say("same day", "le jour même")
    compliant, proved = (
        say("compliant", "conforme"),
        say("restores proved", "restaurations prouvées"),
    )
    forecast = say("worst forecast / RTO", "pire prévision / DMIA")
    estate = f"/d/{say.uid('estate')}?${{datasource:queryparam}}"
    named = [
        (f"time() - {SEEN}{{{SITE}}} < bool {LATE}", reports),
        (f"1000 * {SEEN}{{{SITE}}}", judged),
        (f'sum by (site) (backupguard:site:open:count{{{SITE},urgency="now"}})', now),
        (f'sum by (site) (backupguard:site:open:count{{{SITE},urgency="same-day"}})', day),
        (f"backupguard:site:compliant:ratio{{{SITE}}}", compliant),
        (f"backupguard:site:proved:ratio{{{SITE}}}", proved),
        (f"backupguard:site:forecast_to_rto:ratio{{{SITE}}}", forecast),
    ]
    none_is_good = (
        ("thresholds", steps((None, GREEN), (1, RED))),
        ("custom.cellOptions", {"type": "color-text"}),
    )
    return table(
        say("Sites", "Sites"),
        say(
            "One line per site that ever reported. A site leads to its own estate.",
            "Une ligne par site qui a déjà transmis. Un site mène à sa vue d’ensemble.",
        ),
        [Query(expr=expr, name=name, table=True) for expr, name in named],
        size=(24, 9),
        columns=[("site", "site")],
        overrides=[
            override(
                "site",
                links_of(
                    link(
                        say("Its estate", "Sa vue d’ensemble"),
                        f"{estate}&var-site=${{__value.raw:percentencode}}",
                    )
                ),
            ),
            override(
                reports,
                (
                    "mappings",
                    mapped(
                        (1, say("✓ reports", "✓ transmet"), GREEN),
                        (0, say("✗ silent", "✗ muet"), RED),
                    ),
                ),
                ("custom.cellOptions", dict(COLOURED_CELL)),
            ),
            override(judged, ("unit", "dateTimeFromNow")),
            override(now, *none_is_good),
            override(day, *none_is_good),
            *(
                override(name, ("unit", "percentunit"), ("decimals", 0))
                for name in (compliant, proved, forecast)
            ),
        ],
        sort=reports,
    )


def _counts(say: Say) -> list[Json]:
    def one(title: str, description: str, expr: str, *, bad: bool) -> Json:
        return stat(
            title,
            description,
            [Query(expr=expr, name=title, instant=True)],
            size=(8, 4),
            defaults={
                "unit": "short",
                "decimals": 0,
                "thresholds": steps((None, GREEN), *([(1, RED)] if bad else [])),
                "color": {"mode": "thresholds"},
            },
        )

    return [
        one(
            say("Sites that report", "Sites qui transmettent"),
            say("Judged within 15 minutes.", "Jugement de moins de 15 minutes."),
            f"count(time() - {SEEN}{{{SITE}}} < {LATE}) or vector(0)",
            bad=False,
        ),
        one(
            say("Silent sites", "Sites muets"),
            say(
                "They reported once and do not any more.",
                "Ils ont transmis et ne transmettent plus.",
            ),
            f"count(time() - {SEEN}{{{SITE}}} >= {LATE}) or vector(0)",
            bad=True,
        ),
        one(
            say("To do now, everywhere", "À traiter maintenant, partout"),
            say(
                "Non-compliances that stand and cannot wait.",
                "Non-conformités en cours qui ne peuvent attendre.",
            ),
            f'sum(backupguard:site:open:count{{{SITE},urgency="now"}}) or vector(0)',
            bad=True,
        ),
    ]


def _over_time(say: Say) -> list[Json]:
    def one(title: str, description: str, expr: str, unit: str) -> Json:
        return lines(
            title,
            description,
            [Query(expr=expr, name="{{site}}")],
            size=(12, 8),
            unit=unit,
            overrides=[],
        )

    return [
        one(
            say("Compliant, by site", "Part conforme, par site"),
            say(
                "Of what applies; waived and not measurable are not compliant.",
                "De ce qui s’applique ; dérogation et non mesurable ne sont pas conformes.",
            ),
            f"backupguard:site:compliant:ratio{{{SITE}}}",
            "percentunit",
        ),
        one(
            say("Restores proved in time, by site", "Restaurations prouvées à temps, par site"),
            say(
                "Share of the applications restored within the interval that is meant.",
                "Part des applications restaurées dans le délai prévu.",
            ),
            f"backupguard:site:proved:ratio{{{SITE}}}",
            "percentunit",
        ),
    ]


def build(say: Say) -> Json:
    """Return the dashboard of several sites."""
    judged = matrix(
        say("Sites × controls", "Sites × contrôles"),
        say(
            "The worst state of each control at each site. A cell leads to the runbook.",
            "Le pire état de chaque contrôle sur chaque site. Une case mène à la fiche réflexe.",
        ),
        f"backupguard:site_control:status{{{SITE}}}",
        row="site",
        row_name="site",
        column="control",
        size=(24, 9),
        words=mapped(*statuses(say)),
        overrides=control_columns(say),
    )
    silence = lines(
        say("Time since a site last judged", "Temps depuis le dernier jugement"),
        say("An alert above 15 minutes.", "Alerte au-delà de 15 minutes."),
        [Query(expr=f"time() - {SEEN}{{{SITE}}}", name="{{site}}")],
        size=(24, 7),
        unit="s",
    )
    silence["fieldConfig"]["defaults"]["thresholds"] = steps((None, GREEN), (LATE, ORANGE))
    silence["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] = {"mode": "line"}
    made = dashboard(
        say,
        "ght",
        say("BackupGuard: all sites of the GHT", "BackupGuard : tous les sites du GHT"),
        say(
            "Several BackupGuards side by side. Needs backupguard-ght.rules.yml.",
            "Plusieurs BackupGuard côte à côte. Demande backupguard-ght.rules.yml.",
        ),
        [*_counts(say), _sites(say), firing(say, 'site=~"$site|"', (24, 8)), judged, silence,
         *_over_time(say)],
        period="now-30d",
    )  # fmt: skip
    site = made["templating"]["list"][1]
    # From what was ever seen: a site that is silent stays in the list.
    query = f"label_values({SEEN}, site)"
    site["query"] |= {"query": query}
    return made
