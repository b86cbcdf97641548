from __future__ import annotations

import pytest

from backupguard.testing.engines import EngineCase, EngineContract, sample_of
from restore_tests.openldap import OPENLDAP

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
