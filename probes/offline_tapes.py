"""What a tape library holds, as `mtx status` prints it (mtx(1)).

A tape in a slot, a drive or a mail slot can be reached by whoever reaches the library: it is online.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from backupguard.errors import Misunderstood

_CHANGER = re.compile(r"^\s*Storage Changer\s+\S+:")
_DRIVE = re.compile(r"^\s*Data Transfer Element\s+(?P<number>\d+):(?P<rest>.*)$")
_SLOT = re.compile(
    r"^\s*Storage Element\s+(?P<number>\d+)(?P<mail>\s+IMPORT/EXPORT)?:(?P<rest>.*)$"
)
_TAG = re.compile(r"(?:Primary)?VolumeTag\s*=\s*(?P<tag>\S+)")


def elements(text: str) -> Mapping[str, str]:
    """Given the output of `mtx status`, return where each barcode is: "3", "drive 0", "mail slot 24".

    Raises Misunderstood for anything that is no such output. A full element without a barcode says
    nothing of which tape is in it, and is left out.
    """
    if not any(_CHANGER.match(line) for line in text.splitlines()):
        raise Misunderstood("output_unparsable")
    found: dict[str, str] = {}
    for line in text.splitlines():
        drive, slot = _DRIVE.match(line), _SLOT.match(line)
        match = drive or slot
        tag = _TAG.search(match["rest"]) if match is not None else None
        if match is None or tag is None or not match["rest"].lstrip().startswith("Full"):
            continue
        where = match["number"]
        if drive is not None:
            where = f"drive {where}"
        elif match["mail"]:
            where = f"mail slot {where}"
        found[tag["tag"]] = where
    return found


def unread(text: str) -> int:
    """Return how many elements are full and show no barcode: any tape may be in them."""
    count = 0
    for line in text.splitlines():
        match = _DRIVE.match(line) or _SLOT.match(line)
        if match is not None and match["rest"].lstrip().startswith("Full"):
            count += _TAG.search(match["rest"]) is None
    return count
