"""French pages have the no-break spaces and apostrophes that the rest of the product has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
#: Pages, and where their French part ends.
PAGES = {
    "tutorial/first-restore-test.fr.md": None,
    "care/README.fr.md": None,
    "rssi/README.md": "\n---\n",
}
_CODE = re.compile(r"^```.*?^```$|^ {4}[^\n]*$|`[^`\n]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
_WRONG = re.compile(r"\S [:;?!](?=\s|$)|« | »|\w'\w", re.MULTILINE)


def mistakes(text: str) -> list[str]:
    return [
        text[max(0, f.start() - 15) : f.end() + 5] for f in _WRONG.finditer(_CODE.sub("_", text))
    ]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_french_page_is_set_as_french(name: str) -> None:
    end = PAGES[name]
    text = (DOCS / name).read_text(encoding="utf-8")
    assert mistakes(text.split(end)[0] if end else text) == []


def test_a_mistake_is_found() -> None:
    text = "Voici : « oui » et l'autre ; `a : b`\n\n    c'est du code : non\n\nfin ?"
    assert len(mistakes(text)) == 6
    assert mistakes("Voici\u00a0: «\u00a0oui\u00a0» et l’autre.") == []
