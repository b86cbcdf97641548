"""Every link of the documentation leads somewhere, and every page is reached from the index.

Links to other sites are not followed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("config/**/*.md"))
    if path.name != "CHANGELOG.md"
)
#: Blocks and words of code, in which brackets mean something else.
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"`[^`\n]+`")
_INDENTED = re.compile(r"^ {4}.*$", re.MULTILINE)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of a page's links; a link whose own words are code is one."""
    plain = _INDENTED.sub("", _BLOCK.sub("", text))
    return _LINK.findall(_WORD.sub("code", plain))


def anchors(text: str) -> set[str]:
    """The names that a page's headings have on a forge, and those it gives itself."""
    found: dict[str, int] = {}
    names = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in _HEADING.findall(_BLOCK.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(slug if count == 0 else f"{slug}-{count}")
    return names


def wrong(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(text):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists():
            found.append(link)
        elif anchor and target.suffix == ".md":
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                found.append(link)
    return found


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert wrong(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[a](links.md)", ["links.md"]),
        ("# Où l'on va\n[a](#où-lon-va) [b](#nowhere)", ["#nowhere"]),
        ("# Same\n# Same\n[a](#same-1) [b](#same-2)", ["#same-2"]),
        ("[a](https://nowhere.example/x#y) `[b](nowhere.md)`\n\n    [c](nowhere.md)\n", []),
        ("![a](nowhere.png)", ["nowhere.png"]),
    ],
    ids=["file", "anchor", "twice", "not links", "picture"],
)
def test_a_link_that_leads_nowhere_is_found(text: str, lost: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert wrong(page, text) == lost


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs/README.md").resolve()
    seen, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in seen:
                seen.add(target)
                waiting.append(target)
    pages = {path.resolve() for path in ROOT.glob("docs/**/*.md")}
    assert sorted(str(path.relative_to(ROOT)) for path in pages - seen) == []
