"""Code and catalogues say the same: ids, placeholders, both languages, every area."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.pofile import read_po

from backupguard.daemon.tasks import TASKS
from backupguard.errors import all_codes
from backupguard.language import CATALOGUES, LANGUAGES, catalogue

ROOT = Path(__file__).parents[3]
PACKAGES = ("backupguard", "probes", "restore_tests")
AREAS = sorted({path.stem for path in CATALOGUES.glob("*/*.po")})


def entries(language: str, area: str) -> dict[str, str]:
    with (CATALOGUES / language / f"{area}.po").open("rb") as file:
        read = read_po(file, locale=language, abort_invalid=True)
    return {str(entry.id): str(entry.string) for entry in read if entry.id}


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("area", AREAS)
def test_both_languages_have_the_same_sentences(area: str) -> None:
    french, english = (entries(language, area) for language in ("fr", "en"))

    assert set(french) == set(english)
    for identifier, sentence in french.items():
        assert sentence, identifier
        assert english[identifier], identifier
        assert placeholders(sentence) == placeholders(english[identifier]), identifier


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_written_twice(language: str) -> None:
    seen: dict[str, str] = {}
    for area in AREAS:
        text = (CATALOGUES / language / f"{area}.po").read_text(encoding="utf-8")
        for identifier in re.findall(r'^msgid "(.+)"$', text, re.MULTILINE):
            assert identifier not in seen, f"{identifier} in {area} and {seen.get(identifier)}"
            seen[identifier] = area


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_has_its_sentence(language: str) -> None:
    known = catalogue(language)

    missing = {f"error.{code}" for code in (*all_codes(), "bug")} - set(known)
    assert not missing


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sentence_of_a_code_needs_no_value(language: str) -> None:
    """Findings and results carry a code alone; only these few are always raised with values."""
    with_values = {"bug", "configuration", "plugin_missing", "plugin_broken", "plugin_twice"}
    for code in all_codes():
        if code not in with_values:
            assert not placeholders(catalogue(language)[f"error.{code}"]), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_belongs_to_a_code_that_is_gone(language: str) -> None:
    used = set(strings())
    for identifier in catalogue(language):
        area, _, code = identifier.partition(".")
        if area == "error":
            assert code in {*all_codes(), "bug"} or identifier in used, identifier


@cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    return tuple(
        (path, ast.parse(path.read_text(encoding="utf-8")))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def strings() -> Iterator[str]:
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def messages() -> Iterator[tuple[str, str, set[str] | None]]:
    """Yield each `Message(id="literal", values={…})`: place, id, names of values where literal."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message"):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            identifier, values = given.get("id"), given.get("values")
            if not (isinstance(identifier, ast.Constant) and isinstance(identifier.value, str)):
                continue
            names: set[str] | None = set()
            if isinstance(values, ast.Dict):
                keys = [key.value for key in values.keys if isinstance(key, ast.Constant)]
                names = set(map(str, keys)) if len(keys) == len(values.keys) else None
            elif values is not None:
                names = None
            yield f"{path.relative_to(ROOT)}:{node.lineno}", identifier.value, names


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_in_the_code_can_be_said(language: str) -> None:
    known = catalogue(language)
    found = list(messages())

    assert len(found) > 20, "the search itself works"
    unknown = [f"{place}: {name}" for place, name, _ in found if name not in known]
    assert not unknown
    unfilled = [
        f"{place}: {name} needs {placeholders(known[name]) - values}"
        for place, name, values in found
        if values is not None and not placeholders(known[name]) <= values
    ]
    assert not unfilled


def units() -> Iterator[str]:
    """Yield what progress is counted in, wherever it is told: `context.progress(1, 2, "files")`."""
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and len(node.args) == 3:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                unit = node.args[2]
                if name == "progress" and isinstance(unit, ast.Constant):
                    yield str(unit.value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_task_and_what_it_counts_has_a_name(language: str) -> None:
    known = catalogue(language)
    counted = set(units()) - {"bytes"}
    assert {"files", "media", "ports"} <= counted, "the search itself works"
    assert not {f"task.{name}" for name in TASKS} - set(known)
    assert not {f"unit.{name}" for name in counted} - set(known)


def patterns() -> Iterator[re.Pattern[str]]:
    """Yield what the code can spell: every text, and every text with values put in."""
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z-]+"
                    for part in node.values
                ]
                if "[a-z-]+" not in parts[0]:
                    yield re.compile("".join(parts))


@pytest.mark.parametrize("area", ["errors", "settings", "cli"])
def test_no_sentence_of_these_areas_is_unused(area: str) -> None:
    spelled, built = set(strings()), list(patterns())
    codes = {*all_codes(), "bug"}
    for identifier in entries("en", area):
        by_code = identifier.split(".", 1)[1] in codes
        assert (
            by_code
            or identifier in spelled
            or any(p.fullmatch(identifier) or p.fullmatch(f"@{identifier}") for p in built)
        ), identifier
