"""Trees of files, as ransomware, crashes and half-made copies leave them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from backupguard.model import Verdict
from tests.sabotage.corpus.case import Family, Maker
from tests.sabotage.corpus.sources import AT, NEWEST, Sources, noise

CANARY = b"a file that nobody changes\n"
CHECKS = {
    "canary": {"name": "canari", "files": "canari.bin",
               "sha256": hashlib.sha256(CANARY).hexdigest()},
    "recent": {"name": "messages", "files": "hl7/*", "newer-than": "26h"},
}  # fmt: skip
_KINDS = {
    "courriers/{n}.pdf": b"%PDF-1.4\n" + b"lettre de sortie " * 90,
    "images/{n}.dcm": bytes(128) + b"DICM" + b"pixels " * 300,
    "hl7/{n}.hl7": b"MSH|^~\\&|LABO|CH|DPI|CH|2026||ORU^R01\r",
    "cda/{n}.xml": b"<?xml version='1.0'?><ClinicalDocument/>",
    "notes/{n}.txt": "compte rendu opératoire ".encode() * 80,
}
PER_KIND = 40


def tree(into: Path, newest: int = 0) -> Path:
    """Fill a directory with files of each kind; `newest` are added to each, a day's work."""
    moment = NEWEST.timestamp()
    for pattern, content in _KINDS.items():
        for n in range(PER_KIND + newest):
            path = into / pattern.format(n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (moment - 60 * n,) * 2)
    (into / "canari.bin").write_bytes(CANARY)
    return into


def yesterday(sources: Sources, into: Path) -> Path:
    return tree(into / "ged")


def today(sources: Sources, into: Path) -> Path:
    return tree(into / "ged", newest=2)


def after(change: Callable[[Path], object], to: str = "**/*", share: int = 1) -> Maker:
    """Today's tree, each file of a pattern changed (or one of so many)."""

    def make(sources: Sources, into: Path) -> Path:
        root = tree(into / "ged", newest=2)
        for n, path in enumerate(sorted(path for path in root.glob(to) if path.is_file())):
            if n % share == 0:
                change(path)
        return root

    return make


def whole(change: Callable[[Path], object]) -> Maker:
    """Today's tree, changed as a whole."""

    def make(sources: Sources, into: Path) -> Path:
        root = tree(into / "ged", newest=2)
        change(root)
        return root

    return make


def _encrypt(path: Path) -> None:
    at = path.stat().st_mtime
    path.write_bytes(noise(max(2048, path.stat().st_size), seed=len(path.name)))
    os.utime(path, (at, at))


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _rename(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.akira"))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def _old(root: Path) -> None:
    moment = (AT - timedelta(days=60)).timestamp()
    for path in root.rglob("*"):
        os.utime(path, (moment, moment))


def _escape(root: Path) -> None:
    """Every image became a link to a file of the host."""
    for path in (root / "images").iterdir():
        path.unlink()
        path.symlink_to("/etc/hostname")


def _link_away(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()
    (root / "images").rmdir()
    (root / "images").symlink_to("/srv/pacs")


def _hard_links(root: Path) -> None:
    for n in range(20):
        os.link(root / "courriers" / f"{n}.pdf", root / "courriers" / f"copie-{n}.pdf")


def _sparse(root: Path) -> None:
    path = root / "images" / "volume.dcm"
    path.write_bytes(bytes(128) + b"DICM")
    os.truncate(path, 300_000_000)


def _awkward(root: Path) -> None:
    for name in ("résumé 😀 𠮷.pdf", os.fsdecode(b"r\xe9sum\xe9.pdf"), "a\nb.pdf", "-rf *.pdf"):
        (root / "courriers" / name).write_bytes(_KINDS["courriers/{n}.pdf"])
    (root / "loin").symlink_to("../../../../etc/passwd")


def _one_byte(path: Path) -> None:
    path.write_bytes(CANARY.replace(b"nobody", b"nobodi"))


def _listed(root: Path) -> None:
    """The site's own job lists the digests of what it saves."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    (root / "SHA256SUMS").write_text("".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
    ))  # fmt: skip


def _altered(root: Path) -> None:
    """Somebody changed a letter, of the same length, and put its time back."""
    _listed(root)
    path = root / "notes" / "7.txt"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content.replace(b"compte", b"conte ", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _one_left_out(root: Path) -> None:
    _listed(root)
    (root / "notes" / "7.txt").unlink()


_MANIFEST = {"manifests": ["SHA256SUMS"]}
_FAMILY = Family(engine="files", before=yesterday, twin=today)
case = _FAMILY.case

CASES = [
    case("encrypted-names-kept", "ransomware that changes contents only", after(_encrypt),
         speaks="file-heads:files_encrypted file-contents:files_encrypted", words="chiffrés"),
    case("encrypted-nobody-knows", "the same, on the first test", after(_encrypt),
         knows="nothing", speaks="file-heads:files_encrypted", words="chiffrés"),
    case("encrypted-in-part", "one document of five: it was stopped, or has just begun",
         after(_encrypt, "courriers/*", share=3), says=Verdict.PASSED,
         speaks="file-heads:warning_files_encrypted", words="chiffrés"),
    case("texts-encrypted", "files without a beginning of their own", after(_encrypt, "notes/*"),
         speaks="file-contents:files_encrypted", words="chiffrés"),
    case("renamed", "each file has a new extension", after(_rename),
         speaks="extensions:files_renamed", words="extension"),
    case("renamed-in-part", "one folder of five has it", after(_rename, "notes/*"),
         speaks="tables-lost:tables_lost extensions:files_renamed"),
    case("ransom-note", "a demand lies in one folder",
         whole(lambda r: (r / "hl7" / "HOW_TO_DECRYPT_FILES.txt").write_text("pay")),
         says=Verdict.PASSED, speaks="ransom-notes:warning_ransom_notes", words="rançon"),
    case("emptied", "every file has length 0", after(lambda p: p.write_bytes(b"")),
         speaks="empty-files:files_empty prepare:empty open:empty", words="vide"),
    case("zeroes", "right lengths, nothing but zeroes: a volume that came back after a crash",
         after(_zero), speaks="file-heads:files_encrypted", words="écrasés"),
    case("error-pages", "images fetched through a portal that answered with a page",
         after(lambda p: p.write_bytes(b"<html>502 Bad Gateway</html>"), "images/*"),
         speaks="file-heads:files_encrypted file-heads:warning_files_encrypted", words="type",
         says=Verdict.PASSED),
    case("a-kind-lost", "no image was saved", whole(lambda r: _remove((r / "images").iterdir())),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("most-of-a-kind-lost", "a filter on size that was too low",
         whole(lambda r: _remove(sorted((r / "images").iterdir())[:30])),
         speaks="rows-lost:rows_lost", words="moitié"),
    case("canary-changed", "one byte of the file that nobody changes",
         after(_one_byte, "canari.bin"), settings={"checks": [CHECKS["canary"]]},
         speaks="canari:check_failed", words="exige"),
    case("canary-gone", "it was excluded", after(Path.unlink, "canari.bin"),
         settings={"checks": [CHECKS["canary"]]},
         speaks="canari:check_no_answer canari:check_failed tables-lost:tables_lost"),
    case("altered-in-silence", "one letter was rewritten, of the same length and time",
         whole(_altered), twin=whole(_listed), settings=_MANIFEST,
         speaks="site-manifest:manifest_differs", words="manifeste"),
    case("one-file-left-out", "one letter was excluded by its name", whole(_one_left_out),
         twin=whole(_listed), settings=_MANIFEST, speaks="site-manifest:manifest_differs",
         words="manifeste"),
    case("stale-by-a-check", "no message for two months", whole(_old),
         settings={"checks": [CHECKS["recent"]]}, speaks="messages:stale_data", words="anciennes"),
    case("stale", "the same, without a check", whole(_old), says=Verdict.PASSED,
         speaks="freshness:warning_stale_data", words="anciennes"),
    case("links-instead-of-files", "each image became a link to a file of the host", whole(_escape),
         speaks="tables-lost:tables_lost", words="manquent"),
    case("ok-hard-links-and-a-sparse-file", "the same file under two names; 300 MB of nothing", None,
         twin=whole(lambda r: (_hard_links(r), _sparse(r)))),
    case("ok-awkward-names", "letters of four bytes, no UTF-8, a link out of the tree", None,
         twin=whole(_awkward)),
]  # fmt: skip
