"""The report says of every copy what is declared and where it was found."""

from __future__ import annotations

from backupguard.contracts import RepositorySettings
from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.reports import MonthlyReport, monthly, render_html
from backupguard.settings.model import settings_type

from .records import Records, at


def report() -> MonthlyReport:
    chosen = settings_type({"restic": RepositorySettings}, {}, {}).model_validate(
        {
            "site": {"name": "CH de Belle-Rive"},
            "repositories": {
                "nas": {"type": "restic", "failure-domain": "baie-2", "copy-kind": "snapshot"},
                "coffre": {
                    "type": "restic",
                    "failure-domain": "campus-sud",
                    "medium-kind": "tape",
                    "off-site": True,
                    "declared-by": "DSI",
                    "declared-on": "2026-03-02",
                },
            },
            "applications": {
                "dpi": {
                    "name": "Dossier patient",
                    "criticality": "C1",
                    "failure-domain": "baie-1",
                    "backups": {
                        "nuit": {"repository": "nas", "every": "24h"},
                        "jour": {"repository": "nas", "every": "12h"},
                        "semaine": {"repository": "coffre", "every": "7d"},
                    },
                },
                "labo": {"name": "Laboratoire", "criticality": "C2"},
            },
        }
    )
    records = Records()
    data = {
        "reachable": True,
        "code": None,
        "type": "restic",
        "tool": "restic",
        "tool_version": "0.18.0",
        "repository_id": "f00d",
        "format_version": "2",
        "encrypted": True,
        "locks": [],
        "device": "fs:4e2c disk:srv/sda",
    }
    records.add("repository.inspected", "repository/nas", data, at(12))
    return monthly(records, chosen, load_catalogue(), "2026-11", "fr", at(31.2))  # type: ignore[arg-type]


def test_each_repository_of_an_application_is_a_row() -> None:
    rows = report().copies
    assert [(row.application, row.repository) for row in rows] == [
        ("dpi", "coffre"),
        ("dpi", "nas"),
    ]
    assert [row.device for row in rows] == [None, "fs:4e2c disk:srv/sda"]
    assert [row.off_site for row in rows] == [True, False]


def test_the_page_says_what_is_declared_and_what_was_found() -> None:
    html = render_html(report(), Words("fr", "Europe/Paris"))
    section = html[html.index("Copies de chaque application") :]
    for said in ("instantané", "bande", "campus-sud", "DSI, 2 mars 2026", "non attesté", "baie-1"):
        assert said in section
    assert "fs:4e2c disk:srv/sda" in section
