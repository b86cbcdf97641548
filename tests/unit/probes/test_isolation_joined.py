"""Is the host joined? Each trace of a membership is seen, each client that is none is not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from probes.isolation_joined import Joined, look

SSSD_AD = """\
[sssd]
domains = ch.local
services = nss, pam

[domain/ch.local]
ad_domain = CH.local
krb5_realm = CH.LOCAL
realmd_tags = manages-system joined-with-adcli
id_provider = ad
"""
SSSD_LDAP = "[domain/annuaire]\nid_provider = ldap\nldap_uri = ldaps://ldap.ch.local\n"
SSSD_FILES = "[domain/local]\nid_provider = files\n"
MEMBER = "[global]\n  workgroup = CH\n  Realm = CH.LOCAL\n  security = ADS\n"
KRB5 = "[libdefaults]\n\tdefault_realm = CH.LOCAL\n"


def keytab(*realms: str, hole: bool = False) -> bytes:
    content = b"\x05\x02"
    for realm in realms:
        parts = [b"host", b"srv"]
        entry = struct.pack(">HH", len(parts), len(realm)) + realm.encode()
        entry += b"".join(struct.pack(">H", len(part)) + part for part in parts)
        entry += struct.pack(">IIBHH", 1, 0, 2, 18, 4) + b"\0" * 4
        content += struct.pack(">i", -len(entry) if hole else len(entry)) + entry
    return content


def root(tmp_path: Path, **files: str | bytes) -> Path:
    places = {
        "sssd": "etc/sssd/sssd.conf",
        "sssd_more": "etc/sssd/conf.d/10-domain.conf",
        "samba": "etc/samba/smb.conf",
        "samba_more": "etc/samba/more.conf",
        "secrets": "var/lib/samba/private/secrets.tdb",
        "krb5": "etc/krb5.conf",
        "krb5_more": "etc/krb5.conf.d/realm",
        "keytab": "etc/krb5.keytab",
        "nsswitch": "etc/nsswitch.conf",
    }
    for name, content in files.items():
        path = tmp_path / places[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def found(tmp_path: Path, **files: str | bytes) -> tuple[set[str], set[str], set[str]]:
    seen: Joined = look(root(tmp_path, **files))
    return seen.seen_by, seen.domains, seen.unread


def test_an_ordinary_host_stands_apart(tmp_path: Path) -> None:
    assert found(tmp_path, nsswitch="passwd: files systemd\n") == (set(), set(), set())


@pytest.mark.parametrize(
    ("files", "by", "domain"),
    [
        ({"sssd": SSSD_AD}, {"sssd", "realmd"}, "ch.local"),
        ({"sssd_more": SSSD_AD}, {"sssd", "realmd"}, "ch.local"),
        ({"sssd": SSSD_LDAP}, {"sssd"}, "annuaire"),
        ({"samba": MEMBER, "secrets": b"x"}, {"samba"}, "ch.local"),
        ({"samba": MEMBER}, {"samba"}, "ch.local"),
        ({"samba": "[global]\nworkgroup=CH\nserver role = member server\n"}, {"samba"}, "ch"),
        (
            {"samba": "[global]\ninclude = /etc/samba/more.conf\n", "samba_more": MEMBER},
            {"samba"},
            "ch.local",
        ),
        ({"keytab": keytab("CH.LOCAL")}, {"krb5"}, "ch.local"),
        ({"nsswitch": "passwd: files winbind\n"}, {"winbind"}, None),
    ],
    ids=[
        *("sssd", "sssd-conf.d", "ldap", "samba", "samba-unseen-secrets"),
        *("role", "include", "keytab", "winbind"),
    ],
)
def test_a_membership_is_seen(
    tmp_path: Path, files: dict[str, str | bytes], by: set[str], domain: str | None
) -> None:
    assert found(tmp_path, **files) == (by, {domain} if domain else set(), set())


@pytest.mark.parametrize(
    "files",
    [
        {"sssd": SSSD_FILES},
        {"sssd": "# [domain/ch.local]\n#id_provider = ad\n"},
        {"samba": "[global]\nworkgroup = CH\nserver role = standalone server\n"},
        {"samba": "[partage]\nsecurity = ads\n"},
        {"krb5": KRB5},
        {"krb5_more": KRB5},
        {"keytab": b"\x05\x02"},
        {"keytab": keytab("CH.LOCAL", hole=True)},
        {"nsswitch": "passwd: files sss\n"},
    ],
    ids=[
        *("sssd-files", "sssd-comment", "standalone", "share", "default-realm"),
        *("krb5.conf.d", "empty-keytab", "deleted-key", "sss-without-domain"),
    ],
)
def test_what_is_no_membership_is_none(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    assert found(tmp_path, **files) == (set(), set(), set())


def test_what_somebody_only_meant_to_do_is_no_membership(tmp_path: Path) -> None:
    place = root(tmp_path, samba=MEMBER)
    (place / "var/lib/samba/private").mkdir(parents=True)
    assert look(place).seen_by == set()


def test_a_keytab_that_only_root_may_read_is_a_membership_all_the_same(tmp_path: Path) -> None:
    place = root(tmp_path, keytab=keytab("CH.LOCAL"), krb5=KRB5)
    (place / "etc/krb5.keytab").chmod(0)
    seen = look(place)
    assert (seen.seen_by, seen.domains) == ({"krb5"}, {"ch.local"})


def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    place = root(tmp_path, sssd=SSSD_AD, samba="[global]\ninclude = /etc/samba/%U.conf\n")
    (place / "etc/sssd/sssd.conf").chmod(0)
    seen = look(place)
    assert seen.seen_by == set()
    assert seen.unread == {
        "/etc/sssd/sssd.conf",
        "/etc/samba/smb.conf: include /etc/samba/%U.conf",
    }


def test_a_registry_is_not_read(tmp_path: Path) -> None:
    assert found(tmp_path, samba="[global]\nconfig backend = registry\n")[2] == {
        "/etc/samba/smb.conf: registry"
    }


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", b"\x05\x02\x00", b"\x05\x02\xff\xff\xff\xff", b"\x05\x02\x7f\xff\xff\xff" * 9],
    ids=["empty", "short", "cut", "hole", "long"],
)
def test_a_broken_keytab_breaks_nothing(tmp_path: Path, content: bytes) -> None:
    assert look(root(tmp_path, keytab=content)).seen_by == set()


def test_names_that_are_none_are_dropped(tmp_path: Path) -> None:
    hostile = "[domain/\x1b[31m]\nid_provider = ad\n"
    by, domains, _ = found(tmp_path, sssd=hostile)
    assert by == {"sssd"}
    assert domains == set()
