"""Heads of the chain put down off this host, and read back from there.

Whoever holds the signing key can rewrite the whole chain, but not what a collector, a mailbox, a locked
bucket or a time-stamp authority has of it.
"""

from backupguard.anchoring.due import owed
from backupguard.anchoring.places import Put, place, put_down

__all__ = ["Put", "owed", "place", "put_down"]
