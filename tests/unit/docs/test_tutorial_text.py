"""The tutorial says the same in both languages, and its comparison of outputs sees a difference."""

from __future__ import annotations

import pytest

from tests.tutorial import PAGES, Block, blocks


def in_english(script: str) -> str:
    """The one thing that a French reader types otherwise: the language of the site."""
    return script.replace('language = "fr"', 'language = "en"')


def test_both_languages_have_the_same_blocks() -> None:
    english, french = blocks(PAGES["en"]), blocks(PAGES["fr"])
    assert len(english) > 12
    assert [in_english(one.script) for one in french] == [one.script for one in english]
    for mine, yours in zip(english, french, strict=True):
        assert (mine.machine, mine.exit) == (yours.machine, yours.exit), mine.script
        assert bool(mine.prints) == bool(yours.prints), mine.script


def test_a_tutorial_that_shows_nothing_would_be_noticed() -> None:
    shown = [one for one in blocks(PAGES["en"]) if one.prints]
    assert len(shown) >= 6
    assert {one.exit for one in blocks(PAGES["en"])} >= {0, 1}


@pytest.mark.parametrize(
    ("printed", "missing"),
    [
        ("first\nsecond   3 s\n", None),
        ("noise\nfirst\nmore\nsecond 12.4 s\n", None),
        ("second 3 s\nfirst\n", "second … s"),
        ("first\n", "second … s"),
        ("first!\nsecond 3 s\n", "first"),
    ],
    ids=["as shown", "with more", "in another order", "cut short", "other words"],
)
def test_what_is_printed_is_compared_line_by_line(printed: str, missing: str | None) -> None:
    block = Block(number=1, script="", machine=False, exit=0, prints="first\n\nsecond … s\n")
    assert block.missing(printed) == missing
