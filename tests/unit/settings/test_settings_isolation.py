"""[isolation]: what is wrong with it is said with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.errors import ConfigurationError
from backupguard.settings import Settings
from backupguard.settings.differences import differences
from backupguard.settings.isolation import media_behind, targets_of, wanted
from backupguard.settings.loading import load

BASE = """\
[site]
name = "CH"
[repositories.coffre]
type = "directory"
path = "/srv"
[isolation.targets.coffre]
hosts = ["nas.example", "nas.example", "192.0.2.9"]
ports = [445, 22]
repositories = ["coffre"]
windows = ["Sat 08:00-12:00"]
[isolation.vantages.bureautique]
zone = "postes"
witness = "dc1.example:389"
key.file = "key"
"""


def loaded(tmp_path: Path, text: str, *, check_secrets: bool = False) -> Settings:
    file = tmp_path / "backupguard.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ={}, check_secrets=check_secrets)


def problems(tmp_path: Path, text: str, *, check_secrets: bool = False) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text, check_secrets=check_secrets)
    for one in caught.value.problems:
        assert one.line is not None
    return [(one.key, one.message.id) for one in caught.value.problems]


def test_a_sound_table_is_read(tmp_path: Path) -> None:
    settings = loaded(tmp_path, BASE)
    isolation = settings.isolation
    assert list(targets_of(isolation, "coffre", settings.repositories)) == ["coffre"]
    assert media_behind(isolation.targets["coffre"], settings.repositories) == frozenset()
    assert wanted(isolation, "self", settings.repositories) == ()
    assert len(wanted(isolation, "bureautique", settings.repositories)) == 4, "each once"
    assert isolation.vantages["bureautique"].key.file == tmp_path / "key"


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        (
            "[isolation.targets.coffre]",
            "[isolation.targets.Coffre]",
            "isolation.targets.Coffre",
            "bad-id",
        ),
        (
            "[isolation.vantages.bureautique]",
            "[isolation.vantages.self]",
            "isolation.vantages.self",
            "bad-id",
        ),
        (
            'repositories = ["coffre"]',
            'repositories = ["gone"]',
            "isolation.targets.coffre.repositories[0]",
            "no-repository",
        ),
        (
            'repositories = ["coffre"]',
            'media = ["gone"]',
            "isolation.targets.coffre.media[0]",
            "no-medium",
        ),
        (
            'repositories = ["coffre"]',
            "",
            "isolation.targets.coffre",
            "target-of-nothing",
        ),
        ("Sat 08:00-12:00", "samedi", "isolation.targets.coffre.windows[0]", "bad-window"),
        (
            "dc1.example:389",
            "dc1.example:99999",
            "isolation.vantages.bureautique.witness",
            "bad-port",
        ),
        (
            "[445, 22]",
            str(list(range(1, 401))),
            "isolation.targets",
            "above",
        ),
    ],
    ids=["id", "self", "repository", "medium", "nothing", "window", "witness", "too-many"],
)
def test_what_leads_nowhere_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, key: str, message: str
) -> None:
    assert problems(tmp_path, BASE.replace(old, new)) == [(key, f"settings.{message}")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ports = [445, 22]", "ports = [0]"),
        ("ports = [445, 22]", "ports = []"),
        ('witness = "dc1.example:389"', 'witness = "dc1.example"'),
        ("[isolation.targets.coffre]", '[isolation]\nurl = "ftp://x"\n[isolation.targets.coffre]'),
    ],
    ids=["port", "no-port", "witness", "url"],
)
def test_what_is_of_the_wrong_kind_is_refused(tmp_path: Path, old: str, new: str) -> None:
    found = problems(tmp_path, BASE.replace(old, new))
    assert all(key.startswith("isolation") for key, _ in found)


def test_a_key_that_is_missing_or_that_others_may_read_is_told(tmp_path: Path) -> None:
    key = "isolation.vantages.bureautique.key"
    assert problems(tmp_path, BASE, check_secrets=True) == [(key, "settings.secret-missing")]
    (tmp_path / "key").write_text("k" * 64)
    (tmp_path / "key").chmod(0o644)
    assert problems(tmp_path, BASE, check_secrets=True) == [(key, "settings.secret-readable")]
    (tmp_path / "key").chmod(0o600)
    loaded(tmp_path, BASE, check_secrets=True)


def test_looking_less_weakens(tmp_path: Path) -> None:
    before = loaded(tmp_path, BASE).dump()

    def weakened(text: str) -> list[str]:
        after = loaded(tmp_path, text).dump()
        return [one["path"] for one in differences(before, after) if one["weakened"]]

    at = "isolation.targets.coffre"
    assert weakened(BASE.replace("[445, 22]", "[22]")) == [f"{at}.ports"]
    assert weakened(BASE.replace('"Sat', '"Sun 08:00-12:00", "Sat')) == [f"{at}.windows"]
    assert weakened(BASE.replace("dc1", "dc2")) == ["isolation.vantages.bureautique.witness"]
    assert weakened(BASE.partition("[isolation.vantages")[0]) == ["isolation.vantages.bureautique"]
    assert weakened(BASE.replace("[445, 22]", "[22, 445, 139]")) == []
