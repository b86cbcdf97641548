"""A small real hospital, invented, on which everything BackupGuard does can be watched."""
