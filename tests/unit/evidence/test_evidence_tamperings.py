"""A thousand tamperings, most of them by somebody who holds the key and signs anew."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from backupguard.evidence.records import Record
from backupguard.evidence.seals import Anchor, Seal, anchor_line, fingerprint
from backupguard.evidence.verify import Standing, Verification, verify
from backupguard.resources import shipped
from backupguard.store.bundle import open_bundle, write_bundle

from .chains import STORE
from .tamperings import KEYLESS, WITH_KEY, Attack, Done, Site, site

TAMPERINGS = 1000
SITES = 20


def check(made: Site, anchors: list[Anchor]) -> Verification:
    return verify(
        made.chain.records, made.chain.seals, store=STORE, trusted=[made.trusted], anchors=anchors
    )


def attacks(rng: Random) -> Iterator[Attack]:
    """Yield an attack after the other; three of five hold the key."""
    for number in range(TAMPERINGS):
        chosen = KEYLESS if number % 5 < 2 else WITH_KEY
        yield chosen[number // 5 % len(chosen)] if number % 5 < 4 else rng.choice(chosen)


def judged(found: Verification) -> tuple[str | None, int]:
    """Return what is named: the problem, or the record at which the clock goes back."""
    if found.problem is not None:
        return found.problem.code, found.problem.seq
    return ("clock", found.clock_back) if found.clock_back is not None else (None, 0)


def look(made: Site, trusted: str, done: Done, name: str) -> bool:
    """Check what is said of a tampered chain; tell whether it took the anchors."""

    def said(anchors: list[Anchor]) -> Verification:
        return verify(
            made.chain.records,
            made.chain.seals,
            store=STORE,
            trusted=[trusted],
            anchors=anchors,
        )

    without = said([])
    assert without.standing is not Standing.PROVED, name
    if done.code is None:
        assert without.problem is None, name
        assert "completeness" in without.unproved, name
        assert judged(said(made.anchors)) == done.anchored, name
        return True
    assert judged(without) == (done.code, done.seq), name
    return False


def test_a_thousand_tamperings_are_named_or_need_the_anchors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = Random(20260305)
    sites = [site(rng) for _ in range(SITES)]
    counts: Counter[str] = Counter()
    by_anchors = with_key = 0
    for number, attack in enumerate(attacks(rng)):
        original = sites[number % SITES]
        made = original.copy()
        done = attack(made, rng)
        name = f"{number} {attack.__name__}"
        by_anchors += look(made, original.trusted, done, name)
        with_key += attack in WITH_KEY
        counts[attack.__name__] += 1
    for clean in sites:  # nothing of all this was done to them
        found = check(clean, clean.anchors)
        assert (found.standing, found.problem) == (Standing.PROVED, None)
        assert found.fingerprints == (clean.trusted, found.fingerprints[-1])
    assert sum(counts.values()) == TAMPERINGS
    assert with_key >= TAMPERINGS / 2
    assert set(counts) == {attack.__name__ for attack in (*KEYLESS, *WITH_KEY)}
    with capsys.disabled():
        print(f"\n{TAMPERINGS} tamperings: {with_key} with the key; {by_anchors} need anchors")


class InMemory:
    """A chain as a bundle is made from it."""

    store_id = STORE

    def __init__(self, made: Site) -> None:
        self.made = made

    def head(self) -> tuple[int, bytes]:
        return self.made.chain.head()

    def records(self) -> Iterator[Record]:
        return iter(self.made.chain.records)

    def seals(self) -> tuple[Seal, ...]:
        return tuple(self.made.chain.seals)


@pytest.fixture(scope="module")
def verifier() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verifier", shipped("evidence/verify.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUNDLED = [attack for attack in (*KEYLESS, *WITH_KEY) if attack.__name__ != "edited_columns"]


@pytest.mark.parametrize("attack", BUNDLED, ids=lambda attack: attack.__name__)
def test_the_verifier_of_the_bundle_says_the_same(
    attack: Attack, verifier: ModuleType, tmp_path: Path
) -> None:
    rng = Random(attack.__name__)
    original = site(rng)
    file = tmp_path / "anchors"
    file.write_text("".join(f"{anchor_line(one)}\n" for one in original.anchors))
    write_bundle(InMemory(original), tmp_path / "clean")
    trusted = {original.trusted}
    assert verifier.verify(tmp_path / "clean", trusted, [file])[4] is None
    made = original.copy()
    attack(made, rng)
    bundle = tmp_path / "tampered"
    write_bundle(InMemory(made), bundle)
    for anchors in ([], original.anchors):
        with open_bundle(bundle) as opened:
            ours = verify(
                opened.records(),
                opened.seals(),
                store=opened.store,
                keys=opened.keys,
                trusted=trusted,
                anchors=anchors,
                pruned=opened.prunings(),
                head=opened.head,
            )
        try:
            theirs = verifier.verify(bundle, trusted, [file] if anchors else [])
        except verifier.Broken:
            assert ours.problem is not None
        else:
            assert ours.problem is None
            assert theirs[4] == ours.clock_back


def test_a_copied_hand_over_makes_no_chain_of_the_old_key_trusted(
    verifier: ModuleType, tmp_path: Path
) -> None:
    original = site(Random(7))
    newest = fingerprint(original.public(1))
    made = original.copy()  # by somebody with the old key, and the record that both signed
    chain = made.chain
    chain.records = chain.records[: made.rotated]
    chain.seals = [one for one in chain.seals if one.seq < made.rotated]
    made.rewrite(2, {2: {**made.members(2), "data": {"verdict": "passed"}}})
    made.reseal(2)
    for number, (one, code) in enumerate(((original, None), (made, "wrong_key"))):
        found = verify(one.chain.records, one.chain.seals, store=STORE, trusted=[newest])
        assert (found.problem and found.problem.code) == code
        bundle = tmp_path / str(number)
        write_bundle(InMemory(one), bundle)
        if code is None:
            verifier.verify(bundle, {newest}, [])
        else:
            with pytest.raises(verifier.Broken):
                verifier.verify(bundle, {newest}, [])
