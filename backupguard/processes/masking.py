"""Secrets are taken out of everything a program said before anybody reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from backupguard.contracts import Secret

MASK = b"****"
#: Parts of a secret shorter than this are not masked by themselves: they are words, not secrets.
SHORTEST_PART = 6


def _forms(value: bytes) -> set[bytes]:
    """Return the forms in which a secret's value may show up.

    A secret can be a password with a line end, or a file of several (`aws_secret_access_key = …`,
    `host:port:database:user:password`): each line, and what follows its last `=` or `:`, counts.
    """
    stripped = value.strip()
    forms = {value, stripped}
    for line in value.splitlines():
        parts = {line.strip(), *(part.strip() for part in re.split(rb"[=:]", line)[-1:])}
        forms |= {part for part in parts if len(part) >= SHORTEST_PART}
    forms |= {quote(form, safe="").encode() for form in forms if form}
    return {form for form in forms if form}


class Masker:
    """Replaces every form of some secrets by four stars."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        forms: set[bytes] = set()
        for secret in secrets:
            forms |= _forms(secret.reveal())
        ordered = sorted(forms, key=len, reverse=True)  # the longest first: it contains the others
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: bytes) -> bytes:
        """Return `text` without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)
