"""A directory comes back to life in the sandbox: clean ones pass, each broken one is named."""

from __future__ import annotations

import gzip
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupguard.model import Baseline, Fingerprint, RestoreTestResult, Verdict
from restore_tests.openldap import OPENLDAP
from restore_tests.settings import OpenldapSettings
from tests.integration.restore_tests.harness import NOW, Trials

AT = NOW - timedelta(hours=4)
SUFFIX = "dc=hopital,dc=example"
CONF = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
maxsize 1073741824
suffix "{suffix}"
rootdn "cn=admin,{suffix}"
directory {directory}
"""
CUSTOM = """attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'rppsNumber'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'careProfessional'
  SUP top AUXILIARY MAY rppsNumber )
"""


class Directory:
    """A directory of the tests, as its own slapd would keep it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "db").mkdir(parents=True)
        self.conf = place / "slapd.conf"
        self.conf.write_text(CONF.format(suffix=SUFFIX, directory=place / "db"))

    def fill(self, people: int = 120) -> None:
        stamp = (AT - timedelta(minutes=20)).strftime("%Y%m%d%H%M%SZ")
        entries = [
            f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: CH\ndc: hopital\n",
            f"dn: ou=people,{SUFFIX}\nobjectClass: organizationalUnit\nou: people\n",
        ]
        entries += [
            f"dn: uid=u{n},ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\nuid: u{n}\n"
            f"cn: Agent {n}\nsn: Müller-ZZSECRETZZ{n}\nuserPassword: {{SSHA}}x{n}\n"
            for n in range(people)
        ]
        text = "\n".join(f"{entry}modifyTimestamp: {stamp}\n" for entry in entries)
        source = self.place / "in.ldif"
        source.write_text(text, encoding="utf-8")
        subprocess.run(
            ["/usr/sbin/slapadd", "-q", "-f", self.conf, "-l", source],
            check=True,
            capture_output=True,
        )

    def slapcat(self, to: Path) -> Path:
        subprocess.run(
            ["/usr/sbin/slapcat", "-f", self.conf, "-l", to], check=True, capture_output=True
        )
        return to


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    made = Directory(tmp_path_factory.mktemp("ldap"))
    made.fill()
    return made


@pytest.fixture
def ldif(directory: Directory, tmp_path: Path) -> Path:
    return directory.slapcat(tmp_path / "annuaire.ldif")


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path, engines={"openldap": OPENLDAP})


def settings(*checks: dict[str, Any], **values: Any) -> OpenldapSettings:
    return OpenldapSettings.model_validate({"engine": "openldap", "checks": checks, **values})


def restored(trials: Trials, path: Path, **plan: Any) -> RestoreTestResult:
    plan.setdefault("settings", settings())
    return trials.restore(path, **plan)


def judged(result: RestoreTestResult) -> tuple[Verdict, str | None]:
    return result.verdict, result.code


def accepted(shape: Fingerprint | None) -> Baseline:
    assert shape is not None
    return Baseline(fingerprint=shape, accepted=True, seq=1)


PEOPLE = {"name": "agents", "filter": "(objectClass=inetOrgPerson)", "at-least": 100}
RECENT = {"name": "récents", "filter": "(uid=u7)", "newer-than": "26h"}


def test_a_sound_directory_proves_its_content(trials: Trials, ldif: Path) -> None:
    first = restored(trials, ldif, settings=settings(PEOPLE, RECENT))
    assert judged(first) == (Verdict.PASSED, None), first
    assert first.fingerprint is not None
    assert first.fingerprint.tables == {
        "organization": 1,
        "organizationalUnit": 1,
        "inetOrgPerson": 120,
    }
    assert first.fingerprint.objects["password"] == 120
    assert first.data_loss_ms == 20 * 60 * 1000
    again = restored(
        trials, ldif, settings=settings(PEOPLE, RECENT), baseline=accepted(first.fingerprint)
    )
    assert again.level == 3
    told = repr((again, trials.facts)).encode() + trials.traces
    assert b"ZZSECRETZZ" not in told


def test_an_mdb_and_a_compressed_ldif(trials: Trials, directory: Directory, ldif: Path) -> None:
    store = directory.place / "db" / "data.mdb"
    assert judged(restored(trials, store)) == (Verdict.COULD_NOT_VERIFY, "suffix_unknown")
    result = restored(trials, store, settings=settings(PEOPLE, suffix=SUFFIX))
    assert judged(result) == (Verdict.PASSED, None), result
    packed = ldif.with_suffix(".ldif.gz")
    packed.write_bytes(gzip.compress(ldif.read_bytes()))
    assert judged(restored(trials, packed)) == (Verdict.PASSED, None)


def test_a_schema_of_its_own_is_needed_and_named(
    trials: Trials, ldif: Path, tmp_path: Path
) -> None:
    text = ldif.read_text(encoding="utf-8")
    head = f"dn: uid=u7,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\n"
    assert head in text
    own = "objectClass: careProfessional\nrppsNumber: 10001234567\n"
    path = tmp_path / "own.ldif"
    path.write_text(text.replace(head, head + own), encoding="utf-8")
    assert judged(restored(trials, path)) == (Verdict.COULD_NOT_VERIFY, "schema_missing")
    schema = tmp_path / "hopital.schema"
    schema.write_text(CUSTOM)
    result = restored(trials, path, settings=settings(schemas=[str(schema)]))
    assert judged(result) == (Verdict.PASSED, None), result


def test_an_mdb_with_a_schema_of_its_own_is_not_called_damaged(
    trials: Trials, ldif: Path, tmp_path: Path
) -> None:
    schema = tmp_path / "hopital.schema"
    schema.write_text(CUSTOM)
    own = Directory(tmp_path / "own")
    text = own.conf.read_text()
    own.conf.write_text(text.replace("modulepath", f"include {schema}\nmodulepath", 1))
    head = f"dn: uid=u7,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\n"
    more = "objectClass: careProfessional\nrppsNumber: 10001234567\n"
    source = tmp_path / "own.ldif"
    source.write_text(ldif.read_text(encoding="utf-8").replace(head, head + more), encoding="utf-8")
    subprocess.run(
        ["/usr/sbin/slapadd", "-q", "-f", own.conf, "-l", source], check=True, capture_output=True
    )
    store = own.place / "db" / "data.mdb"
    without = restored(trials, store, settings=settings(suffix=SUFFIX))
    assert judged(without) == (Verdict.COULD_NOT_VERIFY, "schema_missing")
    given = settings(PEOPLE, suffix=SUFFIX, schemas=[str(schema)])
    assert judged(restored(trials, store, settings=given)) == (Verdict.PASSED, None)


def test_its_own_configuration_beside_the_data_is_used(
    trials: Trials, directory: Directory, ldif: Path, tmp_path: Path
) -> None:
    place = tmp_path / "saved"
    place.mkdir()
    configured = tmp_path / "slapd.d"
    configured.mkdir()
    (tmp_path / "own.schema").write_text(CUSTOM)
    conf = tmp_path / "own.conf"
    text = directory.conf.read_text().replace(
        "modulepath", f"include {tmp_path}/own.schema\nmodulepath", 1
    )
    conf.write_text(text)
    subprocess.run(
        ["/usr/sbin/slaptest", "-f", conf, "-F", configured], check=False, capture_output=True
    )
    subprocess.run(
        ["/usr/sbin/slapcat", "-n", "0", "-F", configured, "-l", place / "config.ldif"],
        check=True,
        capture_output=True,
    )
    head = f"dn: uid=u7,ou=people,{SUFFIX}\nobjectClass: inetOrgPerson\n"
    own = "objectClass: careProfessional\nrppsNumber: 10001234567\n"
    data = ldif.read_text(encoding="utf-8").replace(head, head + own)
    (place / "data.ldif").write_text(data, encoding="utf-8")
    result = restored(trials, place, settings=settings(PEOPLE))
    assert judged(result) == (Verdict.PASSED, None), result


def test_a_cut_a_lost_and_a_hostile_one(trials: Trials, ldif: Path, tmp_path: Path) -> None:
    shape = restored(trials, ldif).fingerprint
    text = ldif.read_text(encoding="utf-8")
    broken = tmp_path / "broken.ldif"
    broken.write_text(text[: len(text) // 2], encoding="utf-8")
    assert judged(restored(trials, broken)) == (Verdict.FAILED, "truncated")
    entries = text.split("\n\n")
    broken.write_text("\n\n".join(entries[:20]) + "\n\n", encoding="utf-8")
    assert judged(restored(trials, broken, baseline=accepted(shape))) == (
        Verdict.FAILED,
        "rows_lost",
    )
    lines = [line for line in text.splitlines() if not line.startswith("userPassword")]
    broken.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    result = restored(trials, broken, baseline=accepted(shape))
    assert judged(result) == (Verdict.FAILED, "passwords_lost"), result
    broken.write_text(
        text.replace("\ncn: Agent 7\n", "\ncn: Agent 7\ndescription:< file:///etc/passwd\n"),
        encoding="utf-8",
    )
    assert judged(restored(trials, broken)) == (Verdict.FAILED, "hostile")
    broken.write_text(text.replace("\nsn:", "\nxx:", 1), encoding="utf-8")
    assert restored(trials, broken).verdict is not Verdict.PASSED


def test_a_damaged_mdb(trials: Trials, directory: Directory, tmp_path: Path) -> None:
    content = bytearray((directory.place / "db" / "data.mdb").read_bytes())
    used = len(content) - 4096
    for page in range(3 * 4096, used, 4096):
        content[page : page + 64] = b"\xa5" * 64
    broken = tmp_path / "data.mdb"
    broken.write_bytes(bytes(content))
    result = restored(trials, broken, settings=settings(suffix=SUFFIX))
    assert judged(result) == (Verdict.FAILED, "corrupt")


def test_old_data_under_a_fresh_point(trials: Trials, ldif: Path) -> None:
    old = (AT - timedelta(days=40)).strftime("%Y%m%d%H%M%SZ")
    text = ldif.read_text(encoding="utf-8")
    lines = [
        f"modifyTimestamp: {old}" if line.startswith("modifyTimestamp") else line
        for line in text.splitlines()
    ]
    ldif.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    assert judged(restored(trials, ldif, settings=settings(RECENT))) == (
        Verdict.FAILED,
        "stale_data",
    )
