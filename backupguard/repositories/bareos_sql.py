# ruff: noqa: S608 - statements are made here, of constants, numbers and quoted literals
"""The statements asked of a catalogue, and no others: SELECTs on eight tables.

Names are never quoted, so that PostgreSQL folds them as Bacula (9 to 15) and Bareos (17 to 24) made
them and SQLite does not care. Source: Bacula's Developer's Guide, "Catalog Services", and the scripts
`make_postgresql_tables` and `make_sqlite3_tables` that come with the director.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from backupguard.contracts import JobSelector

#: What must be readable. `File` is not among them: names of patients' files are never asked for.
TABLES = ("job", "client", "fileset", "pool", "jobmedia", "media", "version")

#: More names than this are not put into a statement; the rows are then sorted out here.
_MOST_NAMES = 200

#: A backup whose data the catalogue has given up: its volumes are recycled, or there are none left.
_GONE = """(j.JobStatus IN ('T', 'W') AND j.JobBytes > 0 AND (
  NOT EXISTS (SELECT 1 FROM JobMedia k WHERE k.JobId = j.JobId)
  OR EXISTS (SELECT 1 FROM JobMedia k JOIN Media n ON n.MediaId = k.MediaId
             WHERE k.JobId = j.JobId AND n.VolStatus IN ('Purged', 'Recycle'))))"""

#: Backups, copies of backups and archived backups; not the jobs that copy, restore, verify.
_KEPT = f"j.Type IN ('B', 'C', 'A') AND NOT {_GONE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database says what the standard leaves open."""

    joined: str  # the distinct values of a group as one text
    seconds: str  # a time stamp as seconds since 1970, its digits taken for UTC


POSTGRESQL = Dialect(
    joined="string_agg(DISTINCT {0}, ',')", seconds="CAST(extract(epoch FROM {0}) AS bigint)"
)
SQLITE = Dialect(
    joined="group_concat(DISTINCT {0})", seconds="CAST(strftime('%s', {0}) AS integer)"
)


def literal(text: str) -> str:
    """Return a string literal of standard SQL; raise ValueError for what no literal can hold."""
    if "\0" in text:
        raise ValueError("a name with a null byte")
    return "'" + text.replace("'", "''") + "'"


def asked(jobs: Sequence[JobSelector]) -> str:
    """Return the condition that holds for at least all rows of these jobs."""
    for column, values in (
        ("j.Name", [selector.name for selector in jobs]),
        ("c.Name", [selector.host for selector in jobs]),
    ):
        named = sorted({value for value in values if value is not None})
        if values and None not in values and len(named) <= _MOST_NAMES:
            return f"{column} IN ({', '.join(map(literal, named))})"
    return "1 = 1"


def history(dialect: Dialect, condition: str, chains_of: int | None = None) -> str:
    """Return the statement for one row per standing backup, with the volumes it lies on.

    With `chains_of`, only those since the last full backup that was made before that job: all that
    jobs from there on can need.
    """
    recent, limit = "", ""
    if chains_of is not None:
        recent = f"""
LEFT JOIN (
  SELECT b.Name AS b_name, b.Type AS b_type, b.ClientId AS b_client, b.FileSetId AS b_fileset,
    max(b.StartTime) AS b_started
  FROM Job b
  WHERE b.Level IN ('F', 'f') AND b.JobStatus IN ('T', 'W') AND b.JobId < {int(chains_of)}
  GROUP BY b.Name, b.Type, b.ClientId, b.FileSetId
) r ON r.b_name = j.Name AND r.b_type = j.Type AND r.b_client = j.ClientId
  AND r.b_fileset = j.FileSetId"""
        limit = " AND (r.b_started IS NULL OR j.StartTime IS NULL OR j.StartTime >= r.b_started)"
    expiry = dialect.seconds.format("m.LastWritten") + " + m.VolRetention"
    return f"""
SELECT j.JobId AS id, j.Name AS name, j.Type AS type, j.Level AS level, j.JobStatus AS status,
  j.SchedTime AS scheduled, j.StartTime AS started, j.EndTime AS ended, j.JobTDate AS ended_utc,
  j.JobFiles AS files, j.JobBytes AS bytes, j.JobErrors AS errors, j.PriorJobId AS prior,
  j.PurgedFiles AS files_pruned, j.ClientId AS client_id, j.FileSetId AS fileset_id,
  c.Name AS client, f.FileSet AS fileset, p.Name AS pool, o.Type AS prior_type,
  v.volumes AS volumes, v.names AS volume_names, v.kinds AS media, v.broken AS volumes_broken,
  v.expires AS expires
FROM Job j
LEFT JOIN Client c ON c.ClientId = j.ClientId
LEFT JOIN FileSet f ON f.FileSetId = j.FileSetId
LEFT JOIN Pool p ON p.PoolId = j.PoolId
LEFT JOIN Job o ON o.JobId = j.PriorJobId AND j.PriorJobId > 0
LEFT JOIN (
  SELECT k.JobId AS job_id, count(DISTINCT k.MediaId) AS volumes,
    {dialect.joined.format("m.VolumeName")} AS names,
    {dialect.joined.format("m.MediaType")} AS kinds,
    sum(CASE WHEN m.VolStatus IN ('Error', 'Disabled') THEN 1 ELSE 0 END) AS broken,
    min(CASE WHEN m.VolStatus IN ('Full', 'Used') AND m.Recycle = 1 THEN {expiry} END) AS expires
  FROM JobMedia k JOIN Media m ON m.MediaId = k.MediaId
  WHERE k.JobId IN (SELECT j.JobId FROM Job j LEFT JOIN Client c ON c.ClientId = j.ClientId
                    WHERE {condition})
  GROUP BY k.JobId
) v ON v.job_id = j.JobId{recent}
WHERE {_KEPT} AND {condition}{limit}
ORDER BY started, id"""


def counts(condition: str) -> str:
    """Return the statement for how many backups stand per job, client and pool."""
    return f"""
SELECT j.Name AS name, c.Name AS client, p.Name AS pool, count(*) AS standing
FROM Job j
LEFT JOIN Client c ON c.ClientId = j.ClientId
LEFT JOIN Pool p ON p.PoolId = j.PoolId
WHERE {_KEPT} AND {condition}
GROUP BY j.Name, c.Name, p.Name"""


def newer(condition: str, newest: int, pending: Collection[int]) -> str:
    """Return the statement for what was made after job `newest`, and for those then under way."""
    wanted = f"j.JobId > {int(newest)}"
    if pending:
        wanted = f"({wanted} OR j.JobId IN ({', '.join(str(int(job)) for job in pending)}))"
    return f"""
SELECT j.JobId AS id, j.Name AS name, j.Type AS type, j.JobStatus AS status
FROM Job j LEFT JOIN Client c ON c.ClientId = j.ClientId
WHERE {wanted} AND {condition}
ORDER BY id"""


def under_way(condition: str) -> str:
    """Return the statement for the jobs that have not ended, and the newest of all as the last row."""
    return f"""
SELECT j.JobId AS id, j.Name AS name, j.Type AS type, j.JobStatus AS status
FROM Job j LEFT JOIN Client c ON c.ClientId = j.ClientId
WHERE j.JobStatus NOT IN ('T', 'W', 'E', 'e', 'f', 'A', 'I') AND {condition}
UNION ALL
SELECT max(j.JobId) AS id, NULL AS name, NULL AS type, NULL AS status FROM Job j
ORDER BY id"""


def since(started: str, condition: str) -> str:
    """Return the statement for runs scheduled after a local time, copies and restores left out."""
    moment = literal(started)
    return f"""
SELECT j.JobId AS id, j.Name AS name, j.Type AS type, j.Level AS level, j.JobStatus AS status,
  j.SchedTime AS scheduled, j.StartTime AS started, j.EndTime AS ended, j.JobTDate AS ended_utc,
  j.JobFiles AS files, j.JobBytes AS bytes, j.JobErrors AS errors, c.Name AS client, p.Name AS pool
FROM Job j
LEFT JOIN Client c ON c.ClientId = j.ClientId
LEFT JOIN Pool p ON p.PoolId = j.PoolId
WHERE j.Type IN ('B', 'A') AND j.SchedTime >= {moment} AND {condition}
ORDER BY id"""


VERSION = "SELECT max(VersionId) AS version FROM Version"

#: PostgreSQL only: who asks, and what of the tables may be read and, wrongly, written.
RIGHTS = f"""
SELECT t.name AS name, to_regclass(t.name) IS NOT NULL AS present,
  CASE WHEN to_regclass(t.name) IS NOT NULL
    THEN has_table_privilege(to_regclass(t.name)::oid, 'SELECT') END AS readable,
  CASE WHEN to_regclass(t.name) IS NOT NULL
    THEN has_table_privilege(to_regclass(t.name)::oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
  END AS writable,
  (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) AS superuser,
  current_setting('server_version_num') AS server
FROM (VALUES {", ".join(f"('{name}')" for name in TABLES)}) t(name)
ORDER BY name"""
