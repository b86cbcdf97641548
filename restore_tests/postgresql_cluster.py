"""What a dump of all databases (`pg_dumpall`) means besides: which of them is the application's."""

from __future__ import annotations

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect
from restore_tests.postgresql_server import PostgresqlServer
from restore_tests.settings import PostgresqlSettings

#: The kind of match; see `postgresql_archive.recognise`.
CLUSTER = "cluster"
#: The database of a server that nobody made: it is asked only where there is no other.
_OWN = "postgres"
_DATABASES = """\
select 'database', datname, pg_database_size(oid) from pg_catalog.pg_database
  where datallowconn and not datistemplate order by 3 desc, 2;
"""


def named(trial: Trial) -> str | None:
    """Return the database that the site names, None where it names none."""
    settings = trial.settings
    if isinstance(settings, PostgresqlSettings) and "database" in settings.model_fields_set:
        return settings.database
    return None


def choose(trial: Trial, server: PostgresqlServer) -> None:
    """Choose the database that is asked: the one named, else the biggest of the site's own.

    Raises BackupDefect: wrong_content where the one named is not in the dump, empty where none is.
    """
    rows = server.query(_DATABASES, database="template1")
    names = [row[1] for row in rows if row[0] == "database" and len(row) == 3]
    own = [name for name in names if name != _OWN]
    wanted = named(trial)
    if wanted is not None and wanted not in names:
        raise BackupDefect("wrong_content")
    server.database = wanted or next(iter(own or names), _OWN)
    trial.memory["databases"] = len(own)
