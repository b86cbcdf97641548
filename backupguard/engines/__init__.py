"""Engines that were unpacked for BackupGuard beside the system: adding, removing, listing.

An engine archive brings the programs of one database engine with every library they need, the loader
included, so that a server of another Debian runs here and nothing of this host is changed. It lies in
`/opt/backupguard/engines/ENGINE/VERSION`, owned by root, and starts no service. `script/build-bundle`
makes and signs the archives.
"""

from __future__ import annotations

from pathlib import Path

from backupguard.engines.adding import add, remove
from backupguard.engines.described import Description
from backupguard.engines.listing import Found, found
from backupguard.engines.signed import digest_of, public_key

#: Where engines are unpacked; restore tests look here after the system's own directories.
ENGINES = Path("/opt/backupguard/engines")
#: The public key (PEM) by which the lists beside engine archives must be signed.
KEY = Path("/etc/backupguard/engines.pub")

__all__ = [
    "ENGINES",
    "KEY",
    "Description",
    "Found",
    "add",
    "digest_of",
    "found",
    "public_key",
    "remove",
]
