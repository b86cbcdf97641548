"""BackupGuard's own state, taken elsewhere and brought back: store, signing key, signed reports.

An export is one file; an import checks every byte of it, and the chain of evidence in it, before
anything is put in place.
"""

from __future__ import annotations

from backupguard.state.archive import Manifest
from backupguard.state.moving import export_state, import_state

__all__ = ["Manifest", "export_state", "import_state"]
