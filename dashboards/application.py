"""One application: its controls, its backups, its restore tests, what is promised for it."""

from __future__ import annotations

from dashboards.building import dashboard
from dashboards.estate import firing
from dashboards.panels import Query, lines, matrix, stat, table
from dashboards.protection import verdicts
from dashboards.restore_tests import applications, outcomes
from dashboards.showing import (
    GREEN,
    RED,
    Json,
    Say,
    ago,
    control_columns,
    duration,
    levels,
    mapped,
    never,
    override,
    plain,
    statuses,
    steps,
    to_page,
)

CHOSEN = 'site=~"$site",application=~"$application"'
#: The application itself and its jobs.
SUBJECTS = 'site=~"$site",subject=~"(application|job)/($application)([.].*)?"'


def _of(metric: str, by: str, worst: str = "max") -> str:
    return f"{worst} by (site, {by}) (backupguard_{metric}{{{CHOSEN}}})"


def _promises(say: Say) -> list[Json]:
    def one(title: str, description: str, metric: str) -> Json:
        return stat(
            title,
            description,
            [Query(expr=_of(metric, "application"), name="{{application}}", instant=True)],
            size=(4, 4),
            defaults={"unit": "s", "thresholds": plain(), "color": {"mode": "thresholds"}},
        )

    def share(title: str, description: str, measured: str, promised: str) -> Json:
        return stat(
            title,
            description,
            [
                Query(
                    expr=f"{_of(measured, 'application')} / {_of(promised, 'application')}",
                    name="{{application}}",
                    instant=True,
                )
            ],
            size=(4, 4),
            defaults={
                "unit": "percentunit",
                "thresholds": steps((None, GREEN), (1, RED)),
                "color": {"mode": "thresholds"},
            },
        )

    return [
        one(
            say("RTO", "DMIA"),
            say("How long it may be away, declared.", "Durée d’indisponibilité admise, déclarée."),
            "application_rto_target_seconds",
        ),
        one(
            say("Forecast", "Prévision"),
            say(
                "When it would be back if everything had to be restored.",
                "Quand elle reviendrait s’il fallait tout restaurer.",
            ),
            "recovery_forecast_seconds",
        ),
        share(
            say("Forecast / RTO", "Prévision / DMIA"),
            say("Above 100 %: too late.", "Au-delà de 100 % : trop tard."),
            "recovery_forecast_seconds",
            "application_rto_target_seconds",
        ),
        one(
            say("RPO", "PDMA"),
            say("How much may be lost, declared.", "Perte admise, déclarée."),
            "application_rpo_target_seconds",
        ),
        one(
            say("Worst loss", "Pire perte"),
            say(
                "The longest time of the last month without a restorable point.",
                "La plus longue durée du mois sans point restaurable.",
            ),
            "backup_worst_exposure_seconds",
        ),
        share(
            say("Worst loss / RPO", "Pire perte / PDMA"),
            say("Above 100 %: too much.", "Au-delà de 100 % : trop."),
            "backup_worst_exposure_seconds",
            "application_rpo_target_seconds",
        ),
    ]


def _backups(say: Say) -> list[Json]:
    by = "application, backup_job, repository"
    last, oldest = say("newest point", "dernier point"), say("oldest point", "plus ancien point")
    points, size = say("points", "points"), say("size", "taille")
    failures, every = say("failures in a row", "échecs de suite"), say("every", "toutes les")
    return [
        table(
            say("Backups", "Sauvegardes"),
            say("Its jobs and what they left.", "Ses travaux et ce qu’ils ont laissé."),
            [
                Query(
                    expr="1000 * " + _of("backup_last_success_timestamp_seconds", by),
                    name=last,
                    table=True,
                ),
                Query(expr=_of("backup_expected_interval_seconds", by), name=every, table=True),
                Query(expr=_of("backup_recovery_points", by), name=points, table=True),
                Query(
                    expr="1000 * " + _of("backup_oldest_point_timestamp_seconds", by),
                    name=oldest,
                    table=True,
                ),
                Query(expr=_of("backup_newest_point_bytes", by), name=size, table=True),
                Query(expr=_of("backup_consecutive_failures", by), name=failures, table=True),
            ],
            size=(24, 7),
            columns=[
                ("backup_job", say("job", "travail")),
                ("repository", say("repository", "dépôt")),
                ("site", "site"),
            ],
            overrides=[
                ago(say, last),
                ago(say, oldest),
                override(every, ("unit", "s")),
                override(size, ("unit", "bytes")),
                override(
                    failures,
                    ("thresholds", steps((None, GREEN), (1, RED))),
                    ("custom.cellOptions", {"type": "color-text"}),
                ),
            ],
            sort=last,
        ),
        lines(
            say("Age of the newest point against the RPO", "Âge du dernier point et PDMA"),
            say(
                "What would be lost if it had to be restored at that moment; dashed: RPO.",
                "Ce qui serait perdu s’il fallait restaurer à ce moment ; tirets : PDMA.",
            ),
            [
                Query(
                    expr="time() - (" + _of("backup_last_success_timestamp_seconds", by) + " > 0)",
                    name="{{backup_job}} ({{repository}})",
                ),
                Query(
                    expr=_of("application_rpo_target_seconds", "application"),
                    name=say("RPO", "PDMA"),
                ),
            ],
            size=(12, 9),
            unit="s",
            targets="^(RPO|PDMA)$",
        ),
        lines(
            say("Size of the newest point", "Taille du dernier point"),
            say(
                "A sudden drop is a lost selection; a sudden rise may be encryption.",
                "Une chute brusque est une sélection perdue ; une hausse brusque, un chiffrement.",
            ),
            [
                Query(
                    expr=_of("backup_newest_point_bytes", by),
                    name="{{backup_job}} ({{repository}})",
                )
            ],
            size=(12, 9),
            unit="bytes",
        ),
    ]


def _tests(say: Say) -> list[Json]:
    by = "application, engine, repository, origin"
    success, failure = say("last success", "dernier succès"), say("last failure", "dernier échec")
    run, level = say("last run", "dernier test"), say("level", "niveau")
    took, loss = say("duration", "durée"), say("loss", "perte")
    fresh, part = say("data look older by", "données plus vieilles de"), say("part", "part")
    every = say("every", "tous les")
    named = [
        ("1000 * " + _of("restore_test_last_run_timestamp_seconds", by), run),
        ("1000 * " + _of("restore_test_last_success_timestamp_seconds", by), success),
        ("1000 * " + _of("restore_test_last_failure_timestamp_seconds", by), failure),
        (_of("restore_test_level", by, "min"), level),
        (_of("restore_test_duration_seconds", by), took),
        (_of("restore_test_data_loss_seconds", by), loss),
        (_of("restore_test_freshness_heuristic_seconds", by), fresh),
        (_of("restore_test_data_ratio", by, "min"), part),
        (_of("restore_test_expected_interval_seconds", by), every),
    ]
    return [
        table(
            say("Restore tests", "Tests de restauration"),
            say(
                "By copy. The duration is a lower bound of a recovery; “look older” is a guess.",
                "Par copie. La durée minore une reprise ; « plus vieilles » est une estimation.",
            ),
            [Query(expr=expr, name=name, table=True) for expr, name in named],
            size=(24, 7),
            columns=[
                ("repository", say("repository", "dépôt")),
                ("engine", say("engine", "moteur")),
                ("origin", say("origin", "origine")),
                ("site", "site"),
            ],
            overrides=[
                ago(say, run),
                ago(say, success),
                override(
                    failure,
                    ("unit", "dateTimeFromNow"),
                    ("mappings", never(say, GREEN)),
                ),
                override(level, ("mappings", levels(say))),
                *(duration(name) for name in (took, loss, fresh)),
                override(part, ("unit", "percentunit")),
                override(every, ("unit", "s")),
            ],
            sort=success,
        ),
        outcomes(say, CHOSEN, (12, 8)),
        lines(
            say("Where the time of a test goes", "Où passe le temps d’un test"),
            say("Phases of the last test of each copy.", "Phases du dernier test de chaque copie."),
            [
                Query(
                    expr=_of(
                        "restore_test_phase_duration_seconds", "application, repository, phase"
                    ),
                    name="{{phase}} ({{repository}})",
                )
            ],
            size=(12, 8),
            unit="s",
            stacked=True,
        ),
    ]


def _protection(say: Say) -> list[Json]:
    copy = say("newest offline copy", "dernière copie hors ligne")
    return [
        matrix(
            say("Its repositories against attackers", "Ses dépôts face aux attaquants"),
            say(
                "What trials against canaries showed, by whose rights the attacker has.",
                "Ce qu’ont montré les essais sur témoins, selon les droits de l’attaquant.",
            ),
            f"""min by (site, repository, attacker) (
              backupguard_immutability_verdict{{site=~"$site"}}
                * on (site, repository) group_left ()
              (0 * max by (site, repository) (backupguard_backup_recovery_points{{{CHOSEN}}}) + 1)
            )""",
            row="repository",
            row_name=say("repository", "dépôt"),
            column="attacker",
            size=(12, 7),
            words=verdicts(say),
        ),
        table(
            say("Its offline copies", "Ses copies hors ligne"),
            say(
                "The newest point on each medium that is proved away.",
                "Le dernier point de chaque support prouvé absent.",
            ),
            [
                Query(
                    expr="1000 * "
                    + _of("offline_copy_timestamp_seconds", "application, medium_id"),
                    name=copy,
                    table=True,
                )
            ],
            size=(12, 7),
            columns=[("medium_id", say("medium", "support")), ("site", "site")],
            overrides=[
                override(
                    copy,
                    ("unit", "dateTimeFromNow"),
                    ("mappings", mapped((0, say("✗ none", "✗ aucune"), RED))),
                )
            ],
            sort=copy,
        ),
    ]


def build(say: Say) -> Json:
    """Return the dashboard of one application."""
    judged = matrix(
        say("Controls", "Contrôles"),
        say(
            "The application and its jobs. A cell leads to the runbook.",
            "L’application et ses travaux. Une case mène à la fiche réflexe.",
        ),
        f"max by (site, subject, control) (backupguard_control_status{{{SUBJECTS}}})",
        row="subject",
        row_name=say("subject", "sujet"),
        column="control",
        size=(24, 7),
        words=mapped(*statuses(say)),
        overrides=control_columns(say),
    )
    made = dashboard(
        say,
        "application",
        say("BackupGuard: one application", "BackupGuard : une application"),
        say("Everything about one application.", "Tout d’une application."),
        [
            firing(say, CHOSEN, (24, 7)),
            *_promises(say),
            judged,
            *_backups(say),
            *_tests(say),
            *_protection(say),
        ],
        variables=[applications(multi=False, includeAll=False, current={})],
        period="now-30d",
    )
    page = to_page(say, "${application}")
    status = made["links"][-1]
    made["links"].append(
        status | {"title": page["title"], "url": page["url"], "tooltip": page["title"]}
    )
    return made
