"""The configuration file as types, secrets by reference, places of errors.

    settings = load()                      # option, BACKUPGUARD_CONFIG, /etc/backupguard/…
    settings.applications["dpi"].rpo       # timedelta or None

Everything wrong is raised at once, as one ConfigurationError.
"""

from __future__ import annotations

from backupguard.settings.loading import (
    DEFAULT_PATH,
    Loaded,
    from_file,
    full_model,
    load,
    load_located,
    write_file,
)
from backupguard.settings.model import Application, BackupJob, Daemon, Scratch, Settings, Site

__all__ = [
    "DEFAULT_PATH",
    "Application",
    "BackupJob",
    "Daemon",
    "Loaded",
    "Scratch",
    "Settings",
    "Site",
    "from_file",
    "full_model",
    "load",
    "load_located",
    "write_file",
]
