"""A server on a recovered data directory: its databases, what it lacks here, its own consistency."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from backupguard.contracts import Trial
from backupguard.errors import BackupDefect, MissingMeans, Misunderstood
from backupguard.model import CheckResult, Verdict
from restore_tests import postgresql_checks, shape
from restore_tests.postgresql_physical_recovery import CONFIGURATION
from restore_tests.postgresql_server import (
    DATA,
    ENVIRONMENT,
    SOCKETS,
    PostgresqlServer,
    no_shell,
)

#: The database of a server that nobody made: it is asked only where there is no other.
_OWN = "postgres"
_LIBRARY = re.compile(r"\$libdir/([A-Za-z0-9_][A-Za-z0-9_.-]*)\Z")
_EVENT_TRIGGERS_SETTING = 17
_STOP_S = 600

_DATABASES = """\
select 'database', datname, pg_database_size(oid) from pg_catalog.pg_database
  where datallowconn and not datistemplate order by 3 desc, 2;
select 'tablespace', count(*) from pg_catalog.pg_tablespace t
  where spcname not in ('pg_default', 'pg_global')
  and not exists (select from pg_catalog.pg_ls_dir('pg_tblspc') as found where found = t.oid::text);
"""
#: Event triggers are the backup's own code: they answer to no statement of ours.
_OPEN = """\
update pg_catalog.pg_event_trigger set evtenabled = 'D';
select 'library', probin from (select distinct probin from pg_catalog.pg_proc) p
  where probin is not null;
select 'amcheck', count(*) from pg_catalog.pg_extension where extname = 'amcheck';
select 'collation', count(*) from pg_catalog.pg_collation
  where collversion <> pg_catalog.pg_collation_actual_version(oid);
select 'open', count(*) from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm', 'p', 'v', 'f') and n.nspname !~ '^pg_'
  and n.nspname <> 'information_schema';
select 'version', current_setting('server_version');
"""
#: Since PostgreSQL 15 a database knows by which rules of the system its texts are sorted.
_DATABASE_COLLATION = """\
select 'collation', count(*) from pg_catalog.pg_database
  where datcollversion <> pg_catalog.pg_database_collation_actual_version(oid) and datallowconn;
"""
_DATABASE_COLLATION_SINCE = 15

_CHECKSUMS = r"""
said=$("$@" 2>&1); status=$?
count() { printf '%s\n' "$said" | grep -cE -e "$1"; }
echo "bad $(count 'checksum verification failed in file')"
echo "short $(count 'could not read block')"
echo "status $status"
"""


@dataclass(slots=True, kw_only=True)
class PhysicalServer(PostgresqlServer):
    """The server of one trial, on the data that the backup brought."""

    databases: int = 0
    had_amcheck: bool = False
    other_collation: bool = False  # texts are sorted by other rules here than where they came from

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.programs.parent.name)

    def start(self) -> None:
        """Start on the data as they lie; raise MissingMeans when it does not come up."""
        argv = [str(self.programs / "postgres"), "-D", DATA, "-c", f"config_file={CONFIGURATION}"]
        if self.major >= _EVENT_TRIGGERS_SETTING:
            argv += ["-c", "event_triggers=off"]
        self.server = self.sandbox.start(
            argv,
            scratch=True,
            shared=(SOCKETS,),
            environment=ENVIRONMENT,
            log="postgres",
            shell=no_shell(),
        )
        self._wait_until_ready()

    def stop_cleanly(self) -> None:
        """Stop with everything written; raises Misunderstood when it did not end by itself."""
        server, self.server = self.server, None
        if server is not None and server.stop(signal.SIGINT, _STOP_S).returncode != 0:
            raise Misunderstood("unknown_exit", program="postgres")

    def choose(self, wanted: str | None) -> None:
        """Choose the database that is asked: the one named, else the biggest of the site's own."""
        rows = self.query(_DATABASES, database="template1")
        names = [row[1] for row in rows if row[0] == "database" and len(row) == 3]
        if any(row[0] == "tablespace" and row[1] != "0" for row in rows):
            raise BackupDefect("missing_object", objects="tablespace")
        own = [name for name in names if name != _OWN] or names
        self.databases = len(own)
        if wanted is not None:
            if wanted not in names:
                raise BackupDefect("wrong_content")
            self.database = wanted
            return
        if not own:
            raise BackupDefect("empty")
        self.database = own[0]

    def open(self) -> dict[str, str]:
        """Open the chosen database; return what it said, raises MissingMeans (extension_missing)."""
        script = _OPEN
        if self.major >= _DATABASE_COLLATION_SINCE:
            script += _DATABASE_COLLATION
        rows = self.query(script)
        said = {row[0]: row[1] for row in rows if len(row) == 2}
        if not said.get("open", "").isdigit() or not said.get("amcheck", "").isdigit():
            raise MissingMeans("server_refused", program="postgres", status=1)
        self.had_amcheck = said["amcheck"] != "0"
        self.other_collation = any(row[0] == "collation" and row[1] != "0" for row in rows)
        for row in rows:
            if row[0] == "library":
                self._require_library(row[1])
        return said

    def _require_library(self, name: str) -> None:
        found = _LIBRARY.match(name)
        library = found[1].removesuffix(".so") + ".so" if found else ""
        top = self.programs.parent
        places = (top / "lib", top / "lib" / "postgresql")
        if not any((place / library).is_file() for place in places if library):
            raise MissingMeans("extension_missing", program="postgresql")

    def check_pages(self, trial: Trial, *, enabled: bool) -> CheckResult:
        """Verify the checksum of every page, with the server stopped meanwhile.

        Raises BackupDefect (corrupt) where one is wrong.
        """
        if not enabled:
            return shape.result("page-checksums", "no_page_checksums", wrong=True)
        self.stop_cleanly()
        done = self.sandbox.run(
            [
                *("/bin/sh", "-c", _CHECKSUMS, "sh", str(self.programs / "pg_checksums")),
                *("--check", "-D", DATA),
            ],
            scratch=True,
            environment=ENVIRONMENT,
            timeout_s=int(trial.memory.get("timeout_s", 3600)),
        )
        lines = (
            line.partition(" ") for line in done.stdout.decode("ascii", "replace").splitlines()
        )
        counts = {name: int(number) for name, _, number in lines if number.isdigit()}
        if counts.get("bad") or counts.get("short"):
            raise BackupDefect("corrupt", count=counts["bad"] + counts["short"])
        if counts.get("status") != 0:
            raise Misunderstood("unknown_exit", program="pg_checksums")
        self.start()
        return CheckResult(name="page-checksums", level=2, verdict=Verdict.PASSED, code=shape.OK)

    def consistency(self, trial: Trial) -> Iterator[CheckResult]:
        """Check tables and indexes of every database; raises BackupDefect (corrupt) after the check.

        Where texts are sorted by other rules than at the source, an index that looks broken may be
        sound: that accuses nobody.
        """
        found = postgresql_checks.consistency(trial, everywhere=True)
        if not self.had_amcheck:
            self.query("drop extension if exists amcheck;\n")
        damaged = found.verdict is Verdict.FAILED
        if damaged and self.other_collation:
            yield CheckResult(
                name=found.name,
                level=found.level,
                verdict=Verdict.COULD_NOT_VERIFY,
                code="consistency_unknown",
                numbers=found.numbers,
            )
            return
        yield found
        if damaged:
            # what it is asked next, it might not be able to answer
            raise BackupDefect("corrupt")
