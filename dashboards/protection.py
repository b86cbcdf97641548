"""Immutability and offline copies: what an attacker would leave us."""

from __future__ import annotations

from dashboards.building import dashboard
from dashboards.panels import Query, lines, matrix, panel, table
from dashboards.showing import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Json,
    Say,
    control_columns,
    mapped,
    override,
    statuses,
    to_both,
)

SITE = 'site=~"$site"'
CONTROLS = "321-01|OFF-01|IMM-01|IMM-02|ISO-01|CHF-01|ACC-01|CFG-01"


def verdicts(say: Say) -> list[Json]:
    """Return the mapping of `backupguard_immutability_verdict`."""
    return mapped(
        (2, say("✓ nothing: proved", "✓ rien : prouvé"), GREEN),
        (1, say("? unknown", "? inconnu"), PURPLE),
        (0, say("✗ something", "✗ quelque chose"), RED),
    )


def _attackers(say: Say) -> Json:
    return matrix(
        say("What an attacker can destroy: $site", "Ce qu’un attaquant peut détruire : $site"),
        say(
            "By repository, and by whose rights the attacker has: what trials against canaries showed.",
            "Par dépôt, et selon les droits de l’attaquant : ce qu’ont montré les essais sur témoins.",
        ),
        f"min by (site, repository, attacker) (backupguard_immutability_verdict{{{SITE}}})",
        row="repository",
        row_name=say("repository", "dépôt"),
        column="attacker",
        size=(12, 9),
        words=verdicts(say),
        repeat="site",
        overrides=[
            override(
                "backup_writer", ("displayName", say("backup writer", "compte de sauvegarde"))
            ),
            override("storage_admin", ("displayName", say("storage admin", "admin du stockage"))),
            override(
                "hypervisor_admin", ("displayName", say("hypervisor admin", "admin hyperviseur"))
            ),
            override("physical", ("displayName", say("physical access", "accès physique"))),
            override("clock", ("displayName", say("clock", "horloge"))),
        ],
    )


def _reached(say: Say) -> Json:
    return matrix(
        say("What production can reach: $site", "Ce que la production atteint : $site"),
        say(
            "By store that must not answer, and by vantage point in production. Empty where no "
            "target is declared.",
            "Par stockage qui ne doit pas répondre, et par point d’observation en production. Vide si "
            "aucune cible n’est déclarée.",
        ),
        f"min by (site, target, vantage) (backupguard_isolation_verdict{{{SITE}}})",
        row="target",
        row_name=say("target", "cible"),
        column="vantage",
        size=(24, 6),
        words=verdicts(say),
        repeat="site",
    )


def _locks(say: Say) -> list[Json]:
    until = say("locked until", "verrouillé jusqu’au")
    metric = "backupguard_immutability_locked_until_timestamp_seconds"
    locked = f"min by (site, repository) ({metric}{{{SITE}}})"
    return [
        table(
            say("Locks of the newest points", "Verrous des derniers points"),
            say(
                "The earliest end of the locks of the newest points; absent where nobody could look.",
                "La plus proche fin des verrous des derniers points ; absent si personne n’a pu lire.",
            ),
            [Query(expr=f"1000 * {locked}", name=until, table=True)],
            size=(12, 8),
            columns=[("repository", say("repository", "dépôt")), ("site", "site")],
            overrides=[
                override(
                    until,
                    ("unit", "dateTimeAsIso"),
                    ("mappings", mapped((0, say("✗ not locked", "✗ non verrouillé"), RED))),
                )
            ],
            sort=until,
        ),
        lines(
            say("Lock that is left", "Verrou restant"),
            say(
                "It should stay level: each new point is locked anew.",
                "Doit rester stable : chaque nouveau point est verrouillé à son tour.",
            ),
            [Query(expr=f"clamp_min({locked} - time(), 0)", name="{{repository}}")],
            size=(12, 8),
            unit="s",
        ),
    ]


def _offline(say: Say) -> list[Json]:
    newest = f"max by (site, application) (backupguard_offline_copy_timestamp_seconds{{{SITE}}})"
    return [
        matrix(
            say("Newest copy proved offline: $site", "Dernière copie prouvée hors ligne : $site"),
            say(
                "By application and medium: read right, seen detached, declared out.",
                "Par application et support : relue, vue débranchée, déclarée sortie.",
            ),
            f"""1000 * max by (site, application, medium_id) (
              backupguard_offline_copy_timestamp_seconds{{{SITE}}}
            )""",
            row="application",
            row_name="application",
            column="medium_id",
            size=(12, 9),
            words=mapped((0, say("✗ none", "✗ aucune"), RED)),
            unit="dateTimeFromNow",
            row_links=to_both(say),
            repeat="site",
        ),
        lines(
            say("Age of the newest offline copy", "Âge de la dernière copie hors ligne"),
            say(
                "What would be lost if everything within reach were destroyed; no line where there "
                "is no copy.",
                "Ce qui serait perdu si tout ce qui est joignable était détruit ; pas de courbe sans "
                "copie.",
            ),
            [Query(expr=f"time() - ({newest} > 0)", name="{{application}}")],
            size=(12, 9),
            unit="s",
        ),
        panel(
            "state-timeline",
            say("Media attached to this host", "Supports branchés sur cette machine"),
            say(
                "A medium that stays attached is within reach. No band: nobody can tell.",
                "Un support qui reste branché est à portée de l’attaquant. Pas de bande : inconnu.",
            ),
            [
                Query(
                    expr=f"max by (site, medium_id) (backupguard_offline_medium_connected{{{SITE}}})",
                    name="{{medium_id}}",
                )
            ],
            size=(24, 7),
            options={
                "showValue": "auto",
                "mergeValues": True,
                "rowHeight": 0.9,
                "alignValue": "left",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True,
                           "calcs": []},
                "tooltip": {"mode": "single", "sort": "none"},
            },
            defaults={
                "mappings": mapped(
                    (1, say("▣ attached", "▣ branché"), ORANGE),
                    (0, say("□ detached", "□ débranché"), GREEN),
                ),
                "custom": {"fillOpacity": 80, "lineWidth": 0},
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": [{"value": None, "color": GREY}]},
            },
        ),
    ]  # fmt: skip


def build(say: Say) -> Json:
    """Return the dashboard of immutability and offline copies."""
    judged = matrix(
        say("Controls of protection: $site", "Contrôles de protection : $site"),
        say(
            "3-2-1, offline, immutability, isolation, encryption, access, changes.",
            "3-2-1, hors ligne, immuabilité, isolement, chiffrement, accès, modifications.",
        ),
        f"""max by (site, subject, control) (
          backupguard_control_status{{{SITE},control=~"{CONTROLS}"}}
        )""",
        row="subject",
        row_name=say("subject", "sujet"),
        column="control",
        size=(12, 9),
        words=mapped(*statuses(say)),
        overrides=control_columns(say),
        repeat="site",
    )
    return dashboard(
        say,
        "protection",
        say("BackupGuard: immutability and offline", "BackupGuard : immuabilité et hors ligne"),
        say(
            "What would be left after an attack.",
            "Ce qui resterait après une attaque.",
        ),
        [_attackers(say), judged, _reached(say), *_locks(say), *_offline(say)],
        period="now-30d",
    )
