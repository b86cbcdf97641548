from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from backupguard.errors import EvidenceError
from backupguard.evidence.records import (
    canonical,
    chain_hash,
    fact_of,
    genesis,
    parse_body,
    record_body,
    sha256,
)
from backupguard.model import Observation, Origin

LARGEST = 2**53 - 1
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_canonical_bytes_are_those_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)
    assert json.loads(canonical(value)) == value


def test_names_beyond_the_basic_plane_sort_by_utf16() -> None:
    value = {"￿": 1, "\U0001f600": 2, "séjours": [{"￿": 1, "\U0001f600": 2}]}
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value", [1.5, 2**53, -(2**53), {1: 2}, {"a": {1, 2}}, "\ud800", {"\ud800": 1}, b"x"]
)
def test_what_is_no_canonical_json_is_refused(value: object) -> None:
    with pytest.raises(EvidenceError) as caught:
        canonical({"é￿": 1, "deep": [1, value]})
    assert caught.value.code == "not_canonical"


def test_nesting_is_bounded() -> None:
    value: list = []
    for _ in range(70):
        value = [value]
    with pytest.raises(EvidenceError):
        canonical(value)


def test_a_fact_reads_as_it_was_observed() -> None:
    now = datetime(2026, 3, 5, 9, 0, 0, 123456, tzinfo=UTC)
    seen = Observation(
        kind="pause.ended",
        subject="site",
        origin=Origin.ATTESTED,
        observed_at=now,
        data={"reason": "été"},
        key="pause/1",
    )
    body = record_body(seen, seq=7, recorded_at=now, run="R", author="uid/0", site="CH")
    fact = fact_of(body, b"h")
    assert fact.observation == seen
    assert (fact.seq, fact.recorded_at, fact.run, fact.author) == (7, now, "R", "uid/0")
    assert parse_body(body)["site"] == "CH"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"seq":1}'])
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_body(body)
    assert caught.value.code == "bad_record"


def test_hashes_are_what_the_documentation_says() -> None:
    store = "01M80000000000000000000000"
    first = genesis(store)
    assert first == sha256(b"backupguard-genesis-1\0" + store.encode())
    assert chain_hash(first, sha256(b"x")) == sha256(
        b"backupguard-record-1\0" + first + sha256(b"x")
    )
