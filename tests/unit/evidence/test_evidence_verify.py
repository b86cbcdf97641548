from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from backupguard.errors import EvidenceError
from backupguard.evidence.records import chain_hash, genesis, sha256
from backupguard.evidence.seals import (
    Anchor,
    anchor_line,
    load_key,
    make_seal,
    new_key,
    plain_fingerprint,
    read_anchors,
)
from backupguard.evidence.verify import Standing, Verification, prunings, verify

from .chains import START, STORE, Chain, sealed_chain


def check(chain: Chain, **given: object) -> Verification:
    given.setdefault("keys", [chain.public])
    given.setdefault("pruned", tuple(prunings(chain.records)))
    return verify(chain.records, chain.seals, store=STORE, **given)


def rehash(chain: Chain, start: int) -> None:
    """Recompute every hash from record `start`, as somebody without the key could."""
    for index in range(start - 1, len(chain.records)):
        record = chain.records[index]
        previous = chain.records[index - 1].hash if index else genesis(STORE)
        body_hash = sha256(record.body) if record.body is not None else record.body_hash
        chain.records[index] = replace(
            record, body_hash=body_hash, hash=chain_hash(previous, body_hash)
        )


def test_an_untouched_chain_is_coherent_and_says_what_is_not_proved() -> None:
    found = check(sealed_chain())
    assert found.standing is Standing.COHERENT
    assert found.unproved == ("origin", "completeness")
    assert (found.records, found.sealed_to, found.anchored_to) == (12, 12, 0)


def test_with_fingerprint_and_anchors_it_is_proved() -> None:
    chain = sealed_chain()
    found = check(chain, trusted=[chain.fingerprint], anchors=[chain.anchor(12), chain.anchor(5)])
    assert found.standing is Standing.PROVED
    assert found.anchored_to == 12
    assert found.fingerprints == (chain.fingerprint,)


def test_a_fingerprint_alone_proves_no_completeness_and_anchors_alone_no_origin() -> None:
    chain = sealed_chain()
    assert check(chain, trusted=[chain.fingerprint]).unproved == ("completeness",)
    assert check(chain, anchors=[chain.anchor(12)]).unproved == ("origin",)


def test_an_unsealed_chain_has_no_proved_origin() -> None:
    chain = sealed_chain()
    chain.seals.clear()
    found = check(chain, trusted=[chain.fingerprint], anchors=[chain.anchor(12)])
    assert found.unproved == ("origin",)


def test_seals_taken_away_with_a_rewritten_end_are_not_proved() -> None:
    chain = sealed_chain(8)
    for _ in range(3):
        chain.add("inventory.closed")
        chain.seal()
    proofs = {"trusted": [chain.fingerprint], "anchors": [chain.anchor(5)]}
    assert check(chain, **proofs).standing is Standing.PROVED
    del chain.seals[-2:]  # what follows can be written anew without the key
    found = check(chain, **proofs)
    assert (found.standing, found.unproved) == (Standing.COHERENT, ("seal",))
    assert found.unsealed_runs == 2
    proofs["anchors"] = [chain.anchor(5), chain.anchor(11)]  # what stands elsewhere stands
    assert check(chain, **proofs).standing is Standing.PROVED


def test_records_between_runs_wait_for_the_next_seal() -> None:
    chain = sealed_chain(9, every=4)
    found = check(chain, trusted=[chain.fingerprint], anchors=[chain.anchor(5)])
    assert (found.standing, found.sealed_to) == (Standing.PROVED, 8)


def test_anchors_of_another_store_prove_nothing() -> None:
    chain = sealed_chain()
    stranger = Anchor(store="01M90000000000000000000000", seq=3, hash=b"\0" * 32)
    found = check(chain, trusted=[chain.fingerprint], anchors=[stranger])
    assert found.standing is Standing.COHERENT


def test_the_key_is_learned_from_the_chain() -> None:
    chain = Chain()
    data = {"key_id": "x", "fingerprint": "x", "public_key": chain.public.hex()}
    chain.add("evidence.key-created", data)
    chain.add()
    chain.seal()
    found = check(chain, keys=(), trusted=[chain.fingerprint], anchors=[chain.anchor(2)])
    assert found.standing is Standing.PROVED


def changed_body(chain: Chain) -> None:
    chain.change(6, body=chain.records[5].body.replace(b'"step_ms":6', b'"step_ms":7'))


def changed_body_and_its_hashes(chain: Chain) -> None:
    changed_body(chain)
    rehash(chain, 6)


def changed_column(chain: Chain) -> None:
    chain.change(6, columns={**chain.records[5].columns, "subject": "application/dpi"})


def removed_record(chain: Chain) -> None:
    del chain.records[5]


def removed_and_renumbered(chain: Chain) -> None:
    del chain.records[5]
    chain.records[5:] = [replace(r, seq=r.seq - 1) for r in chain.records[5:]]


def extra_record(chain: Chain) -> None:
    chain.records.insert(6, chain.records[5])


def changed_hash(chain: Chain) -> None:
    chain.change(6, hash=b"\1" * 32)


def removed_body(chain: Chain) -> None:
    chain.change(6, body=None)


def not_a_record(chain: Chain) -> None:
    chain.change(6, body=b"[]", body_hash=sha256(b"[]"))


def cut_tail(chain: Chain) -> None:
    del chain.records[8:]


def swapped_seals(chain: Chain) -> None:
    first, second = chain.seals[:2]
    chain.seals[:2] = [replace(second, seq=first.seq), replace(first, seq=second.seq)]


def removed_seal(chain: Chain) -> None:
    del chain.seals[1]


def forged_seal(chain: Chain) -> None:
    chain.seals[1] = replace(chain.seals[1], signature=bytes(64))


def edited_seal(chain: Chain) -> None:
    document = chain.seals[1].document.replace(b'"seq":8', b'"seq":9')
    chain.seals[1] = replace(chain.seals[1], document=document)


def garbage_seal(chain: Chain) -> None:
    chain.seals[1] = replace(chain.seals[1], document=b"{}")


def seal_by_another_key(chain: Chain) -> None:
    pem, _ = new_key()
    record = chain.records[7]
    chain.seals[1] = make_seal(
        load_key(pem),
        store=STORE,
        seq=8,
        digest=record.hash,
        sealed_at=START,
        previous=chain.seals[0],
    )


def seal_of_another_store(chain: Chain) -> None:
    chain.seals[1] = make_seal(
        load_key(chain.pem),
        store="01M90000000000000000000000",
        seq=8,
        digest=chain.records[7].hash,
        sealed_at=START,
        previous=chain.seals[0],
    )


@pytest.mark.parametrize(
    ("tamper", "code", "seq"),
    [
        (changed_body, "body_changed", 6),
        (changed_body_and_its_hashes, "seal_mismatch", 8),
        (changed_column, "column_differs", 6),
        (removed_record, "record_missing", 6),
        (removed_and_renumbered, "record_extra", 6),
        (extra_record, "record_extra", 6),
        (changed_hash, "chain_broken", 6),
        (removed_body, "body_removed", 6),
        (not_a_record, "body_unreadable", 6),
        (cut_tail, "tail_cut", 9),
        (swapped_seals, "seal_missing", 4),
        (removed_seal, "seal_missing", 12),
        (forged_seal, "seal_wrong", 8),
        (edited_seal, "seal_wrong", 8),
        (garbage_seal, "seal_wrong", 8),
        (seal_by_another_key, "seal_key_unknown", 8),
        (seal_of_another_store, "store_differs", 8),
    ],
)
def test_the_first_wrong_record_is_named(
    tamper: Callable[[Chain], None], code: str, seq: int
) -> None:
    chain = sealed_chain()
    anchors = [chain.anchor(12)]
    tamper(chain)
    found = check(chain, trusted=[chain.fingerprint], anchors=anchors)
    assert found.standing is Standing.BROKEN
    assert (found.problem.code, found.problem.seq) == (code, seq)
    assert found.problem.message().id == f"evidence.problem.{code}"


def test_another_key_than_the_trusted_one() -> None:
    _, stranger = new_key()
    found = check(sealed_chain(), trusted=[sha256(stranger).hex()])
    assert (found.problem.code, found.problem.seq) == ("wrong_key", 4)


def test_a_whole_rewritten_chain_is_caught_by_the_fingerprint_alone() -> None:
    original, forged = sealed_chain(), sealed_chain()
    assert check(forged).standing is Standing.COHERENT
    found = check(forged, trusted=[original.fingerprint])
    assert found.problem.code == "wrong_key"


def test_a_tail_cut_off_with_its_seals_is_seen_only_by_anchors() -> None:
    chain = sealed_chain()
    anchors = [chain.anchor(12)]
    del chain.records[8:], chain.seals[2:]
    assert check(chain, trusted=[chain.fingerprint]).standing is Standing.COHERENT
    found = check(chain, trusted=[chain.fingerprint], anchors=anchors)
    assert (found.problem.code, found.problem.seq) == ("tail_cut", 9)


def test_a_rewritten_record_differs_from_its_anchor() -> None:
    chain = sealed_chain()
    anchors = [chain.anchor(11)]
    chain.seals.clear()
    changed_body_and_its_hashes(chain)
    assert check(chain).standing is Standing.COHERENT
    assert check(chain, anchors=anchors).problem.code == "anchor_mismatch"


def test_the_stores_own_head_is_compared() -> None:
    chain = sealed_chain()
    assert check(chain, head=chain.head()).standing is Standing.COHERENT
    assert check(chain, head=(13, bytes(32))).problem.code == "tail_cut"
    assert check(chain, head=(11, bytes(32))).problem.code == "record_extra"
    assert check(chain, head=(12, bytes(32))).problem.code == "head_differs"


def pruning(first: int, last: int, *kinds: str) -> dict[str, object]:
    return {"first_seq": first, "last_seq": last, "kinds": list(kinds), "reason": "too old"}


def test_a_pruned_body_needs_a_later_fact_that_names_it() -> None:
    chain = sealed_chain(6)
    chain.add("evidence.pruned", pruning(2, 4, "clock.stepped"))
    for seq in (2, 3, 4):
        chain.change(seq, body=None)
    found = check(chain)
    assert (found.standing, found.pruned) == (Standing.COHERENT, 3)
    chain.change(5, body=None)
    assert check(chain).problem.code == "body_removed"


def test_a_pruning_covers_only_its_kinds_and_what_came_before_it() -> None:
    chain = sealed_chain(3)
    chain.add("evidence.pruned", pruning(1, 9, "daemon.started"))
    chain.change(2, body=None)
    assert check(chain).problem.seq == 2
    chain = sealed_chain(3)
    chain.add("evidence.pruned", pruning(1, 9, "clock.stepped"))
    chain.add()
    chain.change(5, body=None)
    assert check(chain).problem.seq == 5


def test_a_pruning_that_is_not_in_the_chain_excuses_nothing() -> None:
    chain = sealed_chain(6)
    donor = sealed_chain(6)
    donor.add("evidence.pruned", pruning(2, 4, "clock.stepped"))
    claimed = tuple(prunings(donor.records))
    chain.change(3, body=None)
    assert check(chain, pruned=claimed).problem.seq == 3
    chain.add()
    assert check(chain, pruned=claimed).problem.code == "body_removed"


def test_anchors_are_found_in_any_text() -> None:
    chain = sealed_chain()
    line = anchor_line(chain.anchor(12))
    text = [f"Mar  5 09:00:00 srv1 backupguard[12]: {line}\r\n", "nothing\n", f"> {line}"]
    assert list(read_anchors(text)) == [chain.anchor(12)] * 2


def test_fingerprints_as_people_type_them() -> None:
    plain = sealed_chain().fingerprint
    pairs = ":".join(plain[i : i + 2] for i in range(0, 64, 2)).upper()
    assert plain_fingerprint(f" SHA256:{pairs} ") == plain
    with pytest.raises(EvidenceError):
        plain_fingerprint(plain[:-1])


def test_verification_is_lazy() -> None:
    """Records are taken one at a time: nothing is kept of those already seen."""
    chain = sealed_chain()
    alive = []

    def records():
        for record in chain.records:
            alive.append(record.seq)
            yield record

    removed_body(chain)
    verify(records(), chain.seals, store=STORE, keys=[chain.public])
    assert alive[-1] == 6
