"""BackupGuard: proof that a hospital's backups restore."""

__version__ = "0.1.0"
