from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backupguard.errors import UsageError
from backupguard.evidence.kinds import KINDS, check_payload
from backupguard.reports import issue, issue_report

from .records import at, full_month, settings


def test_files_are_written_and_their_hashes_are_facts(tmp_path: Path) -> None:
    done = issue_report(
        full_month(),  # type: ignore[arg-type]
        settings(dpi="C1", labo="C1"),
        "2026-11",
        ("fr", "en"),
        ("html", "json"),
        tmp_path / "reports",
        at(31.2),
    )
    assert [one.path.name for one in done] == [
        "backupguard-2026-11-fr.html",
        "backupguard-2026-11-fr.json",
        "backupguard-2026-11-en.html",
        "backupguard-2026-11-en.json",
    ]
    for one in done:
        check_payload("report.issued", KINDS["report.issued"].version, one.observation.data)
        content = one.path.read_bytes()
        assert one.observation.data["sha256"] == hashlib.sha256(content).hexdigest()
        assert one.observation.data["bytes"] == len(content)
        assert one.path.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == sorted(
        one.path.name for one in done
    )


def test_the_same_month_again_is_the_same_event_and_a_later_one_another(tmp_path: Path) -> None:
    records, chosen = full_month(), settings(dpi="C1")
    arguments = (records, chosen, "2026-11", ("fr",), ("html",), tmp_path)
    first = issue(*arguments, at(31.2))  # type: ignore[arg-type]
    assert first == issue(*arguments, at(31.2))  # type: ignore[arg-type]
    assert first[0].key != issue(*arguments, at(31.3))[0].key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("languages", "formats", "said"),
    [
        (("de",), ("html",), "report.bad_language"),
        (("fr",), ("odt",), "report.bad_format"),
    ],
)
def test_what_is_not_offered_is_refused_with_words(
    tmp_path: Path, languages: tuple[str, ...], formats: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError) as raised:
        issue(
            full_month(),  # type: ignore[arg-type]
            settings(dpi="C1"),
            "2026-11",
            languages,
            formats,
            tmp_path,
            at(31.2),
        )
    assert raised.value.message.id == said
    assert list(tmp_path.iterdir()) == []
