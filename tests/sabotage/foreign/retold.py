"""Cases of our own families that really happened elsewhere: which, and who told it.

Each names where it was told: an address, or a title that finds it. What is only known to whoever
restores such backups for a living is no case of this directory.
"""

from __future__ import annotations

from collections.abc import Mapping

_FIREDRILL = "firedrill's README, measured again here"
_CONTI = ("copies of what was encrypted", "HSE Ireland, 2021, Conti: PwC's post-incident review")
_PARTIAL = "Sophos on LockFile, 2021; SentinelLabs on BlackCat, 2022"
_QUICK_START = "https://firebirdsql.org/file/documentation/reference_manuals/user_manuals/html"
_GLIBC = "Crunchy Data on glibc 2.28"


def _github(place: str) -> str:
    return f"https://github.com/{place}"


_TOLD: Mapping[str, tuple[str, str]] = {
    "postgresql/plain-cut-in-a-copy": (
        "a full disk cut the dumps for months, the script went on",
        f"{_github('k0lter/autopostgresqlbackup/issues/2')}; {_FIREDRILL}",
    ),
    "postgresql/plain-cut-within-a-row": ("psql restores it and exits 0", _FIREDRILL),
    "postgresql/custom-cut-in-the-middle": ("`pg_restore --list` exits 0", _FIREDRILL),
    "postgresql/custom-cut-near-the-end": (
        "pg_dump lost its server, the pipe closed the object: the newest dump is cut",
        _github("cagriekin/charts/issues/159"),
    ),
    "postgresql/unknown-extension": (
        "not in the image, called a broken backup",
        "databasus#732",
    ),
    "postgresql/unknown-collation": ("another system", "PostgreSQL wiki, Locale data changes"),
    "postgresql/duplicate-keys": ("duplicates behind an index in another order", _GLIBC),
    "postgresql/materialised-view-empty": ("never filled", "firedrill, MATVIEW_UNPOPULATED"),
    "postgresql/sequence-behind": (
        "the first write after the restore fails",
        _github("DeliciousBuding/metapi-go/issues/1217"),
    ),
    "postgresql/no-keys-nor-indexes": (
        "keys and indexes are gone after a restore, in silence",
        _github("timescale/timescaledb/issues/1548"),
    ),
    "postgresql/no-file-at-all": ("the bucket of dumps was empty", "GitLab.com, 2017"),
    "postgresql/all-cut": (
        "`pg_dumpall | gzip`, killed: a sound archive of half a dump",
        _github("Security-Onion-Solutions/securityonion/pull/15896"),
    ),
    "postgresql-physical/first-segment-missing": (
        "the tool that keeps the log deleted what the newest copy begins with",
        _github("EnterpriseDB/barman/issues/42"),
    ),
    "postgresql-physical/a-segment-missing": (
        "archive-push-queue-max: said and dropped",
        "https://pgbackrest.org/configuration.html",
    ),
    "postgresql-physical/another-timeline": (
        "the archive went over to a timeline that the copy is no part of",
        _github("pgbackrest/pgbackrest/issues/2669"),
    ),
    "postgresql-physical/label-lost": (
        "the server's own hint says to remove backup_label",
        _github("ossc-db/pg_rman/issues/136"),
    ),
    "postgresql-physical/tablespace-missing": (
        "the tool did not pick tablespaces",
        _github("wal-g/wal-g/issues/31"),
    ),
    "postgresql-physical/tablespace-tar-missing": (
        "only base.tar.gz and pg_wal.tar.gz are looked at",
        _github("apecloud/kubeblocks/issues/4632"),
    ),
    "mariadb/a-table-missing": (
        "a table that is asked for and not found is left out without a word",
        _github("ifsnop/mysqldump-php/pull/46"),
    ),
    "mariadb/empty-database": (
        "a dump may be empty and nobody notices",
        _github("ifsnop/mysqldump-php/pull/46"),
    ),
    "mariadb/definer-missing": (
        "the definer is not on the new server: no data in the client, and no error",
        _github("chris2511/xca/issues/268"),
    ),
    "mariadb/letters-became-question-marks": (
        "mysqldump without utf8mb4",
        _github("spatie/laravel-backup/issues/411"),
    ),
    "mariadb/lost-its-trailer": (
        "something kills mysqldump, and nobody can tell",
        _github("xibodevelopment/backupwordpress/issues/979"),
    ),
    "mariadb/cut-between-tables": (
        "error 2013 in mid-dump, then `completed successfully`",
        _github("nfrastack/db-backup/issues/398"),
    ),
    "mariadb-physical/one-in-the-middle-missing": (
        "an increment failed, the next was taken upon another LSN",
        _github("dotmanila/pyxbackup/issues/1"),
    ),
    "mariadb-physical/never-finished": (
        "the copy ended with an error, its job as completed",
        _github("mariadb-operator/mariadb-operator/issues/27"),
    ),
    "mariadb-physical/log-missing": (
        "the redo log was not copied, the copy completed all the same",
        _github("percona/percona-xtrabackup/pull/81"),
    ),
    "mariadb-physical/log-of-an-increment-cut": (
        "the log was not applied to the intended LSN: a warning, no error",
        _github("percona/percona-xtrabackup/pull/3"),
    ),
    "sqlite/half-copied": (
        "a copy without its log, `verified: true`",
        _github("senigami/audiobook-studio/issues/246"),
    ),
    "sqlite/script-rolled-back": ("`.dump` ends with ROLLBACK", "SQLite's forum"),
    "firebird/file-copied-plainly": (
        "no file of a running database is to be copied",
        f"{_QUICK_START}/qsg25-safety.html",
    ),
    "firebird/cut-near-the-end": (
        "the application said success, gbak asks for the second disk",
        _github("FirebirdSQL/NETProvider/issues/1108"),
    ),
    "firebird/triggers-and-routines-lost": (
        "a restore that stopped left a database without them; its backups are of that",
        _github("FirebirdSQL/firebird/issues/9003"),
    ),
    "openldap/ldapsearch-in-its-place": (
        "no UUIDs and nobody's dates",
        "https://serverfault.com/questions/577356/ldap-backup-with-slapcat-vs-ldapsearch",
    ),
    "samba-ad/secrets-missing": (
        "secrets.tdb is missing from the backup set",
        _github("NethServer/dev/issues/5228"),
    ),
    "files/encrypted-names-kept": _CONTI,
    "files/renamed": _CONTI,
    "files/encrypted-in-part": ("intermittent encryption", _PARTIAL),
    "files/zeroes": (
        "files copied in the wrong moment hold zeroes",
        _github("openzfs/zfs/issues/15526"),
    ),
    "restic/pack-missing": ("a sync that was told to skip large files", "restic's forum"),
}
RETOLD: Mapping[str, str] = {name: f"{what}: {where}" for name, (what, where) in _TOLD.items()}
