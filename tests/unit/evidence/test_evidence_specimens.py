"""One record of each kind and version ever written, kept for ever: they must stay readable.

A new kind, or a new version of one, needs a file `KIND.VERSION.json` here: the bytes of a record.
Files are added and never changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupguard.errors import EvidenceError
from backupguard.evidence.kinds import KINDS, check_payload
from backupguard.evidence.records import canonical, fact_of, sha256

SPECIMENS = sorted((Path(__file__).parent / "specimens").glob("*.json"))


def test_every_kind_and_version_has_its_specimen() -> None:
    wanted = {
        f"{kind.name}.{version}.json"
        for kind in KINDS.values()
        for version in range(1, kind.version + 1)
    }
    assert {path.name for path in SPECIMENS} == wanted


@pytest.mark.parametrize("path", SPECIMENS, ids=lambda path: path.stem)
def test_a_specimen_is_read_as_the_newest_version_of_its_kind(path: Path) -> None:
    body = path.read_bytes().removesuffix(b"\n")
    assert canonical(json.loads(body)) == body
    fact = fact_of(body, sha256(body))
    kind = KINDS[fact.observation.kind]
    check_payload(kind.name, kind.version, fact.observation.data)


@pytest.mark.parametrize("path", SPECIMENS, ids=lambda path: path.stem)
def test_a_payload_with_a_member_too_many_is_refused(path: Path) -> None:
    observation = fact_of(path.read_bytes().removesuffix(b"\n"), b"").observation
    with pytest.raises(EvidenceError) as caught:
        check_payload(
            observation.kind, observation.kind_version, {**observation.data, "patient": "DUPONT"}
        )
    assert caught.value.code == "bad_payload"
