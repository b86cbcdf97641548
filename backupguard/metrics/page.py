"""The text format 0.0.4: escaped labels, exact numbers, a family only where it has samples."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from backupguard.metrics.families import BY_NAME, SITE

#: Values of a family's labels, in the order of the table, and a value as text.
Sample = tuple[tuple[str, ...], str]


def escaped(value: str) -> str:
    """Return a label value as it stands between its quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@lru_cache(maxsize=65_536)
def _labels(names: tuple[str, ...], site: str, values: tuple[str, ...]) -> str:
    pairs = zip((SITE, *names), (site, *values), strict=True)
    return ",".join(f'{name}="{escaped(value)}"' for name, value in pairs)


def timestamp(microseconds: int | None) -> str:
    """Return a time in seconds since 1970, to the microsecond; 0 for never."""
    whole, rest = divmod(microseconds or 0, 1_000_000)
    return f"{whole}.{rest:06d}" if rest else str(whole)


def seconds(milliseconds: int) -> str:
    """Return a duration in seconds."""
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


class Page:
    """Collects the families of one site; label strings are made once and kept."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._parts: list[str] = []

    def add(self, name: str, samples: Iterable[Sample]) -> None:
        """Add a family of the table; raises KeyError for any other, ValueError for other labels."""
        family = BY_NAME[name]
        full, names, site = family.full, family.labels, self._site
        lines = [f"{full}{{{_labels(names, site, values)}}} {value}\n" for values, value in samples]
        if lines:
            self._parts.append(f"# HELP {full} {family.text}\n# TYPE {full} {family.kind}\n")
            self._parts.extend(lines)

    def one(self, name: str, value: str, *labels: str) -> None:
        """Add a family of one sample."""
        self.add(name, [(labels, value)])

    def encoded(self) -> bytes:
        """Return the text so far."""
        return "".join(self._parts).encode()
