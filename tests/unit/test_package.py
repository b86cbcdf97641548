"""What the package holds beside the program, and what it asks for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A link of Markdown to a file, without what stands before it or its place within the page.
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package") / "doc"
    subprocess.run([ROOT / "packaging/documents", directory], check=True)
    return directory


def test_every_link_leads_somewhere(documents: Path) -> None:
    links = [
        (page, link)
        for page in documents.rglob("*.md")
        for link in LINK.findall(page.read_text())
        if "://" not in link
    ]
    assert len(links) > 100
    assert [(str(page), link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_first_page_is_the_index(documents: Path) -> None:
    assert (documents / "README.md").read_text().startswith("# Documentation")
    assert (documents / "examples/backupguard.toml").exists()


@pytest.mark.parametrize("program", ["bubblewrap", "openssl"])
def test_the_package_brings_what_is_called(program: str) -> None:
    control = (ROOT / "packaging/debian/control").read_text()
    depends = re.search("^Depends: (.*)$", control, re.MULTILINE)
    assert depends is not None
    assert program in re.split(r"[ ,]+", depends[1])
