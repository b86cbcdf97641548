"""The process that makes paper: `python -m backupguard.typesetting.child SHEETS`.

WeasyPrint and Pango are loaded here and nowhere else. Nothing is fetched: a document brings what it
needs inside it, and whatever else its words seem to ask for is refused.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from backupguard.typesetting.sheet import (
    DONE,
    FONT_MISSING,
    LIBRARY_MISSING,
    NO_MEMORY,
    SIGNATURE_FIELD,
    SIGNATURE_PLACE,
    Sheet,
    read_sheets,
)

#: Address space of this process: a document of a thousand pages takes less.
_MEMORY = 6 << 30
_PR_SET_PDEATHSIG = 1
#: What stands for a character that no font of ours has.
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_STYLE = Path(__file__).with_name("paper.css")


def quoted(text: str) -> str:
    """Return a text as a string of CSS, whatever is in it."""
    return '"' + "".join(c if c.isalnum() else f"\\{ord(c):06x}" for c in text) + '"'


def style_of(sheet: Sheet) -> str:
    """Return the style sheet of a document: ours, and what runs along its pages."""
    before, number, after = sheet.page.partition("{page}")
    between, total, rest = after.partition("{pages}")
    parts = [quoted(before)]
    parts += ["counter(page)", quoted(between)] if number else []
    parts += ["counter(pages)", quoted(rest)] if total else []
    return (
        f"{_STYLE.read_text(encoding='utf-8')}\n@page {{ @top-left {{ content: {quoted(sheet.left)} }}"
        f" @top-right {{ content: {quoted(sheet.right)} }}"
        f" @bottom-right {{ content: {' '.join(parts)} }} }}\n"
    )


def prepared(html: str, sheet: Sheet, known: frozenset[int]) -> str:
    """Return a document's HTML with our style sheet last and only characters that can be printed."""
    created = escape(sheet.created)
    head = (
        f'<meta name="dcterms.created" content="{created}">'
        f'<meta name="dcterms.modified" content="{created}">'
        f'<meta name="description" content="{escape(sheet.description)}">'
        '<meta name="author" content="BackupGuard">'
        f"<style>{style_of(sheet)}</style></head>"
    )
    whole = html.replace("</head>", head, 1)
    strange = {ord(c): _UNKNOWN for c in set(whole) if ord(c) >= 0x20 and ord(c) not in known}
    return whole.translate(strange) if strange else whole


def characters(directory: Path) -> frozenset[int]:
    """Return the code points that the fonts for running text have."""
    from fontTools.ttLib import TTFont

    found = [
        frozenset(TTFont(directory / name, lazy=True).getBestCmap())
        for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
    ]
    return found[0] & found[1]


def _signature_field(document: Any, pdf: Any) -> None:
    """Lay an empty signature field over its place: the last page's foot where there is none."""
    import pydyf

    number, box = _place(document)
    page_height = document.pages[number].height * 0.75
    left, top, right, bottom = (side * 0.75 for side in box)
    page = next(one for one in pdf.objects if one.number == pdf.pages["Kids"][3 * number])
    reference = page.reference
    appearance = pydyf.Stream(
        [],
        {
            "Type": "/XObject",
            "Subtype": "/Form",
            "BBox": pydyf.Array([0, 0, round(right - left, 2), round(bottom - top, 2)]),
            "Resources": pydyf.Dictionary(),
        },
    )
    pdf.add_object(appearance)
    rectangle = [left, page_height - bottom, right, page_height - top]
    field = pydyf.Dictionary(
        {
            "Type": "/Annot",
            "Subtype": "/Widget",
            "FT": "/Sig",
            "T": pydyf.String(SIGNATURE_FIELD),
            "TU": pydyf.String("Signature"),
            "Rect": pydyf.Array([round(side, 2) for side in rectangle]),
            "F": 4,
            "P": reference,
            "AP": pydyf.Dictionary({"N": appearance.reference}),
        }
    )
    pdf.add_object(field)
    page.setdefault("Annots", pydyf.Array()).append(field.reference)
    pdf.catalog["AcroForm"] = pydyf.Dictionary({"Fields": pydyf.Array([field.reference])})
    _tag(pdf, field, page)


def _tag(pdf: Any, field: Any, page: Any) -> None:
    """Put the field into the tree of tags, as PDF/A-3a asks of every annotation that is a field."""
    import pydyf

    objects = {one.reference: one for one in pdf.objects}
    root = objects[pdf.catalog["StructTreeRoot"]]
    document = objects[root["K"][0]]
    numbers = objects[root["ParentTree"]]["Nums"]
    key = max(numbers[::2], default=-1) + 1
    element = pydyf.Dictionary(
        {
            "Type": "/StructElem",
            "S": "/Form",
            "P": document.reference,
            "Pg": page.reference,
            "Alt": pydyf.String("Signature"),
            "K": pydyf.Array(
                [pydyf.Dictionary({"Type": "/OBJR", "Obj": field.reference, "Pg": page.reference})]
            ),
        }
    )
    pdf.add_object(element)
    document["K"].append(element.reference)
    field["StructParent"] = key
    numbers.extend([key, element.reference])


def _place(document: Any) -> tuple[int, tuple[float, float, float, float]]:
    for number, page in enumerate(document.pages):
        if SIGNATURE_PLACE in page.anchors:
            return number, page.anchors[SIGNATURE_PLACE]
    last = document.pages[-1]
    return len(document.pages) - 1, (60.0, last.height - 130.0, 300.0, last.height - 70.0)


def _finisher(sheet: Sheet) -> Callable[[Any, Any], None]:
    def finish(document: Any, pdf: Any) -> None:
        named = pdf.catalog.get("AF")
        if named is not None:  # WeasyPrint 70 names every attachment twice
            pdf.catalog["AF"][:] = list(dict.fromkeys(named))
        if sheet.signable:
            _signature_field(document, pdf)

    return finish


def render(sheet: Sheet, known: frozenset[int]) -> None:
    """Make one document, whole or not at all."""
    import weasyprint

    html = Path(sheet.html).read_text(encoding="utf-8")
    created = datetime.fromisoformat(sheet.created)
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    attachments = [
        weasyprint.Attachment(
            file_obj=Path(file.path).open("rb"),  # noqa: SIM115 - read and closed by WeasyPrint
            name=file.name,
            description=file.description,
            created=created,
            modified=created,
            relationship=file.relationship,
            url_fetcher=fetcher,
        )
        for file in sheet.attached
    ]
    weasyprint.HTML(string=prepared(html, sheet, known), url_fetcher=fetcher).write_pdf(
        sheet.pdf,
        finisher=_finisher(sheet),
        pdf_variant="pdf/a-3a",
        attachments=attachments,
    )


def main(arguments: list[str]) -> int:
    """Make every document of a file of `sheet.write_sheets`; return the exit status."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return LIBRARY_MISSING
    try:
        known = characters(Path(os.environ["FONTCONFIG_FILE"]).parent / "fonts")
    except OSError as error:
        print(error, file=sys.stderr)
        return FONT_MISSING
    try:
        for sheet in read_sheets(Path(arguments[0])):
            render(sheet, known)
    except MemoryError:
        return NO_MEMORY
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
