"""A time stamp whose token is damaged: its line is no anchor, and nothing breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard.anchoring.reading import anchors_in
from backupguard.anchoring.timestamps import Stamped, armoured
from backupguard.evidence.seals import Anchor, anchor_line

STAMPED = Anchor(store="01M80000000000000000000000", seq=7, hash=b"\x07" * 32)
PLAIN = Anchor(store=STAMPED.store, seq=3, hash=b"\x03" * 32)
TEXT = armoured(Stamped(anchor=STAMPED, response=bytes(range(100))))
END = "-----END RFC3161 RESPONSE-----"


@pytest.mark.parametrize(
    ("text", "unchecked", "wrong"),
    [
        pytest.param(TEXT, 1, 0, id="whole"),
        pytest.param(TEXT.replace("\n", "\r\n"), 1, 0, id="whole-with-carriage-returns"),
        pytest.param(TEXT.replace(END, ""), 0, 1, id="no-end"),
        pytest.param(TEXT.split("\n", 2)[0] + "\n" + TEXT.split("\n", 2)[1], 0, 1, id="cut"),
        pytest.param(TEXT.replace(f"==\n{END}", f"=\n{END}"), 0, 1, id="bad-padding"),
        pytest.param(TEXT.replace("AAEC", "%%%%"), 0, 1, id="no-base64"),
        pytest.param(TEXT.replace("\n-----BEGIN", "\n\n-----BEGIN"), 1, 0, id="blank-line"),
        pytest.param(TEXT.replace("\n", "\n> "), 0, 1, id="quoted"),
    ],
)
def test_its_line_never_counts_as_a_plain_anchor(
    tmp_path: Path, text: str, unchecked: int, wrong: int
) -> None:
    file = tmp_path / "anchors"
    file.write_text(f"{anchor_line(PLAIN)}\n{text}\n", encoding="ascii", newline="")
    kept = anchors_in([file])
    assert kept.anchors == (PLAIN,)
    assert (kept.unchecked, kept.wrong) == (unchecked, wrong)
