"""What a case of the corpus is: one way in which a backup is broken, and its clean twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupguard.model import Verdict
from tests.integration.repositories.borg_maker import Borg
from tests.integration.repositories.restic_maker import Restic
from tests.sabotage.corpus.sources import Sources

#: What a job saved: a file or tree as the site's own script left it, or a repository around one.
Material = Path | Restic | Borg
#: Makes it in a new empty directory.
Maker = Callable[[Sources, Path], Material]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One defect. Without `make` it looks broken and is fine: only its twin is judged.

    `speaks`: who must say what, as "check:code" or "phase:code"; any of them will do. `words`: a part
    of the French sentence that a reader then sees. `says`: the verdict of the test; a warning leaves it
    `passed`. `before`: the copy whose shape is known, and `knows` whether a person accepted that shape
    ("accepted"), the last test saw it ("last") or nobody knows any ("nothing"). `may`: what the twin
    may say without a false alarm, because it is true of it too.
    """

    name: str
    engine: str
    story: str
    twin: Maker
    make: Maker | None = None
    before: Maker | None = None
    speaks: frozenset[str] = frozenset()
    words: str = ""
    says: Verdict = Verdict.FAILED
    knows: str = "accepted"
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    may: frozenset[str] = frozenset()
    heavy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What cases of one engine have in common: the copies of yesterday and of today."""

    engine: str
    before: Maker
    twin: Maker
    settings: Mapping[str, Any] = field(default_factory=dict)

    def case(self, name: str, story: str, make: Maker | None, **more: Any) -> Case:
        """Return a case of this family; `speaks` is written as words apart."""
        given: dict[str, Any] = {"twin": self.twin, "before": self.before, **more}
        settings = {**self.settings, **given.pop("settings", {})}
        speaks = frozenset(str(given.pop("speaks", "")).split())
        may = frozenset(str(given.pop("may", "")).split())
        return Case(
            name=f"{self.engine}/{name}",
            engine=given.pop("restored_by", self.engine),
            story=story,
            make=make,
            speaks=speaks,
            may=may,
            settings=settings,
            **given,
        )


def flipped(path: Path, at: float | bytes, bit: int = 1) -> Path:
    """Flip one bit of a file, at a share of its length or where some bytes are first found."""
    content = bytearray(path.read_bytes())
    place = content.index(at) if isinstance(at, bytes) else int(len(content) * at)
    content[place] ^= bit
    path.write_bytes(content)
    return path


def cut(path: Path, keep: float | bytes | int) -> Path:
    """Cut a file: keep a share of it, all before some bytes, or all but so many last bytes."""
    content = path.read_bytes()
    if isinstance(keep, bytes):
        end = content.index(keep)
    elif isinstance(keep, int):
        end = len(content) - keep
    else:
        end = int(len(content) * keep)
    path.write_bytes(content[:end])
    return path


def replaced(path: Path, *pairs: tuple[str | bytes, str | bytes], count: int = -1) -> Path:
    """Replace texts in a file; each must be there."""
    content = path.read_bytes()
    for old, new in pairs:
        old_bytes = old.encode() if isinstance(old, str) else old
        assert old_bytes in content, old
        content = content.replace(old_bytes, new.encode() if isinstance(new, str) else new, count)
    path.write_bytes(content)
    return path
