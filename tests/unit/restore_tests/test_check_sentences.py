"""Every code and name of a check that the code can give has its sentence in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import restore_tests
from backupguard.errors import all_codes
from backupguard.language import LANGUAGES, catalogue
from restore_tests import outcome
from restore_tests.shape import WARNING

SOURCES = "".join(path.read_text() for path in sorted(Path(restore_tests.__path__[0]).glob("*.py")))


def names() -> set[str]:
    return set(re.findall(r'name="([a-z-]+)",\s+level=', SOURCES)) | {
        *re.findall(r'shape\.result\(\s*"([a-z-]+)"', SOURCES),
        *re.findall(r'(?<!\.)\bresult\(\s*"([a-z-]+)"', SOURCES),
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_check_has_its_words(language: str) -> None:
    known = catalogue(language)
    codes = {
        *re.findall(r'(?:shape\.)?result\(\s*"[a-z-]+",\s*"([a-z_]+)"', SOURCES),
        *re.findall(r'code(?:, wrong)? = "([a-z_]+)"', SOURCES),
        *re.findall(r'"(check_[a-z_]+)"', SOURCES),
    } - {"check_unanswered"}
    assert {"rows_lost", "stale_tables", "check_timeout"} <= codes
    assert {f"check.{code}" for code in codes} <= known.keys()
    unproved = {code for code in codes if not code.startswith("check_")}
    assert {f"check.{WARNING}{code}" for code in unproved} <= known.keys()
    assert {"freshness", "rows-lost"} <= names()
    assert {f"check-name.{name}" for name in names()} <= known.keys()


def test_both_languages_say_the_same_things() -> None:
    mine = [
        {key for key in catalogue(language) if key.startswith(("check.", "check-name."))}
        for language in LANGUAGES
    ]
    assert mine[0] == mine[1]


def test_a_result_is_named_by_a_code_of_the_closed_vocabulary() -> None:
    for code in (*outcome._RESULT_CODES.values(), "check_unanswered"):
        assert code in all_codes()
    for code in outcome._FIRST:
        assert outcome._RESULT_CODES.get(code, code) in all_codes()
