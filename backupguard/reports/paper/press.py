"""Has documents put on paper by a process of its own: its memory, its time and its end are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from backupguard.contracts import Cancel, Completed
from backupguard.errors import MissingMeans, Misunderstood
from backupguard.model import Message
from backupguard.processes.children import run_module
from backupguard.typesetting.sheet import (
    DONE,
    FONT_MISSING,
    LIBRARY_MISSING,
    NO_MEMORY,
    Sheet,
    write_sheets,
)

#: Where the fonts are that go into every document, and the Debian package that brings them.
FONTS = Path("/usr/share/fonts/truetype/dejavu")
FONT_FILES = tuple(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "Mono", "Mono-Bold"))
FONT_PACKAGE = "fonts-dejavu-core"
#: What WeasyPrint loads beside Python: Pango, and what takes out of a font what a document needs.
LIBRARY_PACKAGES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"

#: Seconds that all documents of a report may take; half an hour for what takes minutes.
LIMIT_S = 1800.0


def press(
    sheets: Sequence[Sheet],
    work: Path,
    *,
    limit_s: float = LIMIT_S,
    cancel: Cancel | None = None,
) -> None:
    """Make every document; `work` is a directory for what is needed meanwhile.

    Raises MissingMeans (program_missing with the Debian package to install, no_memory), TimedOut
    (phase_limit), what `cancel` raises, and Misunderstood (unknown_exit) for any other end.
    """
    if not sheets:
        return
    job = work / "sheets.json"
    write_sheets(sheets, job)
    environment = {
        "LANG": "C.UTF-8",
        "HOME": str(work),
        "TMPDIR": str(work),
        "PATH": "/usr/bin:/bin",
        "PYTHONHASHSEED": "0",  # names of fonts inside a document come from hashes
        "FONTCONFIG_FILE": str(_only_our_fonts(work)),
    }
    ended = run_module(
        "backupguard.typesetting.child",
        [job],
        environment=environment,
        timeout_s=limit_s,
        cancel=cancel,
    )
    if ended.returncode != DONE:
        raise _refusal(ended)


def _only_our_fonts(work: Path) -> Path:
    """Write a configuration that knows four fonts: what others a host has must not matter."""
    directory = work / "fonts"
    directory.mkdir(exist_ok=True)
    for name in FONT_FILES:
        file = FONTS / name
        if not file.is_file():
            raise _package_missing(FONT_PACKAGE, str(file))
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(file)
    path = work / "fonts.conf"
    path.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{escape(str(directory))}</dir><cachedir>{escape(str(work / 'cache'))}</cachedir>"
        "</fontconfig>",
        encoding="utf-8",
    )
    return path


def _package_missing(package: str, missing: str) -> MissingMeans:
    return MissingMeans(
        "program_missing",
        Message(id="paper.library_missing", values={"missing": missing, "package": package}),
        Message(id="remedy.install_package", values={"package": package}),
    )


def _refusal(ended: Completed) -> Exception:
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or [""]
    if ended.returncode == LIBRARY_MISSING:
        return _package_missing(LIBRARY_PACKAGES, lines[-1][:200])
    if ended.returncode == FONT_MISSING:
        return _package_missing(FONT_PACKAGE, lines[-1][:200])
    if ended.returncode in (NO_MEMORY, -9):
        return MissingMeans("no_memory", Message(id="paper.no_memory"))
    values: dict[str, int | str] = {"status": ended.returncode, "said": lines[-1][:300]}
    return Misunderstood("unknown_exit", Message(id="paper.failed", values=values))
