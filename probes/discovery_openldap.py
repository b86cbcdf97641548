"""The suffixes that OpenLDAP servers of this host hold.

Sources: slapd(8) (-h, -f, -F), slapd-config(5) (`olcSuffix`), slapd.conf(5), RFC 4512 §5.1
(`namingContexts` of the root DSE, which every client may read unless an access rule forbids it).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from backupguard.contracts import Command, Context
from backupguard.errors import Cancelled, MissingMeans, TimedOut
from probes.discovery_files import read_text
from probes.discovery_found import Catalogue, Database, Found
from probes.discovery_host import Host, Process, is_gone

ENGINE = "openldap"
_DEFAULT_SOCKET = "/run/slapd/ldapi"
_ATTRIBUTE = re.compile(rb"^(?:namingContexts|olcSuffix)(::?) *(.+)$", re.MULTILINE | re.IGNORECASE)
_SUFFIX = re.compile(r'^\s*suffix\s+"?([^"\n]+?)"?\s*$', re.MULTILINE)


def local(host: Host, etc: Path, found: Found, context: Context) -> None:
    """Add the suffixes of every slapd of this host: from its configuration, else by asking it."""
    for process in _servers(host):
        urls = (process.option("-h") or "ldap:///").split()
        port = next((_port(url) for url in urls if not url.startswith("ldapi:")), None)
        suffixes = _configured(process, etc)
        if suffixes is None:
            suffixes = _asked(urls, found, context)
        place = process.option("-F", "-f") or str(etc / "ldap" / "slapd.d")
        if suffixes is None:
            found.lack(f"{ENGINE}/{host.name}/{port or 'ldapi'}", "permission", place, "databases")
            continue
        server = str(port) if port else place
        found.catalogue(
            Catalogue(engine=ENGINE, host=host.name, port=port, directory=place),
            [
                Database(engine=ENGINE, host=host.name, port=port, server=server, name=suffix)
                for suffix in suffixes
            ],
        )


def _servers(host: Host) -> list[Process]:
    """Return the servers: their processes, or where these are hidden their sockets."""
    seen = [
        process
        for process in host.processes
        if process.name == "slapd" and not (process.option("-F") or "").startswith("/scratch/")
    ]
    sockets = [path for path in host.sockets if path.endswith("/ldapi") and not is_gone(Path(path))]
    return seen or [
        Process(pid=0, name="slapd", argv=("slapd", "-h", f"ldapi://{quote(path, safe='')}"))
        for path in sockets
    ]


def _port(url: str) -> int | None:
    match = re.match(r"(ldaps?)://[^/:]*(?::(\d+))?", url)
    if match is None:
        return None
    return int(match[2]) if match[2] else {"ldap": 389, "ldaps": 636}[match[1]]


def _configured(process: Process, etc: Path) -> list[str] | None:
    """Return the suffixes in the configuration that slapd was started with; None if unreadable."""
    aside = Found(host="")  # a refusal here is no loss yet: the server can still be asked
    file = process.option("-f")
    if file is not None:
        text = read_text(Path(file), aside)
        return None if text is None else sorted(set(_SUFFIX.findall(text)))
    directory = Path(process.option("-F") or etc / "ldap" / "slapd.d") / "cn=config"
    try:
        files = sorted(directory.glob("olcDatabase=*.ldif"))
        if not files:
            return None
    except OSError:
        return None
    found: set[str] = set()
    for path in files:
        text = read_text(path, aside)
        if text is None:
            return None
        found.update(_values(text.encode()))
    return sorted(found)


def _asked(urls: list[str], found: Found, context: Context) -> list[str] | None:
    """Return what the server says it holds, by the first of its addresses that answers."""
    for url in sorted(urls, key=lambda url: not url.startswith("ldapi:")):
        local = url.startswith("ldapi:")
        socket = Path(unquote(url.removeprefix("ldapi://").rstrip("/")) or _DEFAULT_SOCKET)
        try:
            completed = context.tools.run(
                Command(
                    argv=(
                        *("ldapsearch", "-x", "-LLL", "-o", "nettimeout=10", "-H", url),
                        *("-s", "base", "-b", "", "(objectClass=*)", "namingContexts"),
                    ),
                    read=(socket.parent,) if local else (),
                    network=not local,
                    environment={"LDAPNOINIT": "1"},
                    timeout_s=30,
                )
            )
        except MissingMeans:
            found.lack(ENGINE, "program_missing", "ldapsearch (ldap-utils)", "databases")
            return None
        except Cancelled:
            raise
        except TimedOut:
            continue
        suffixes = sorted(set(_values(completed.stdout)))
        if completed.returncode == 0 and suffixes:
            return suffixes
    return None


def _values(ldif: bytes) -> Iterator[str]:
    unfolded = ldif.replace(b"\r\n", b"\n").replace(b"\n ", b"")
    for match in _ATTRIBUTE.finditer(unfolded):
        value = match[2].strip()
        try:
            plain = base64.b64decode(value, validate=True) if match[1] == b"::" else value
        except ValueError:
            continue
        if plain:
            yield plain.decode("utf-8", "replace")
