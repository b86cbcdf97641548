"""Runbooks are Markdown; a page shows them by the library that reads CommonMark, without raw HTML."""

from __future__ import annotations

import itertools
from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup


@cache
def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False})


def rendered(text: str) -> Markup:
    """Return the text as HTML; what looks like HTML in it is shown as it is written."""
    return Markup(_reader().render(text))  # noqa: S704 - the reader escapes everything else


def first_paragraph(text: str) -> str:
    """Return the first paragraph of a text, without its marks."""
    tokens = _reader().parse(text)
    for before, token in itertools.pairwise(tokens):
        if before.type == "paragraph_open" and token.type == "inline":
            return "".join(
                child.content or (" " if child.type == "softbreak" else "")
                for child in token.children or ()
            )
    return ""
