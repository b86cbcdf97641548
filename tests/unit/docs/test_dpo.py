"""What the DPO files says what the code does: how long records are kept, and which measures answer."""

from __future__ import annotations

import re
from pathlib import Path

from backupguard.evidence.kinds import FIVE_YEARS, ONE_YEAR
from backupguard.settings.model import RestoreTestCadence

DPO = Path(__file__).parents[3] / "docs/dpo"
REGISTER, AIPD = (
    (DPO / f"{name}.md").read_text("utf-8").replace("\u00a0", " ") for name in ("registre", "aipd")
)


def test_both_say_how_long_records_are_kept() -> None:
    assert FIVE_YEARS // 366 == 5
    for page in (REGISTER, AIPD):
        assert "cinq ans" in page
        assert f"{ONE_YEAR} jours" in page


def test_the_cadence_is_the_default() -> None:
    default = RestoreTestCadence()
    said = re.search(r"C1 : (\d+) jours, C2 : (\d+), C3 : (\d+)", AIPD)
    assert said is not None
    assert [int(days) for days in said.groups()] == [
        one.days for one in (default.c1, default.c2, default.c3)
    ]


def test_every_measure_that_answers_a_risk_is_described() -> None:
    risks, measures = AIPD.split("## Mesures")
    described = set(re.findall(r"^\| (M\d+) \|", measures, re.MULTILINE))
    assert len(described) >= 13
    assert set(re.findall(r"\bM\d+\b", risks)) <= described


def test_what_is_left_to_the_establishment_is_marked_and_french_comes_first() -> None:
    for page in (REGISTER, AIPD):
        assert page.count("**[") > 10
        assert page.index("RGPD") < page.index("# In English")
