"""The one part of BackupGuard that runs as root: a closed list of small acts, asked for by id."""
