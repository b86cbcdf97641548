"""Recognises what slapcat writes of a directory (LDIF), and the mdb that holds it."""

from __future__ import annotations

import re

from backupguard.contracts import Match, Sample
from backupguard.errors import MissingMeans

ENGINE = "openldap"
_MDB_MAGIC = b"\xde\xc0\xef\xbe"
_DN = re.compile(rb"^dn:(:?) *(\S.*)$", re.MULTILINE)


def recognise(sample: Sample) -> Match | None:
    """Return what of a directory's a sample is: its data, and beside it its configuration."""
    ldifs = [file for file in sample.files if _is_ldif(file.head)]
    configs = [file for file in ldifs if _first_dn(file.head) == "cn=config"]
    data = [file for file in ldifs if file not in configs]
    stores = [file for file in sample.files if file.head[16:20] == _MDB_MAGIC]
    chosen = data or stores
    if not chosen:
        return None
    if len(chosen) > 1 or len(configs) > 1:
        raise MissingMeans("ambiguous_artifact", engines=ENGINE)
    file, config = chosen[0], configs[0] if configs else None
    known = [file, config] if config else [file]
    slapcat = b"\nentryCSN: " in file.head
    return Match(
        engine=ENGINE,
        certainty=90 if slapcat or not data else 70,
        format="ldif" if data else "mdb",
        version=None,
        compression=file.compression,
        extra={
            "path": str(file.path),
            "config": str(config.path) if config else None,
            "suffix": _first_dn(file.head) if data else None,
            "slapcat": slapcat,
            "compressions": {str(one.path): one.compression for one in known if one.compression},
        },
    )


def _is_ldif(head: bytes) -> bool:
    return _first_dn(head) is not None and b"\nobjectClass:" in head


def _first_dn(head: bytes) -> str | None:
    """Return the first entry's name where LDIF begins with one (RFC 2849), in plain text only."""
    start = head[:4096].lstrip()
    if start.startswith(b"version:"):
        start = start.partition(b"\n")[2].lstrip()
    found = _DN.match(start)
    if found is None or found[1] or b"\n " in start[: found.end() + 2]:
        return None
    return found[2].decode("utf-8", "replace").strip()
