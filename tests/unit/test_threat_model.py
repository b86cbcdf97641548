"""The threat model names tests that exist, and speaks of every adversary and every letter."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def test_every_test_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+?)(?:::(\w+))?`", PAGE)
    assert len(named) > 40
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8") if path.endswith(".py") else ""
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in text, f"{path}::{test}"


def test_every_letter_of_every_adversary_has_its_row() -> None:
    tables = re.findall(r"^## (\d)\. .*?(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    assert tables == list("12345")
    for number in tables:
        text = PAGE.partition(f"## {number}. ")[2].partition("\n## ")[0]
        rows = [line.split("|") for line in text.splitlines() if re.match(r"\| [STRIDE] \|", line)]
        assert "".join(row[1].strip() for row in rows) == "STRIDE"
        assert all(len(row) == 7 and all(cell.strip() for cell in row[1:-1]) for row in rows), text
