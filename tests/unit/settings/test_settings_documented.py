"""Every configuration in the documentation is one that `config check` accepts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupguard import settings
from backupguard.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("docs/**/*.md"), ROOT / "README.md")
)
#: What stands for something that is nobody's example: a key is shortened on paper.
SHORTENED = {
    "AAAA…": "AAAAC3NzaC1lZDI1NTE5AAAAIEp9Wkz0sVbQwL1tq8b5k2n4Yf7uXo3rT6mJcHdGaE2S",
    'sha256 = "…"': f'sha256 = "{"0" * 64}"',
    "/etc/backupguard/controls": str(ROOT / "config" / "controls"),
    "9a:41:…": ":".join(["9a"] * 32),
    'luks-uuid = "…"': 'luks-uuid = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c645"',
}
TABLE = re.compile(r"^\[\[?[a-z][\w.-]*\]?\]")


def blocks(text: str) -> Iterator[str]:
    """Yield each TOML block: fenced, or indented and beginning with the head of a table."""
    yield from re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for found in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE):
        plain = re.sub(r"^    ", "", found, flags=re.MULTILINE).strip("\n")
        start = next((n for n, line in enumerate(plain.split("\n")) if TABLE.match(line)), None)
        if start is not None:
            yield "\n".join(plain.split("\n")[start:])


def context(found: dict[str, Any]) -> str:
    """Return what a page takes for granted: the site, applications and repositories it names."""
    lines = [] if "site" in found else ['[site]\nname = "CH"']
    repositories: set[str] = set()
    for name, one in found.get("applications", {}).items():
        if "name" not in one:
            lines.append(f'[applications.{name}]\nname = "{name}"\ncriticality = "C2"')
        jobs = one.get("backups", {})
        if not jobs:
            lines.append(
                f'[applications.{name}.backups.taken-for-granted]\nrepository = "elsewhere"\n'
                'select.pattern = "x-%Y%m%d.dump"\nevery = "24h"'
            )
            repositories.add("elsewhere")
        repositories |= {str(job["repository"]) for job in jobs.values()}
    targets = found.get("isolation", {}).get("targets", {}).values()
    repositories |= {name for one in targets for name in one.get("repositories", ())}
    media = {name for one in targets for name in one.get("media", ())}
    lines += [
        f'[repositories.{name}]\ntype = "directory"\npath = "/srv/{name}"'
        for name in sorted(repositories - set(found.get("repositories", ())))
    ]
    lines += [
        f'[media.{name}]\nkind = "vault"' for name in sorted(media - set(found.get("media", ())))
    ]
    return "\n".join(lines) + "\n"


def loaded(text: str, path: Path) -> list[str]:
    for shortened, whole in SHORTENED.items():
        text = text.replace(shortened, whole)
    path.write_text(text + "\n" + context(tomllib.loads(text)), encoding="utf-8")
    try:
        settings.load(path, environ={}, check_secrets=False)
    except ConfigurationError as wrong:
        return [f"{one.key}: {one.message.id} {one.message.values}" for one in wrong.problems]
    return []


def examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        found = list(blocks((ROOT / page).read_text(encoding="utf-8")))
        for number, text in enumerate(found):
            yield f"{page}-{number}", text


EXAMPLES = dict(examples())


def test_the_search_itself_works() -> None:
    pages = {name.rpartition("-")[0] for name in EXAMPLES}
    assert {"docs/offline.md", "docs/isolation.md", "docs/statements.md"} <= pages
    assert len(EXAMPLES) > 20


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_can_be_used_as_it_stands(name: str, tmp_path: Path) -> None:
    assert loaded(EXAMPLES[name], tmp_path / "backupguard.toml") == []
