"""Cases of our own families that really happened elsewhere: which, and who told it.

"trade": known to whoever restores such backups for a living, without one report to name.
"""

from __future__ import annotations

from collections.abc import Mapping

_FIREDRILL = "firedrill's README, measured again here"
_CONTI = "HSE Ireland, 2021, Conti: PwC's post-incident review"
_PARTIAL = "intermittent encryption: Sophos on LockFile, 2021; SentinelLabs on BlackCat, 2022"
_GLIBC = "Crunchy Data on glibc 2.28: duplicates behind an index in another order"

RETOLD: Mapping[str, str] = {
    "postgresql/plain-cut-in-a-copy": f"psql restores it and exits 0: {_FIREDRILL}",
    "postgresql/plain-cut-within-a-row": f"the same within a row: {_FIREDRILL}",
    "postgresql/custom-cut-in-the-middle": f"`pg_restore --list` exits 0: {_FIREDRILL}",
    "postgresql/unknown-extension": "databasus#732: not in the image, called a broken backup",
    "postgresql/unknown-collation": "PostgreSQL wiki, Locale data changes",
    "postgresql/duplicate-keys": _GLIBC,
    "postgresql/materialised-view-empty": "firedrill's finding MATVIEW_UNPOPULATED",
    "postgresql/sequence-behind": "firedrill's finding SEQUENCE_BEHIND, from field tests",
    "postgresql/rights-left-out": "trade: `-x` because the restore complained about roles",
    "postgresql/training-copy-instead": "trade: the job was copied from the training server",
    "postgresql/stale-heartbeat-fresh": "trade: replication of one table went on",
    "postgresql/no-file-at-all": "GitLab.com, 2017: the bucket of dumps was empty",
    "postgresql/all-cut": "trade: the pipe's status is gzip's, and pg_dumpall's is lost",
    "postgresql/all-lost-a-database": "trade: --exclude-database with a pattern that was too wide",
    "postgresql-physical/first-segment-missing": "trade: pg_archivecleanup, told of the wrong segment",
    "postgresql-physical/a-segment-missing": "pgBackRest's archive-push-queue-max: said and dropped",
    "postgresql-physical/another-timeline": "trade: the history of a promotion was never archived",
    "postgresql-physical/label-lost": "PostgreSQL's documentation: a backup_label that was removed",
    "postgresql-physical/tablespace-missing": "trade: links were copied, and not what they name",
    "firebird/file-copied-plainly": "Firebird's FAQ: the file of a database in use is not to be copied",
    "firebird/cut-near-the-end": "trade: nobody looked at gbak's exit status, the disk was full",
    "firebird/definitions-only": "trade: `-m` left in the job after a migration",
    "firebird/another-database": "trade: an alias of databases.conf led to another database",
    "firebird/gzip-cut": "trade: the pipe's status is gzip's, and gbak's is lost",
    "firebird/empty-file": "trade: the account may not open the database, the shell made the file",
    "firebird/triggers-and-routines-lost": "trade: a data pump copied the tables only",
    "firebird/stale-by-a-check": "trade: the job went on with the copy of before the migration",
    "firebird/file-cut": "trade: the copy was interrupted, and nobody compared sizes",
    "firebird/a-table-missing": "trade: an upgrade dropped what it had not moved",
    "samba-ad/partition-missing": "Samba's wiki: what lies in sam.ldb.d is the database",
    "samba-ad/key-missing": "trade: a script from before Samba 4.8 knows no encrypted_secrets.key",
    "samba-ad/secrets-missing": "trade: a copy of sam.ldb by hand leaves secrets.tdb behind",
    "samba-ad/cut": "trade: the share was full, and nobody looked at what samba-tool said",
    "samba-ad/users-deleted": "trade: a script for leavers ran with an empty list of who stays",
    "mariadb/definer-missing": "trade: error 1449 on the day of the restore",
    "mariadb/letters-encoded-twice": "trade: UTF-8 in latin1 tables since MySQL 4.1",
    "mariadb/letters-became-question-marks": "trade: utf8 is three bytes in MySQL",
    "mariadb/a-broken-view-dumped-by-force": "trade: error 1356, and --force so that it goes on",
    "mariadb/lost-its-trailer": "trade: mysqldump was killed with its shell",
    "mariadb/cut-between-tables": "mysqldump stops at error 2013 between two tables",
    "sqlite/half-copied": "neotoma#2075 and audiobook-studio#246",
    "sqlite/script-rolled-back": "SQLite's forum: `.dump` ends with ROLLBACK -- due to errors",
    "openldap/ldapsearch-in-its-place": "trade: passwords and operational attributes are missing",
    "files/encrypted-names-kept": _CONTI,
    "files/renamed": _CONTI,
    "files/encrypted-in-part": _PARTIAL,
    "files/zeroes": "trade: XFS after a power cut",
    "restic/pack-missing": "restic's forum: a sync that was told to skip large files",
}
