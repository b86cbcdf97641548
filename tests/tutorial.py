"""The tutorial as a program: its shell blocks in order, and what it says they print.

In the Markdown a block of `sh` is run as it stands. A comment before it says what is special:
`<!-- machine -->`: it installs, starts or ends something, and is run on a whole machine only;
`<!-- exit 1 -->`: it ends with that status. A block of `text` behind it is what it prints: each of
its lines must be there, in that order, and `…` stands for whatever differs from run to run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    "en": ROOT / "docs/tutorial/first-restore-test.md",
    "fr": ROOT / "docs/tutorial/first-restore-test.fr.md",
}
_FENCE = re.compile(
    r"(?:^<!-- (?P<marks>[^\n]*) -->\n)?^```(?P<kind>sh|text)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of shell: what it runs, how it ends, what it prints."""

    number: int
    script: str
    machine: bool
    exit: int
    prints: str

    def missing(self, printed: str) -> str | None:
        """Return the first line that the tutorial shows and this output does not have."""
        rest = [" ".join(line.split()) for line in printed.splitlines()]
        for shown in filter(None, (" ".join(line.split()) for line in self.prints.splitlines())):
            pattern = re.compile(re.escape(shown).replace("…", ".*"))
            found = next((n for n, line in enumerate(rest) if pattern.fullmatch(line)), None)
            if found is None:
                return shown
            rest = rest[found + 1 :]
        return None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page of the tutorial, in order."""
    found: list[Block] = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        marks = [mark.strip() for mark in (fence["marks"] or "").split(",")]
        if fence["kind"] == "sh":
            code = next((int(m.split()[1]) for m in marks if m.startswith("exit ")), 0)
            found.append(
                Block(
                    number=len(found) + 1,
                    script=fence["text"],
                    machine="machine" in marks,
                    exit=code,
                    prints="",
                )
            )
        else:
            last = found[-1]
            assert not last.prints, f"two outputs behind block {last.number} of {page.name}"
            found[-1] = Block(
                number=last.number,
                script=last.script,
                machine=last.machine,
                exit=last.exit,
                prints=fence["text"],
            )
    return found
