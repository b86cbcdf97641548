from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
from pydantic import ValidationError

from restore_tests.settings import ContentCheck, PostgresqlSettings


def check(**values: object) -> ContentCheck:
    return ContentCheck.model_validate({"name": "admissions", "sql": "select 1", **values})


def test_a_check_reads_as_the_configuration_file_writes_it() -> None:
    settings = PostgresqlSettings.model_validate(
        {
            "engine": "postgresql",
            "required-tables": ["patients", "clinic.stays"],
            "memory": "2GB",
            "checks": [
                {
                    "name": "admissions récentes",
                    "sql": "select max(admitted_at) from stays;",
                    "newer-than": "26h",
                }
            ],
        }
    )
    assert settings.checks[0].sql == "select max(admitted_at) from stays"
    assert settings.checks[0].newer_than == timedelta(hours=26)
    assert settings.memory == 2_000_000_000


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"newer-than": "26h", "at-least": 3},
        {"newer-than": "0s"},
        {"at-least": 3, "at-most": 2},
        {"at-least": 1.5},
        {"at-least": True},
        {"equals": 1, "sql": " ; "},
        {"equals": 1, "sql": "select 1\n\\! id"},
        {"equals": 1, "unknown": 1},
    ],
)
def test_a_check_that_could_prove_nothing_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        check(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"timezone": "Europe/Atlantis"},
        {"database": "template1"},
        {"database": 'x"; drop'},
        {"required-tables": ["a b"]},
        {"memory": "1MB"},
        {"checks": [{"name": "a", "sql": "select 1", "equals": 1}] * 2},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PostgresqlSettings.model_validate(values)


def test_bounds_may_stand_together_and_equality_keeps_its_type() -> None:
    assert check(**{"at-least": 1, "at-most": 9}).at_most == 9
    assert check(equals=True).equals is True
    assert check(equals="Nord").equals == "Nord"


def test_importing_the_settings_imports_no_engine() -> None:
    code = (
        "import sys, restore_tests.settings\n"
        "print([m for m in sys.modules if m.startswith('restore_tests.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['restore_tests.settings']"
