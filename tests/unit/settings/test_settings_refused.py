"""What a repository type refuses is said in both languages, at its own key and line."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from backupguard.errors import ConfigurationError
from backupguard.language import LANGUAGES, Words, catalogue
from backupguard.settings import load

ROOT = Path(__file__).parents[3] / "backupguard"


def problem(tmp_path: Path, table: str) -> Any:
    path = tmp_path / "backupguard.toml"
    path.write_text(f'[site]\nname = "A"\n[repositories.r]\n{table}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize(
    ("table", "key", "line", "french"),
    [
        ('type = "directory"\npath = "dumps"', "path", 5, "Écrivez un chemin absolu."),
        (
            'type = "borg"\nurl = "/srv/borg"\nlimits.bandwidth = "5MB/s"',
            "limits.bandwidth",
            6,
            "borg ne sait pas limiter sa lecture : utilisez limits.windows.",
        ),
        (
            'type = "s3"\nbucket = "abc"\nendpoint = "s3.example"',
            "endpoint",
            6,
            "Écrivez par exemple https://s3.example.org",
        ),
        (
            'type = "import"\nsource="x"\nfile="/x.csv"\ntimezone="P"\ncolumns = {job="a",at="b"}',
            "timezone",
            7,
            "Ce n’est pas un fuseau horaire : écrivez par exemple Europe/Paris.",
        ),
        (
            'type = "pgbackrest"\nprogram = "/usr/bin/pgbackrest"',
            "",
            4,
            "Donnez path ou credentials.backend, exactement un des deux.",
        ),
    ],
    ids=["directory", "borg", "s3", "import", "pgbackrest"],
)
def test_it_names_key_line_and_sentence(
    tmp_path: Path, table: str, key: str, line: int, french: str
) -> None:
    found = problem(tmp_path, table)
    assert found.key == f"repositories.r.{key}".rstrip(".")
    assert found.line in (line, line - 1 if not key else line)
    assert Words("fr", "Europe/Paris").say(found.message).replace("\u00a0", " ") == french
    assert Words("en", "Europe/Paris").say(found.message) != french


def test_a_database_in_part_is_refused_and_what_else_there_is_is_told(tmp_path: Path) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_text(
        '[site]\nname = "A"\n[applications.dpi]\nname = "DPI"\ncriticality = "C1"\n'
        '[applications.dpi.restore-test]\nengine = "postgresql"\n'
        'partial = { max-bytes = "200GB" }\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (found,) = caught.value.problems
    assert (found.key, found.line) == ("applications.dpi.restore-test.partial", 8)
    assert "scratch.directory" in Words("en", "Europe/Paris").say(found.message)
    path.write_text(path.read_text().replace('"postgresql"', '"files"'), encoding="utf-8")
    assert load(path).applications["dpi"].restore_test is not None


def refusals() -> set[str]:
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refused_setting":
                assert isinstance(node.args[0], ast.Constant), path
                found.add(f"settings.refuses.{node.args[0].value}")
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_has_its_sentence_and_no_sentence_is_left_over(language: str) -> None:
    said = {one for one in catalogue(language) if one.startswith("settings.refuses.")}
    assert refusals() == said


def test_shipped_types_refuse_nothing_in_english_only() -> None:
    for path in (ROOT / "repositories").glob("*settings.py"):
        assert "raise ValueError(" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize(
    ("table", "select", "told"),
    [
        ('type = "pgbackrest"\npath = "/p"', 'select.pattern = "main"', "pattern"),
        ('type = "directory"\npath = "/p"', 'select.name = "dpi"', "name"),
        ('type = "borg"\nurl = "/p"', 'select.tags = ["dpi"]', "tags"),
        ('type = "reported"', 'select.name = "dpi"', "name"),
        ('type = "pgbackrest"\npath = "/p"', 'select.name = "main"', ""),
        ('type = "directory"\npath = "/p"', 'select.pattern = "dpi-%Y.dump"', ""),
        ('type = "reported"', 'select.host = "srv-dpi"', ""),
    ],
    ids=["pgbackrest", "directory", "borg", "reported", "a stanza", "a pattern", "a host"],
)
def test_a_job_that_selects_by_what_its_type_ignores(
    tmp_path: Path, table: str, select: str, told: str
) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_text(
        f"""[site]\nname = "A"\n[repositories.r]\n{table}\n
        [applications.a]\nname = "A"\ncriticality = "C1"\n
        [applications.a.backups.b]\nrepository = "r"\nevery = "24h"\n{select}""",
        encoding="utf-8",
    )
    if not told:
        assert load(path).applications["a"].backups["b"].every is not None
        return
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (found,) = caught.value.problems
    assert found.key == f"applications.a.backups.b.select.{told}"
    assert found.message.id == "settings.select-unknown"
