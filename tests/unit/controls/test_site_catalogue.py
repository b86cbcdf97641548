"""A site's own catalogue and maps: what they change, what is wrong with them, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard import settings
from backupguard.controls import catalogue_of, load_catalogue
from backupguard.controls.catalogue import catalogue_from
from backupguard.controls.compare import catalogue_differences
from backupguard.controls.maps import Confidence
from backupguard.controls.reference import reference
from backupguard.errors import ConfigurationError
from backupguard.model import Criticality
from backupguard.resources import shipped
from backupguard.settings.loading import from_file, write_file

ROOT = Path(__file__).parents[3]
SHIPPED = shipped("controls/care-d4.toml").read_text(encoding="utf-8")
NIS2 = shipped("controls/map-nis2.toml").read_text(encoding="utf-8")
CONFIGURATION = """
[site]
name = "CH"
[store]
directory = "state"
[controls]
directory = "controls"
"""
REFERENCES = ["ANSSI-BP-100", "CIS", "CaRE D2", "ISO 27001", "NIS2", "NIST CSF", "ReCyF"]


def configured(tmp_path: Path, **files: str) -> settings.Settings:
    """Load settings whose directory of controls holds these files ("care_d4", "map_nis2")."""
    (tmp_path / "controls").mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / "controls" / f"{name.replace('_', '-')}.toml").write_text(text, "utf-8")
    main = tmp_path / "backupguard.toml"
    main.write_text(CONFIGURATION, "utf-8")
    return settings.load(main, environ={})


def test_the_page_of_the_documentation_is_current() -> None:
    page = (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert page == reference(load_catalogue()), "run script/reference"


def test_both_names_and_every_reference_with_source_and_confidence() -> None:
    catalogue = load_catalogue()
    assert catalogue.name.fr == "CaRE D4 (plan 2023) / domaine 2 (appel à financement 2025)"
    assert sorted(one.id for one in catalogue.maps) == REFERENCES
    for one in catalogue.maps:
        assert len(one.sha256) == 64
        assert one.note.fr
        assert one.note.en
        for row in one.rows:
            assert row.source
            assert isinstance(row.confidence, Confidence)
    for control in catalogue.entries:
        assert catalogue.references(control), control


def test_what_was_not_read_says_so() -> None:
    catalogue = load_catalogue()
    care = catalogue.map("care d2")
    assert care is not None
    assert not care.verified
    assert all(row.confidence is not Confidence.VERIFIED for row in care.rows)
    assert "non vérifiées" in care.note.fr
    assert "Unverified" in care.note.en
    assert [row.identifier for row in care.rows if row.identifier] == ["D2.01.D"], (
        "nobody read another identifier"
    )
    assert catalogue.map("nowhere") is None


def test_a_control_s_sources_are_clauses_of_the_maps() -> None:
    """What the catalogue quotes of a mapped reference is in its map, with that control."""
    catalogue = load_catalogue()
    starts = {
        "ANSSI R": ("ANSSI-BP-100", "R"),
        "ANSSI §": ("ANSSI-BP-100", "§"),
        "ReCyF ": ("ReCyF", ""),
        "CIS ": ("CIS", ""),
        "NIST CSF ": ("NIST CSF", ""),
        "NIS2 ": ("NIS2", ""),
    }
    for entry in catalogue.entries.values():
        for source in entry.sources:
            for start, (name, letter) in starts.items():
                if not source.startswith(start) or " à " in source:
                    continue
                wanted = letter + source.removeprefix(start).partition(" (v")[0]
                one = catalogue.map(name)
                assert one is not None
                assert wanted in {row.identifier for row in one.of(entry.id)}, (entry.id, source)


def test_nothing_of_the_site_s_own_is_the_shipped_catalogue(tmp_path: Path) -> None:
    assert catalogue_of(configured(tmp_path)) is load_catalogue()


def test_a_file_of_the_site_s_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    shorter = (
        SHIPPED[: SHIPPED.index("[[control]]")] + SHIPPED[SHIPPED.index('[[control]]\nid = "PRV') :]
    )
    text = shorter.replace('all = { value = "35d"', 'all = { value = "20d"')
    own = NIS2.replace('identifier = "2024/2690 4.2.3"', 'identifier = "4.2.3"')
    loaded = configured(
        tmp_path, care_d4=text, map_nis2=own, map_ars=NIS2.replace('"NIS2"', '"ARS"')
    )
    catalogue = catalogue_of(loaded)
    assert catalogue.period("PRV-01", Criticality.C1, "anchor-age") == 20 * 86_400
    assert list(catalogue.entries) == list(load_catalogue().entries), "what it leaves out stays"
    assert catalogue.sha256 != load_catalogue().sha256
    assert [m.id for m in catalogue.maps if m.file in {"map-nis2.toml", "map-ars.toml"}] == [
        "ARS",
        "NIS2",
    ]
    assert "4.2.3" in {row.identifier for _, row in catalogue.references("INT-01")}
    changed = catalogue_differences(load_catalogue(), catalogue)
    assert [(d["path"], d["weakened"]) for d in changed] == [
        *((f"catalogue.PRV-01.anchor-age.{c}", False) for c in ("C1", "C2", "C3")),
        ("catalogue.map-ars.toml", False),
        ("catalogue.map-nis2.toml", False),
    ]
    back = catalogue_differences(catalogue, load_catalogue())
    assert [d["weakened"] for d in back[:3]] == [True, True, True]


def test_what_asks_less_is_a_weakening() -> None:
    text = SHIPPED.replace(
        'C1 = "critical", C2 = "high", C3 = "warning" }',
        'C1 = "high", C2 = "high", C3 = "warning" }',
        1,
    )
    text = text.replace("built = true", "built = false", 1)
    found = catalogue_differences(load_catalogue(), catalogue_from({"care-d4.toml": text}))
    assert [(d["path"], d["before"], d["after"], d["weakened"]) for d in found] == [
        ("catalogue.INV-01.built", "True", "False", True),
        ("catalogue.INV-01.severity.C1", "critical", "high", True),
    ]


def test_runners_are_given_what_was_accepted_whatever_lies_there_now(tmp_path: Path) -> None:
    loaded = configured(tmp_path, care_d4=SHIPPED.replace('value = "35d"', 'value = "34d"'))
    file = write_file(loaded, tmp_path / "kept")
    (tmp_path / "controls" / "care-d4.toml").write_text("nonsense", "utf-8")
    runner = catalogue_of(from_file(file))
    assert runner.sha256 == catalogue_of(loaded).sha256


_ANCHOR, _RATE = "thresholds.anchor-age", "thresholds.success-rate"
_PRV = 'id = "PRV-01"\nscope = "'


def line_of(text: str, what: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if what in line)


@pytest.mark.parametrize(
    ("old", "new", "key", "at"),
    [
        ('all = { value = "35d"', 'all = { value = "3x"', f"PRV-01.{_ANCHOR}", "anchor-age]"),
        ("all = { value = 95,", "all = { value = 195,", f"JOB-01.{_RATE}", "success-rate]"),
        ('id = "PRV-01"', 'id = "PRW-01"', "PRW-01.id", 'id = "PRW-01"'),
        (f"control.{_ANCHOR}", f"control.{_ANCHOR}s", f"PRV-01.{_ANCHOR}s", "anchor-ages]"),
        (f"{_PRV}site", f"{_PRV}job", "PRV-01.scope", 'scope = "job'),
    ],
    ids=["duration", "percent", "control", "threshold", "scope"],
)
def test_an_error_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, key: str, at: str
) -> None:
    text = SHIPPED.replace(old, new)
    assert text != SHIPPED
    loaded = configured(tmp_path, care_d4=text)
    with pytest.raises(ConfigurationError) as caught:
        catalogue_of(loaded)
    problem = caught.value.problems[0]
    assert problem.file == str(tmp_path / "controls" / "care-d4.toml")
    assert problem.key.startswith(key)
    lines = [n for n, line in enumerate(text.splitlines(), 1) if at in line]
    assert problem.line is not None
    assert any(0 <= problem.line - line <= 2 for line in lines), (problem.line, lines)


@pytest.mark.parametrize(
    ("old", "new", "key", "at"),
    [
        ('"INT-01"', '"INT-99"', "2024/2690 4.2.3.controls", 'controls = ["INT-99"]'),
        ('4.2.6"', '4.2.3"', "2024/2690 4.2.3.identifier", ""),
        ('confidence = "quoted"', 'confidence = "sure"', "2022/2555 21(2)(c).confidence", '"sure"'),
        ("source =", "sauce =", "2022/2555 21(2)(c).", ""),
    ],
    ids=["no-control", "twice", "confidence", "key"],
)
def test_an_error_in_a_map_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, key: str, at: str
) -> None:
    text = NIS2.replace(old, new)
    with pytest.raises(ConfigurationError) as caught:
        catalogue_of(configured(tmp_path, map_nis2=text))
    problem = caught.value.problems[0]
    assert problem.file.endswith("controls/map-nis2.toml")
    assert problem.key.startswith(key)
    assert problem.line is not None
    if at:
        assert problem.line == line_of(text, at)


def test_every_file_s_errors_are_told_at_once(tmp_path: Path) -> None:
    loaded = configured(tmp_path, care_d4="a = [", map_nis2="b = [", map_more=NIS2)
    with pytest.raises(ConfigurationError) as caught:
        catalogue_of(loaded)
    files = [Path(problem.file).name for problem in caught.value.problems]
    assert files == ["care-d4.toml", "map-nis2.toml", "map-more.toml"], "two maps of one id"
    assert [problem.line for problem in caught.value.problems[:2]] == [1, 1]


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda d: (d / "care-d5.toml").write_text(""), "settings.controls-name"),
        (lambda d: (d / "care-d4.toml").write_bytes(b"\xff"), "settings.controls-unreadable"),
        (lambda d: (d / "map-x.toml").write_text("#" * 600_000), "settings.controls-too-large"),
        (lambda d: [(d / f"map-{n}.toml").touch() for n in range(70)], "settings.controls-too-many"),
        (lambda d: d.rmdir(), "settings.controls-unreadable"),
    ],
    ids=["name", "bytes", "size", "many", "absent"],
)  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path: Path, prepare: object, sentence: str) -> None:
    configured(tmp_path)
    prepare(tmp_path / "controls")  # type: ignore[operator]
    with pytest.raises(ConfigurationError) as caught:
        settings.load(tmp_path / "backupguard.toml", environ={})
    problem = caught.value.problems[0]
    assert (problem.message.id, problem.key) == (sentence, "controls.directory")
    assert problem.line == 7


def test_texts_are_not_given_in_the_configuration(tmp_path: Path) -> None:
    main = tmp_path / "backupguard.toml"
    main.write_text('[site]\nname = "x"\n[controls]\nfiles = { a = "b" }\n', "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        settings.load(main, environ={})
    assert caught.value.problems[0].message.id == "settings.controls-files"
