"""The report says whose word a repository's points are, and what is wrong with how it is read."""

from __future__ import annotations

from backupguard.contracts import RepositorySettings
from backupguard.controls import load_catalogue
from backupguard.language import Words
from backupguard.model import Origin
from backupguard.reports import monthly, render_html
from backupguard.settings.model import settings_type

from .records import Records, at


def shown(origin: Origin, *warnings: str) -> str:
    chosen = settings_type({"import": RepositorySettings}, {}, {}).model_validate(
        {"site": {"name": "CH de Belle-Rive"}, "repositories": {"central": {"type": "import"}}}
    )
    records = Records()
    listed = {"part": 1, "parts": 1, "standing": 7, "appeared": [], "changed": [], "vanished": []}
    records.add("inventory.listed", "repository/central", listed, at(12), origin=origin)
    inspected = {
        "reachable": True,
        "code": None,
        "type": "import",
        "tool": "import",
        "tool_version": "1",
        "repository_id": None,
        "format_version": None,
        "encrypted": None,
        "locks": [],
        "device": None,
        **({"warnings": list(warnings)} if warnings else {}),
    }
    records.add("repository.inspected", "repository/central", inspected, at(12))
    report = monthly(records, chosen, load_catalogue(), "2026-11", "fr", at(31.2))  # type: ignore[arg-type]
    html = render_html(report, Words("fr", "Europe/Paris"))
    return html[html.index('id="s11"') : html.index('id="s12"')]


def test_imported_points_are_called_imported_and_seen_ones_are_not() -> None:
    assert "importé" in shown(Origin.IMPORTED)
    assert "importé" not in shown(Origin.OBSERVED)


def test_warnings_of_a_repository_are_said_and_their_twin_is_silent() -> None:
    said = shown(Origin.OBSERVED, "administrator_credential", "timezone_differs")
    assert "le compte peut plus que lire" in said
    assert "le fuseau horaire du serveur n’est pas celui configuré" in said
    assert "_" not in said.replace("__", "")
    assert "le compte" not in shown(Origin.OBSERVED)
