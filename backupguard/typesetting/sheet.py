"""What is to be put on paper, as data that crosses to the process that does it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

#: The name of the field that a signature goes into.
SIGNATURE_FIELD = "Signature"
#: The id of the element over which that field is laid.
SIGNATURE_PLACE = "signature"

#: Exit statuses of the process that makes paper.
DONE, LIBRARY_MISSING, FONT_MISSING, NO_MEMORY = 0, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A file inside a document. `relationship` is what it is to it: "Data", "Source", …"""

    name: str
    path: str
    description: str
    relationship: str = "Data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A document: an HTML file that becomes a PDF file.

    `created` (ISO 8601, UTC) is put in as its date, so that the same words make the same bytes. `left`
    and `right` run along the top of every page; `page` names the number at the bottom. With `signable`
    an empty signature field lies over the element whose id is `SIGNATURE_PLACE`.
    """

    html: str
    pdf: str
    created: str
    left: str
    right: str
    page: str
    description: str
    signable: bool = False
    attached: tuple[Attached, ...] = ()


def write_sheets(sheets: Iterable[Sheet], path: Path) -> None:
    """Write documents to a file, to be read by `read_sheets`."""
    path.write_text(json.dumps([asdict(sheet) for sheet in sheets]), encoding="utf-8")


def read_sheets(path: Path) -> tuple[Sheet, ...]:
    """Return the documents that `write_sheets` wrote."""
    return tuple(
        Sheet(**{**one, "attached": tuple(Attached(**file) for file in one["attached"])})
        for one in json.loads(path.read_text(encoding="utf-8"))
    )
