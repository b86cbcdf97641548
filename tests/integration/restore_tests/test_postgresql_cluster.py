"""The copy of an empty cluster: made before any dump is loaded, and of no use to one that attacks."""

from __future__ import annotations

from pathlib import Path

from backupguard.model import Verdict
from tests.integration.restore_tests.harness import Trials
from tests.integration.restore_tests.hospital import Hospital


def copies(trials: Trials) -> list[Path]:
    return list((trials.directory / "cache" / "empty-servers").iterdir())


def test_the_second_test_starts_from_the_copy_and_sees_the_same(
    hospital: Hospital, trials: Trials
) -> None:
    first = trials.restore(hospital.dump())
    (copy,) = copies(trials)
    content = copy.read_bytes()
    second = trials.restore(hospital.dump())
    assert (first.verdict, second.verdict) == (Verdict.PASSED, Verdict.PASSED)
    assert first.fingerprint == second.fingerprint
    assert [check.verdict for check in first.checks] == [check.verdict for check in second.checks]
    assert copies(trials) == [copy]
    assert copy.read_bytes() == content


def test_nothing_of_a_dump_is_in_the_copy(
    hospital: Hospital, trials: Trials, plain_variant
) -> None:
    attack = plain_variant(
        "\\connect template1\ncreate table public.implant (line text);\n"
        "insert into public.implant values ('implanted-by-a-dump');"
    )
    trials.restore(attack)
    (copy,) = copies(trials)
    made = copy.read_bytes()
    trials.restore(attack)
    assert copies(trials) == [copy]
    assert copy.read_bytes() == made
    assert b"implant" not in made
    assert trials.restore(hospital.dump()).verdict is Verdict.PASSED


def test_a_copy_that_cannot_be_unpacked_is_made_anew(hospital: Hospital, trials: Trials) -> None:
    trials.restore(hospital.dump())
    (copy,) = copies(trials)
    for spoilt in (b"", b"no archive at all" * 1000, copy.read_bytes()[: 5 << 20]):
        copy.write_bytes(spoilt)
        assert trials.restore(hospital.dump()).verdict is Verdict.PASSED
        assert copy.stat().st_size > 20 << 20


def test_another_installation_gets_a_copy_of_its_own(hospital: Hospital, trials: Trials) -> None:
    trials.restore(hospital.dump())
    (copy,) = copies(trials)
    old = copy.with_name(f"{copy.name.partition('-')[0]}-{'0' * 32}.tar")
    copy.rename(old)
    assert trials.restore(hospital.dump()).verdict is Verdict.PASSED
    assert copies(trials) == [copy]
