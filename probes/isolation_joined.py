"""Is this host joined to a directory? What realmd, sssd, samba and krb5 left in its files says so.

An attacker who owns the directory owns every host joined to it. A file that may not be read is told,
and never taken for a host that is not joined. Sources: sssd.conf(5), realm(8) (`realmd_tags`),
smb.conf(5) (`security`, `server role`), krb5.conf(5), nsswitch.conf(5), and MIT's "The Keytab Binary
File Format".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Providers of sssd whose accounts come from a directory; "files" and "proxy" are this host's own.
_DIRECTORIES = frozenset({"ad", "ipa", "ldap", "krb5", "idp"})
_MEMBERS = ("ads", "domain")
_ROLES = frozenset(
    {
        "member server",
        "active directory domain controller",
        "domain controller",
        "dc",
        "classic primary domain controller",
        "classic backup domain controller",
    }
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")
_LIMIT = 256 * 1024
_FILES_LIMIT = 100

Sections = Mapping[str, Mapping[str, str]]


@dataclass(slots=True, kw_only=True)
class Joined:
    """What was found: domains (lower case), who said so, and what may not be read."""

    domains: set[str] = field(default_factory=set)
    seen_by: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)


def look(root: Path) -> Joined:
    """Return what the files below `root` (of the running system: "/") say of a joined host."""
    found = Joined()
    realm = _default_realm(root, found)
    _sssd(root, found)
    _samba(root, found)
    _keytab(root, realm, found)
    services = _accounts(root, found)
    if "winbind" in services and "samba" not in found.seen_by:
        found.seen_by.add("winbind")
    return found


def _text(path: Path, root: Path, found: Joined) -> str | None:
    """Return a file's text; None where there is none, or where it may not be read, which is told."""
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError:
        found.unread.add(_shown(path, root))
        return None


def _shown(path: Path, root: Path) -> str:
    return "/" + str(path.relative_to(root))


def _listed(directory: Path, root: Path, found: Joined) -> list[Path]:
    try:
        return sorted(directory.iterdir())[:_FILES_LIMIT]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        found.unread.add(_shown(directory, root))
        return []


def _sections(text: str) -> dict[str, dict[str, str]]:
    """Return an INI text as sections of lower-case keys; a later value replaces an earlier one."""
    sections: dict[str, dict[str, str]] = {}
    here: dict[str, str] = {}
    for line in text.splitlines():
        plain = line.strip()
        if not plain or plain[0] in "#;":
            continue
        if plain[0] == "[" and "]" in plain:
            here = sections.setdefault(plain[1 : plain.index("]")].strip().lower(), {})
            continue
        key, equals, value = plain.partition("=")
        if equals:
            here[" ".join(key.lower().split())] = value.strip()
    return sections


def _add(found: Joined, by: str, *domains: str) -> None:
    found.seen_by.add(by)
    found.domains |= {name.lower() for name in domains if _NAME.match(name)}


# ------------------------------------------------------------------------------------- one by one


def _sssd(root: Path, found: Joined) -> None:
    directory = root / "etc/sssd"
    names = [directory / "sssd.conf"]
    names += [path for path in _listed(directory / "conf.d", root, found) if path.suffix == ".conf"]
    for path in names:
        text = _text(path, root, found)
        for section, values in _sections(text or "").items():
            kind, _, domain = section.partition("/")
            if kind != "domain":
                continue
            if values.get("id_provider", "").lower() not in _DIRECTORIES:
                continue
            named = values.get("ad_domain") or values.get("ipa_domain")
            _add(found, "sssd", named or values.get("krb5_realm") or domain)
            if "joined-with" in values.get("realmd_tags", ""):
                found.seen_by.add("realmd")


def _samba(root: Path, found: Joined) -> None:
    settings: dict[str, str] = {}
    for path in _with_included(root, root / "etc/samba/smb.conf", found):
        text = _text(path, root, found)
        settings |= _sections(text or "").get("global", {})
    if settings.get("include", "").lower() == "registry" or (
        settings.get("config backend", "").lower() == "registry"
    ):
        found.unread.add("/etc/samba/smb.conf: registry")
    member = settings.get("security", "").lower() in _MEMBERS
    if not member and settings.get("server role", "").lower() not in _ROLES:
        return
    private = root / "var/lib/samba/private"
    try:
        # Where there are no secrets of a membership, the file only says what somebody meant to do.
        if private.is_dir() and not any(p.name == "secrets.tdb" for p in private.iterdir()):
            return
    except OSError:
        found.unread.add(_shown(private, root))
    _add(found, "samba", settings.get("realm") or settings.get("workgroup", ""))


def _with_included(root: Path, path: Path, found: Joined) -> Iterator[Path]:
    """Yield smb.conf and the files it includes; a name that depends on the client is told."""
    yield path
    text = _text(path, root, found)
    for line in (text or "").splitlines():
        key, equals, value = line.partition("=")
        if not equals or key.strip().lower() != "include" or value.strip().lower() == "registry":
            continue
        name = value.strip()
        if "%" in name or not name.startswith("/"):
            found.unread.add(f"/etc/samba/smb.conf: include {name[:100]}")
        else:
            yield root / name.lstrip("/")


def _default_realm(root: Path, found: Joined) -> str | None:
    """Return the realm of krb5.conf. Alone it is a hint: any client may have one."""
    names = [root / "etc/krb5.conf", *_listed(root / "etc/krb5.conf.d", root, found)]
    for path in names:
        realm = _sections(_text(path, root, found) or "").get("libdefaults", {})
        if realm.get("default_realm"):
            return realm["default_realm"]
    return None


def _keytab(root: Path, realm: str | None, found: Joined) -> None:
    """Look at the host's keytab: a key in it is an account of a directory."""
    path = root / "etc/krb5.keytab"
    try:
        if path.stat().st_size <= len(_MAGIC):
            return
        with path.open("rb") as file:
            realms = set(_realms(file.read(_LIMIT)))
    except FileNotFoundError:
        return
    except OSError:
        # It is there and only root may read it, as it should be: whose it is, krb5.conf says.
        _add(found, "krb5", realm or "")
        return
    if realms:
        _add(found, "krb5", *realms)


_MAGIC = b"\x05\x02"


def _realms(keytab: bytes) -> Iterator[str]:
    """Yield the realm of each key in a keytab of format 0x0502; a deleted one is a hole."""
    at = len(_MAGIC)
    while keytab.startswith(_MAGIC) and at + 4 <= len(keytab):
        (size,) = struct.unpack_from(">i", keytab, at)
        at += 4
        if size == 0:
            return
        if size > 4 and at + size <= len(keytab):
            (length,) = struct.unpack_from(">H", keytab, at + 2)
            yield keytab[at + 4 : at + 4 + length].decode("utf-8", "replace")
        at += abs(size)


def _accounts(root: Path, found: Joined) -> set[str]:
    """Return where accounts come from by nsswitch.conf: "files", "sss", "winbind"…"""
    text = _text(root / "etc/nsswitch.conf", root, found)
    for line in (text or "").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon and key.strip() == "passwd":
            return set(value.split())
    return set()
