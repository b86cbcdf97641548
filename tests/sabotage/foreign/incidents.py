"""Ways in which backups of real sites failed, or looked broken and were fine; each tells its story.

The recipes follow what was published; where the story is common knowledge of the trade it says so.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backupguard.model import Verdict
from tests.integration.repositories import restic_maker
from tests.integration.repositories.borg_maker import Borg
from tests.integration.repositories.restic_maker import Restic
from tests.sabotage.corpus import files, mariadb, openldap, postgresql, repository, sqlite
from tests.sabotage.corpus.case import Family, replaced
from tests.sabotage.corpus.repository import back_up
from tests.sabotage.corpus.sources import AT, YESTERDAY, Sources, noise

PG = Family(engine="postgresql", before=postgresql.yesterday, twin=postgresql.today)
MY = Family(engine="mariadb", before=mariadb.yesterday, twin=mariadb.today)
LITE = Family(engine="sqlite", before=sqlite.yesterday, twin=sqlite.TODAY)
LDAP = Family(engine="openldap", before=openldap.ldif(), twin=openldap.ldif())
TREE = Family(engine="files", before=files.yesterday, twin=files.today)
IN_RESTIC = Family(engine="restic", before=repository.restic(), twin=repository.restic())
IN_BORG = Family(engine="borg", before=repository.borg(), twin=repository.borg())


# ------------------------------------------------------------------------------------------- dumps


def _nothing_compressed(sources: Sources, into: Path) -> Path:
    path = into / "dpi.sql.gz"
    path.write_bytes(gzip.compress(b"", mtime=0))
    return path


def _refusal(text: str) -> object:
    def make(sources: Sources, into: Path) -> Path:
        path = into / "dump.sql.gz"
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
        return path

    return make


_ROLE = (
    """do $$ begin if not exists (select from pg_roles where rolname = 'sauvegarde') then
    create role sauvegarde; end if; end $$""",
    "grant usage on schema clinic, public to sauvegarde",
    "grant select on all tables in schema clinic, public to sauvegarde",
    "grant select on all sequences in schema clinic, public to sauvegarde",
)


def _stopped_at_a_lock(sources: Sources, into: Path) -> Path:
    """pg_dump ended at a schema it may not read; the file of months ago kept its name."""
    return postgresql.changed(postgresql._year_before)(sources, into)


def _row_security(role: bool) -> object:
    script = (
        *_ROLE,
        "alter table clinic.letters drop column scan",
        "alter table clinic.observations enable row level security",
        "create policy site on clinic.observations for select to sauvegarde using (stay_id % 2 = 1)",
    )
    options = ("--enable-row-security", "--role=sauvegarde", "--no-blobs") if role else ()
    return postgresql.dump(*script, options=options)


def _row_security_before(sources: Sources, into: Path) -> Path:
    return _row_security(role=False)(sources, into)


def _newer_banner(path: Path) -> Path:
    text = path.read_bytes()
    banner = b"/*M!999999\\- enable the sandbox mode */ \n"
    path.write_bytes(text if text.startswith(banner[:12]) else banner + text)
    return path


def _scan_of_20_megabytes(sources: Sources, into: Path) -> Path:
    return sources.mariadb_dump(
        into,
        "create table scans (id int, page longblob)",
        "insert into scans values (1, repeat('x', 20 * 1024 * 1024))",
    )


def _restricted(path: Path) -> Path:
    """pg_dump since August 2025 begins and ends with commands that older psql refuses."""
    text = path.read_bytes()
    if b"\n\\restrict " in text:
        return path
    key = b"Zq3bWf9uZ0mYkqkNwqJ2w6dHcPq0b1sX"
    head, marker, tail = text.partition(b"\n-- Dumped from")
    end = b"--\n-- PostgreSQL database dump complete\n--\n"
    tail = tail.replace(end, end + b"\n\\unrestrict " + key + b"\n")
    path.write_bytes(head + b"\n\\restrict " + key + b"\n" + marker + tail)
    return path


def _piped_errors(path: Path) -> Path:
    """A client whose messages went into the same file: 140 of them among the statements."""
    lines = path.read_bytes().split(b"\n")
    place = next(n for n, line in enumerate(lines) if line.startswith(b"COPY clinic.stays"))
    said = b"pg_dump: error: query failed: server closed the connection unexpectedly"
    return _written(path, [*lines[: place + 800], said, *lines[place + 800 :]])


def _written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


def _old_orphans() -> object:
    return postgresql.dump(
        "set session_replication_role = replica;"
        " insert into clinic.stays (patient_id, admitted_at, service) values (99999, now(), 'x')"
    )


DUMPS = [
    PG.case("empty-gzip-from-failed-pipe",
            "GitLab.com, 2017: the client of another version failed and the pipe wrote 20 bytes",
            _nothing_compressed, speaks="prepare:empty", words="vide"),
    PG.case("error-message-in-place-of-dump", "2>&1 in a pipe: a valid gzip with one line of text",
            _refusal("pg_dump: error: connection to server failed: FATAL:  no pg_hba.conf entry\n"),
            speaks="prepare:not_a_dump", words="n’est pas un export"),
    MY.case("error-message-in-place-of-dump", "a panel wrote `Access denied` into the dump",
            _refusal("mysqldump: Got error: 1045: Access denied for user 'bad'@'localhost'\n"),
            speaks="prepare:not_a_dump", words="n’est pas un export"),
    LDAP.case("error-message-in-place-of-dump", "slapcat without its configuration",
              _refusal("slapcat: could not stat config file \"/etc/ldap/slapd.d\"\n"),
              speaks="prepare:not_a_dump", words="n’est pas un export"),
    PG.case("backup-user-without-right-on-new-schema",
            "`pg_dump && mv` stops at a new schema; the old file is touched and saved every night",
            _stopped_at_a_lock, plan={"rpo": timedelta(hours=24)},
            speaks="archive-date:stale_data", words="anciennes"),
    PG.case("rls-filters-rows", "--enable-row-security dumps the rows that the role may see",
            _row_security(role=True), before=_row_security_before, twin=_row_security(role=False),
            speaks="rows-lost:rows_lost", words="moitié"),
    PG.case("rls-nobody-knows", "the same, on the first test: the role may have been filtered",
            _row_security(role=True), knows="nothing", says=Verdict.PASSED,
            speaks="row-security:warning_row_security", words="ligne à ligne"),
    PG.case("large-objects-left-out", "-n drops large objects without a word",
            postgresql.dump(options=("--schema=clinic", "--schema=public")),
            speaks="large-objects:large_objects_missing", words="objets volumineux"),
    PG.case("large-objects-nobody-knows", "the same, on the first test",
            postgresql.dump(options=("--schema=clinic",)), knows="nothing",
            speaks="large-objects:large_objects_missing", words="objets volumineux"),
    PG.case("messages-in-the-dump", "the client's errors went into the dump, 2>&1 > file",
            postgresql.changed(_piped_errors, "plain"), twin=postgresql.PLAIN,
            speaks="load:load_refused load:corrupt load:truncated", words="refusé"),
    PG.case("orphans-in-production", "rows written under session_replication_role = replica",
            _old_orphans(), speaks="load:load_refused", words="refusé"),
    MY.case("routines-and-events-missing", "mariadb-dump leaves them out unless asked",
            mariadb.dump(options=()), speaks="objects-lost:missing_object", words="routines"),
    MY.case("routines-and-events-missing-last-test", "the same, where nobody accepted a shape",
            mariadb.dump(options=()), knows="last", says=Verdict.PASSED,
            speaks="objects-lost:warning_missing_object", words="routines"),
    LITE.case("copied-without-wal", "`verified: true` of a copy without its log",
              sqlite._half_copied(with_log=False), before=sqlite._WITH_LOG, twin=sqlite._WITH_LOG,
              speaks="rows-lost:rows_lost", words="moitié"),
    PG.case("ok-roles-missing", "role does not exist: owners are no part of a dump", None,
            twin=postgresql.dump(
                "create role ancien_integrateur",
                "alter table clinic.patients owner to ancien_integrateur",
            )),
    PG.case("ok-not-valid-constraint", "a tool that validates by itself cries", None,
            twin=postgresql.dump("alter table clinic.patients add constraint c check (id > 10)"
                                 " not valid", form="plain")),
    PG.case("ok-restrict", "\\restrict in dumps since August 2025", None,
            twin=postgresql.changed(_restricted, "plain")),
    PG.case("ok-schema-public-exists", "`schema public already exists` is not a failure", None,
            twin=postgresql.changed(lambda p: replaced(p, (
                b"\nCREATE TABLE clinic.letters", (b"\nCREATE SCHEMA public;\n"
                b"CREATE TABLE clinic.letters"))), "plain")),
    MY.case("ok-newer-dump-banner", "`Unknown command '\\-'` since May 2024", None,
            twin=mariadb.changed(_newer_banner)),
    MY.case("ok-row-larger-than-sandbox-packet", "a scan of 20 MB in one row", None,
            twin=_scan_of_20_megabytes),
    PG.case("purge-and-rename-unannounced", "a yearly purge and a renamed table, not accepted yet",
            postgresql.dump("truncate clinic.observations",
                            "alter table clinic.letters rename to documents"),
            speaks="rows-lost:rows_lost tables-lost:tables_lost", words=""),
    PG.case("ok-purge-and-rename-announced", "the same, accepted by a person", None,
            before=(purged := postgresql.dump("truncate clinic.observations",
                                              "alter table clinic.letters rename to documents")),
            twin=purged),
    PG.case("archived-undeclared", "the system replaced in 2019 is still tested as if it lived",
            (archived := postgresql.dump(
                "update clinic.stays set admitted_at = '2019-06-30', left_at = '2019-06-30',"
                " planned_at = '2019-06-30'",
                "update clinic.observations set at = '2019-06-30'",
                "update clinic.patients set cree = '2019-06-30'",
                "update public.heartbeat set beat = '2019-06-30'")),
            says=Verdict.PASSED, speaks="freshness:warning_stale_data", words="anciennes"),
    PG.case("ok-archived-application", "the same, declared", None, twin=archived, before=archived,
            settings={"freshness": {"enabled": False}}),
]  # fmt: skip


# ------------------------------------------------------------------------------------ repositories


def _deduplicated(sources: Sources, into: Path) -> Restic:
    """The pack is damaged; the next backup sends nothing that is known, and says all is well."""
    made = restic_maker.make(into, repository.VERSION)
    sources.sqlite(made.source / "labo.db")
    back_up(made, AT - YESTERDAY)
    pack = max(made.packs(), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[1000:1004] = b"XXXX"
    pack.write_bytes(content)
    (made.source / "notes.txt").write_text("one more file")
    back_up(made, AT)
    return made


def _incomplete(sources: Sources, into: Path) -> Restic:
    """The database could not be read: restic ends with 3 and makes a snapshot without it."""
    made = restic_maker.make(into, repository.VERSION)
    sources.sqlite(made.source / "labo.db").chmod(0)
    (made.source / "readme.txt").write_text("laboratoire")
    at = f"{AT:%Y-%m-%d %H:%M:%S}"
    made.run("backup", "--host", "srv1", str(made.source), "--time", at, check=False,
             env={**os.environ, "TZ": "UTC"})  # fmt: skip
    return made


def _moved(sources: Sources, into: Path) -> Restic:
    """The application moved its data; the job goes on with the directory that is left."""
    made = restic_maker.make(into, repository.VERSION)
    etc = made.source.with_name("etc")
    etc.mkdir()
    (etc / "app.conf").write_text("x")
    made.run("backup", "--host", "srv1", str(made.source.with_name("gone")), str(etc),
             "--time", f"{AT:%Y-%m-%d %H:%M:%S}", check=False,
             env={**os.environ, "TZ": "UTC"})  # fmt: skip
    return made


def _mount_point(sources: Sources, into: Path) -> Restic:
    """The directory became a mount point, and the job stays on one file system."""
    made = restic_maker.make(into, repository.VERSION)
    (made.source / "pacs").mkdir()
    back_up(made, AT)
    return made


def _link(sources: Sources, into: Path) -> Restic:
    """The data directory was replaced by a link: restic stores the link."""
    made = restic_maker.make(into, repository.VERSION)
    (made.source / "labo.db").symlink_to("/srv/nouveau/labo.db")
    back_up(made, AT)
    return made


def _future(sources: Sources, into: Path) -> Restic:
    """A point of 2031 with last year's laboratory beside the true one of this night."""
    made = restic_maker.make(into, repository.VERSION)
    sources.sqlite(made.source / "labo.db", "delete from results where id > 20")
    back_up(made, datetime(2031, 1, 1, 2, tzinfo=UTC))
    (made.source / "labo.db").unlink()
    sources.sqlite(made.source / "labo.db")
    back_up(made, AT)
    return made


def _stale_lock(sources: Sources, into: Path) -> Restic:
    """A client killed in the middle left its lock."""
    made = repository.restic()(sources, into)
    assert isinstance(made, Restic)
    reading, writing = os.pipe()
    client = subprocess.Popen(
        [repository.restic_maker.program(f"restic-{made.version}"), "--repo", made.root,
         "--password-file", made.password, "--no-cache", "backup", "--stdin"],
        stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(reading)
    deadline = time.monotonic() + 20
    while not list((made.root / "locks").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    client.kill()
    client.wait()
    os.close(writing)
    assert list((made.root / "locks").iterdir())
    return made


def _unneeded_pack(sources: Sources, into: Path) -> Restic:
    """A backup that was killed left packs that no index knows: more, not less."""
    made = repository.restic()(sources, into)
    assert isinstance(made, Restic)
    content = noise(20_000)
    name = hashlib.sha256(content).hexdigest()
    (made.root / "data" / name[:2]).mkdir(exist_ok=True)
    (made.root / "data" / name[:2] / name).write_bytes(content)
    return made


def _key_gone(sources: Sources, into: Path) -> Borg:
    """The server was made anew; its key file lay in the old one's home."""
    made = repository.borg(encryption="keyfile")(sources, into)
    assert isinstance(made, Borg)
    home = made.root.with_name(f"{made.root.name}-writer")
    home.rename(home.with_name("the-old-server"))
    return made


def _relative(sources: Sources, into: Path) -> Restic:
    """The backup was made with a relative path: restverify calls all of its files missing."""
    made = repository.restic()(sources, into)
    assert isinstance(made, Restic)
    made.run("backup", "--host", "srv1", made.source.name, "--time",
             f"{AT:%Y-%m-%d %H:%M:%S}", cwd=made.source.parent,
             env={**os.environ, "TZ": "UTC"})  # fmt: skip
    return made


_EMPTY = "select:selection_absent fetch:selection_absent prepare:empty prepare:not_a_dump"
REPOSITORIES = [
    IN_RESTIC.case("deduplicated-corruption", "one damaged pack poisons every later backup",
                   _deduplicated, restored_by="sqlite", speaks="fetch:corrupt fetch:missing_object",
                   words="endommagés"),
    IN_RESTIC.case("incomplete-snapshot-looks-complete", "status 3, `|| true`", _incomplete,
                   restored_by="sqlite", speaks=_EMPTY + " prepare:missing_object"),
    IN_RESTIC.case("path-renamed-nothing-selected", "an update moved the data", _moved,
                   restored_by="sqlite", speaks=_EMPTY + " select:no_points select:no_point"),
    IN_RESTIC.case("moved-to-a-mount-point", "one-file-system: the empty mount point is stored",
                   _mount_point, restored_by="sqlite", speaks=_EMPTY, words="vide"),
    IN_RESTIC.case("replaced-by-a-link", "restic stores the link and no data", _link,
                   restored_by="sqlite", speaks=_EMPTY),
    IN_BORG.case("repository-cannot-be-opened-elsewhere", "the key file went with the old server",
                 _key_gone, restored_by="sqlite", says=Verdict.COULD_NOT_VERIFY,
                 speaks="select:wrong_key select:key_missing", words="clé"),
    IN_RESTIC.case("ok-future-dated-point", "a point of 2031 beside this night's", None,
                   twin=_future, restored_by="sqlite"),
    IN_RESTIC.case("ok-stale-lock", "a killed client left its lock", None, twin=_stale_lock,
                   restored_by="sqlite"),
    IN_RESTIC.case("ok-pack-that-no-index-knows", "a killed backup left a pack", None,
                   twin=_unneeded_pack, restored_by="sqlite"),
    IN_RESTIC.case("ok-relative-path", "saved with a relative path", None, twin=_relative,
                   restored_by="sqlite"),
]  # fmt: skip

TREES = [
    TREE.case("pacs-on-another-volume", "the growing directory was moved and linked",
              files.whole(files._link_away), speaks="tables-lost:tables_lost", words="manquent"),
    TREE.case("encrypted-before-the-copy", "HSE Ireland, 2021: the copies hold what was encrypted",
              files.after(lambda p: (files._encrypt(p), files._rename(p))),
              speaks="extensions:files_renamed same-database:wrong_content", words=""),
    TREE.case("note-in-every-folder", "the same, one folder and a demand",
              files.whole(lambda r: [
                  (folder / "RECOVER-FILES-README.txt").write_text("pay")
                  for folder in r.iterdir() if folder.is_dir()
              ]), says=Verdict.PASSED, speaks="ransom-notes:warning_ransom_notes", words="rançon"),
    TREE.case("ok-one-file-deleted-meanwhile", "borgmatic: one deleted file failed the whole check",
              None, twin=files.whole(lambda r: (r / "notes" / "3.txt").unlink())),
    LITE.case("history-of-one-table-lost", "audiobook-studio: newest commits lack, integrity is ok",
              sqlite.file("delete from results where id > 300"), speaks="rows-lost:rows_lost",
              words="moitié"),
]  # fmt: skip

CASES = [*DUMPS, *REPOSITORIES, *TREES]
