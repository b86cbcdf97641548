from __future__ import annotations

import pytest

from backupguard.contracts import Completed
from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.openldap import OPENLDAP
from restore_tests.openldap_survey import unread

SLAPCAT = (
    b"dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n"
    b"entryCSN: 20261122144216.507017Z#000000#000#000000\n\n"
)


class TestOpenldap(EngineContract):
    @pytest.fixture
    def case(self) -> EngineCase:
        return EngineCase(
            engine=OPENLDAP,
            own={
                "slapcat": sample_of(SLAPCAT),
                "version": sample_of(b"version: 1\n\n" + SLAPCAT),
                "mdb": sample_of(bytes(16) + b"\xde\xc0\xef\xbe" + bytes(100)),
            },
            others={
                "postgresql": sample_of(b"--\n-- PostgreSQL database dump\n--\n"),
                "a letter": sample_of(b"dn: we met\n"),
                "its configuration alone": sample_of(b"dn: cn=config\nobjectClass: olcGlobal\n"),
            },
        )


def test_the_suffix_is_the_first_name() -> None:
    match = OPENLDAP.recognise(sample_of(SLAPCAT))
    assert match is not None
    assert match.extra["suffix"] == "dc=example,dc=org"
    assert match.extra["slapcat"] is True


@pytest.mark.parametrize(
    ("said", "own", "code"),
    [
        ({"status": 0, "other": 1}, True, None),
        ({"status": 1, "damaged": 2}, True, "corrupt"),
        ({"status": 135}, True, "corrupt"),
        ({"status": 1, "damaged": 2}, False, "unknown_exit"),
        ({"status": 137}, True, "unknown_exit"),
        ({"status": 1}, True, "unknown_exit"),
        ({"status": 1, "no_memory": 1}, True, "no_memory"),
        ({}, True, "unknown_exit"),
    ],
    ids=[
        *("read", "damaged", "crashed", "made-here", "killed", "no-word", "memory", "no-end"),
    ],
)
def test_only_what_lmdb_says_of_the_saved_file_accuses_it(
    said: dict[str, int], own: bool, code: str | None
) -> None:
    done = Completed(returncode=0, stdout=b"", stderr=b"")
    found = unread(said, done, own=own)
    assert (found.code if found else None) == code
