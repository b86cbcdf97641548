"""What somebody asks for: a page, in which language, with which choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from backupguard.language import LANGUAGES

#: What is read of a choice; nothing that can be chosen is longer.
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a page. `chosen` tells whether its address names the language."""

    path: str
    language: str
    chosen: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)  # of the path, by name

    def choice(self, name: str) -> str:
        """Return what the address says of a choice, "" for nothing."""
        return self.query.get(name, "").strip()[:_LONGEST]

    def number(self, name: str) -> int | None:
        """Return a choice that is a whole number, at most eighteen digits; None otherwise."""
        text = self.choice(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    def link(self, path: str, /, **choices: str | int | None) -> str:
        """Return the address of another page, in the language that was chosen for this one."""
        given = {name: str(value) for name, value in choices.items() if value not in (None, "")}
        if self.chosen:
            given.setdefault("lang", self.language)
        return quote(path, safe="/") + (f"?{urlencode(given)}" if given else "")

    def same(self, /, **choices: str | int | None) -> str:
        """Return the address of this page with other choices."""
        kept = {name: value[:_LONGEST] for name, value in self.query.items() if name != "lang"}
        return self.link(self.path, **{**kept, **choices})


def asked(
    path: str,
    query: Mapping[str, str],
    accepted: str,
    default: str,
    parts: Mapping[str, str] | None = None,
) -> Asked:
    """Return what is asked for: the language is the address's, else the browser's, else the site's.

    `accepted` is the header `Accept-Language` (RFC 9110, 12.5.4).
    """
    wanted = query.get("lang", "")
    chosen = wanted in LANGUAGES
    return Asked(
        path=path,
        language=wanted if chosen else _accepted(accepted, default),
        chosen=chosen,
        query=dict(query),
        parts=dict(parts or {}),
    )


def _accepted(header: str, default: str) -> str:
    """Return the language that a browser prefers of those there are; `default` where it is no help."""
    best, found = 0.0, default
    for part in header[:1000].split(","):
        tag, _, rest = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        try:
            weight = float(rest.partition("=")[2]) if "=" in rest else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and best < weight <= 1.0:
            best, found = weight, language
    return found
