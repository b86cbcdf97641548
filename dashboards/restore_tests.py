"""Restore tests: what was proved, and duration, forecast and loss against what was promised."""

from __future__ import annotations

from dashboards.building import dashboard, variable
from dashboards.panels import Query, lines, stat, table
from dashboards.showing import (
    BLUE,
    COLOURED_CELL,
    GREEN,
    ORANGE,
    RED,
    Json,
    Say,
    ago,
    duration,
    levels,
    links_of,
    mapped,
    override,
    statuses,
    steps,
    to_both,
)

CHOSEN = 'site=~"$site",application=~"$application"'


def _best(metric: str, by: str = "site, application") -> str:
    return f"max by ({by}) (backupguard_{metric}{{{CHOSEN}}})"


def outcomes(say: Say, selector: str, size: tuple[int, int]) -> Json:
    """Return how many tests ended how in the chosen period."""
    # Not increase(): a series that begins with its first test would lose it.
    total = f"sum by (outcome) (backupguard_restore_tests_total{{{selector}}})"
    words = [
        ("passed", say("✓ passed", "✓ réussi"), GREEN),
        ("failed", say("✗ failed", "✗ échoué"), RED),
        ("could_not_verify", say("? could not verify", "? non vérifié"), ORANGE),
        ("skipped", say("– skipped", "– non exécuté"), BLUE),
    ]
    before = f"sum by (outcome) (backupguard_restore_tests_total{{{selector}}} offset $__range)"
    return stat(
        say("Tests in this period", "Tests de la période"),
        say(
            "Restore tests by how they ended. “Could not verify” says nothing about the copy.",
            "Tests de restauration selon leur issue. « Non vérifié » ne dit rien de la copie.",
        ),
        [
            Query(
                expr=f"clamp_min({total} - ({before} or 0 * {total}), 0)",
                name="{{outcome}}",
                instant=True,
            )
        ],
        size=size,
        defaults={"unit": "short", "decimals": 0},
        overrides=[
            override(
                name, ("displayName", word), ("color", {"mode": "fixed", "fixedColor": colour})
            )
            for name, word, colour in words
        ],
    )


def _proofs(say: Say) -> Json:
    """Return one line per application: what was proved, and whether that keeps the promise."""
    status = {
        control: f"max by (site, application) (label_replace("
        f'backupguard_control_status{{site=~"$site",control="{control}",subject=~"application/.+"}},'
        f' "application", "$1", "subject", "application/(.+)")'
        f" * on (site, application) group_left () (0 * {_best('restore_test_level')} + 1))"
        for control in ("RST-01", "RST-02", "RST-03")
    }
    success, run = say("last success", "dernier succès"), say("last run", "dernier test")
    level, took = say("level", "niveau"), say("duration", "durée")
    forecast, rto = say("forecast", "prévision"), say("RTO", "DMIA")
    loss, rpo = say("worst loss", "pire perte"), say("RPO", "PDMA")
    named = [
        *((expr, control) for control, expr in status.items()),
        ("1000 * " + _best("restore_test_last_success_timestamp_seconds"), success),
        ("1000 * " + _best("restore_test_last_run_timestamp_seconds"), run),
        (_best("restore_test_level"), level),
        (_best("restore_test_duration_seconds"), took),
        (_best("recovery_forecast_seconds"), forecast),
        (_best("application_rto_target_seconds"), rto),
        (_best("backup_worst_exposure_seconds"), loss),
        (_best("application_rpo_target_seconds"), rpo),
    ]
    words = mapped(*statuses(say))
    return table(
        say("What was proved", "Ce qui a été prouvé"),
        say(
            "RST-01: tested in time. RST-02: the content is valid. RST-03: back within the RTO. The "
            "duration of a test is a lower bound of a recovery and no RTO; the forecast is compared.",
            "RST-01 : testé à temps. RST-02 : contenu valide. RST-03 : retour dans la DMIA. La durée "
            "d’un test minore une reprise, ce n’est pas une DMIA ; la prévision lui est comparée.",
        ),
        [Query(expr=expr, name=name, table=True) for expr, name in named],
        size=(24, 10),
        columns=[("application", "application"), ("site", "site")],
        overrides=[
            override(
                "application",
                links_of(*to_both(say)),
            ),
            *(
                override(control, ("mappings", words), ("custom.cellOptions", dict(COLOURED_CELL)))
                for control in status
            ),
            ago(say, success),
            ago(say, run),
            override(level, ("mappings", levels(say))),
            *(duration(name) for name in (took, forecast, rto, loss, rpo)),
        ],
        sort="application",
    )


def _against_targets(say: Say) -> list[Json]:
    def pair(title: str, description: str, measured: str, target: str, promised: str) -> Json:
        return lines(
            title,
            description,
            [
                Query(expr=_best(measured), name="{{application}}"),
                Query(expr=_best(target), name=f"{promised} {{{{application}}}}"),
            ],
            size=(12, 9),
            unit="s",
            targets=f"^{promised} .*",
        )

    rto, rpo = say("RTO", "DMIA"), say("RPO", "PDMA")
    share = lines(
        say("Forecast as a share of the RTO", "Prévision en part de la DMIA"),
        say(
            "Above 100 %, the application would be back too late.",
            "Au-delà de 100 %, l’application reviendrait trop tard.",
        ),
        [
            Query(
                expr=f"{_best('recovery_forecast_seconds')} / "
                f"{_best('application_rto_target_seconds')}",
                name="{{application}}",
            )
        ],
        size=(12, 9),
        unit="percentunit",
    )
    share["fieldConfig"]["defaults"]["thresholds"] = steps((None, GREEN), (1, RED))
    share["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] = {"mode": "line"}
    return [
        pair(
            say("Forecast of a whole recovery against the RTO", "Prévision de reprise et DMIA"),
            say(
                "When each application would be back if everything had to be restored; dashed: RTO.",
                "Quand chaque application reviendrait s’il fallait tout restaurer ; tirets : DMIA.",
            ),
            "recovery_forecast_seconds",
            "application_rto_target_seconds",
            rto,
        ),
        share,
        lines(
            say("Duration of restore tests", "Durée des tests de restauration"),
            say(
                "Of the last test of each copy. It grows before a target is missed.",
                "Du dernier test de chaque copie. Elle croît avant qu’un objectif soit manqué.",
            ),
            [
                Query(
                    expr=_best("restore_test_duration_seconds", "site, application, repository"),
                    name="{{application}} ({{repository}})",
                )
            ],
            size=(12, 9),
            unit="s",
        ),
        pair(
            say("Worst loss of the last month against the RPO", "Pire perte du mois et PDMA"),
            say(
                "The longest time without a point that could be restored; dashed: RPO.",
                "La plus longue durée sans point restaurable ; tirets : PDMA.",
            ),
            "backup_worst_exposure_seconds",
            "application_rpo_target_seconds",
            rpo,
        ),
        pair(
            say("Loss measured in restored data against the RPO", "Perte mesurée et PDMA"),
            say(
                "Data missing from the last good copy, as the site’s own check measured it.",
                "Données absentes de la dernière copie saine, selon le contrôle propre au site.",
            ),
            "restore_test_data_loss_seconds",
            "application_rpo_target_seconds",
            rpo,
        ),
    ]


def _clean(say: Say) -> Json:
    """Return how far back a clean point lies, and whether damage was found after it."""
    clean = say("newest clean point", "dernier point sain")
    bad = say("oldest damaged point", "plus ancien point abîmé")
    named = [
        ("1000 * " + _best("restore_test_clean_point_timestamp_seconds"), clean),
        ("1000 * " + _best("restore_test_first_bad_point_timestamp_seconds"), bad),
    ]
    return table(
        say("Back to which point", "Jusqu’à quel point revenir"),
        say(
            "The newest point whose restored content was found clean; the oldest damaged one that no "
            "clean one follows.",
            "Le dernier point dont le contenu restauré a été trouvé sain ; le plus ancien point abîmé "
            "qu’aucun point sain ne suit.",
        ),
        [Query(expr=expr, name=name, table=True) for expr, name in named],
        size=(24, 8),
        columns=[("application", "application"), ("site", "site")],
        overrides=[
            override(
                "application",
                links_of(*to_both(say)),
            ),
            ago(say, clean),
            override(
                bad,
                ("unit", "dateTimeFromNow"),
                ("mappings", mapped((0, say("✓ none", "✓ aucun"), GREEN))),
            ),
        ],
        sort=clean,
    )


def applications(**changed: object) -> Json:
    """Return the variable of applications."""
    return variable(
        "application",
        "Application",
        'label_values(backupguard_restore_test_level{site=~"$site"}, application)',
        **changed,
    )


def build(say: Say) -> Json:
    """Return the dashboard of restore tests."""
    return dashboard(
        say,
        "restore-tests",
        say("BackupGuard: restore tests", "BackupGuard : tests de restauration"),
        say(
            "Duration, forecast and loss against targets, over time.",
            "Durée, prévision et perte face aux objectifs, dans le temps.",
        ),
        [outcomes(say, CHOSEN, (24, 4)), _proofs(say), _clean(say), *_against_targets(say)],
        variables=[applications(allValue=".*")],
        period="now-90d",
    )
