"""What was declared is recorded whole, and demands later what it demanded then."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from backupguard.assess.declared_estate import (
    Estate,
    as_data,
    catalogue_then,
    declared_estate,
    of_data,
)
from backupguard.contracts import RepositorySettings
from backupguard.controls import load_catalogue
from backupguard.evidence.kinds import check_payload
from backupguard.model import Criticality
from backupguard.settings.model import Settings, settings_type

DAY = 86_400


def settings(**changed: Any) -> Settings:
    cls = settings_type({"restic": RepositorySettings}, {}, {})
    application = {
        "name": "Dossier patient",
        "criticality": "C1",
        "rpo": "12h",
        "rto": "4h",
        "declared-by": "direction des soins",
        "declared-on": "2026-03-02",
        "bia-reference": "BIA-4",
        "failure-domain": "baie-1",
        "recovery": {"steps": [{"name": "Serveur", "duration": "1h", "source": "essai"}]},
        "backups": {
            "nuit": {"repository": "nas", "every": "24h", "select": {"paths": ["/dpi"]}},
            "copie": {"repository": "coffre", "every": "7d", "select": {"paths": ["/dpi"]}},
            "journaux": {"repository": "nas", "every": "24h", "select": {"paths": ["/wal"]}},
        },
    }
    return cls.model_validate(
        {
            "site": {"name": "CH", "commissioning-until": "2026-12-31"},
            "plan": {"parallel": 2, "durable-writes": 150},
            "repositories": {
                "nas": {"type": "restic", "declared-on": "2026-03-02"},
                "coffre": {"type": "restic", "off-site": True, "medium-kind": "tape"},
            },
            "applications": {
                "dpi": {**application, **changed},
                "ad": {"name": "Annuaire", "criticality": "C2"},
            },
        }
    )


def made(**changed: Any) -> Estate:
    return declared_estate(settings(**changed), load_catalogue())


def test_what_is_recorded_is_read_back_as_it_was() -> None:
    told = as_data(made())
    assert of_data(json.loads(json.dumps(told))) == made()
    loaded = {
        "sha256": "", "catalogue_sha256": "", "program_version": "", "files": [],
        "differences": [], "estate": told,
    }  # fmt: skip
    check_payload("configuration.loaded", 1, loaded)


def test_it_holds_what_a_report_counts_with() -> None:
    found = made()
    dpi = found.applications["dpi"]
    assert (dpi.rpo_ms, dpi.rto_ms) == (12 * 3_600_000, 4 * 3_600_000)
    assert [step.duration_ms for step in dpi.steps] == [3_600_000]
    assert dpi.jobs["nuit"].data == dpi.jobs["copie"].data
    assert dpi.jobs["nuit"].data != dpi.jobs["journaux"].data
    assert dpi.repositories == ("coffre", "nas")
    assert found.fetchable("dpi") == ("coffre", "nas")
    assert found.fetchable("ad") == ()
    assert (found.parallel, found.durable_percent) == (2, 150)
    assert found.repositories["coffre"].off_site


def test_a_changed_target_is_another_estate_and_nothing_else_is() -> None:
    assert as_data(made()) == as_data(made())
    assert as_data(made(rpo="24h")) != as_data(made())


def test_the_catalogue_of_then_demands_what_was_recorded() -> None:
    catalogue = load_catalogue()
    recorded = catalogue_then(catalogue, replace(made(), periods={Criticality.C1: {"period": DAY}}))
    assert recorded.policy("RST-01", Criticality.C1).thresholds == {"period": DAY}
    assert recorded.policy("RST-01", Criticality.C2) == catalogue.policy("RST-01", Criticality.C2)
    assert recorded.policy("INT-01", Criticality.C1) == catalogue.policy("INT-01", Criticality.C1)
    assert catalogue_then(catalogue, declared_estate(settings())) is catalogue
    same = catalogue_then(catalogue, made())
    period = same.policy("RST-01", Criticality.C1).thresholds["period"]
    assert timedelta(seconds=int(period)) == timedelta(days=31)
