"""The hospital's own backup jobs: real tools, with rights that BackupGuard never has."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from backupguard.demo import others, programs, s3_server
from backupguard.demo.layout import Layout, write_script, write_secret
from backupguard.demo.programs import Source
from backupguard.demo.s3_server import S3Server

HOST = "belle-rive"
BUCKET = "belle-rive"
LOCKED_BUCKET = "belle-rive-verrou"
_LOCKED_DAYS = 30
_STANZA = "pharma"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Where the hospital's backup tools are; only the rest-server may be missing."""

    restic: Path
    borg: Path
    pgbackrest: Path
    barman: Path
    rest_server: Path | None


def tools() -> Tools:
    """Look for every tool before anything is made. Raises MissingMeans (program_missing)."""
    s3_server.program()
    programs.required("mariadbd", "mariadb-server")
    programs.required("slapd")
    programs.required("ldapsearch", "ldap-utils")
    return Tools(
        restic=programs.required("restic"),
        borg=programs.required("borg", "borgbackup"),
        pgbackrest=programs.required("pgbackrest"),
        barman=programs.required("barman"),
        rest_server=programs.rest_server(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Restic:
    """restic as the hospital's own backup job calls it: with write rights, unlike BackupGuard."""

    program: Path
    repository: str
    password_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, *arguments: str | Path) -> str:
        """Run restic on this repository and return what it printed."""
        environment = {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD_FILE": str(self.password_file),
            **self.environment,
        }
        argv = [self.program, "--no-cache", "-q", *arguments]
        return programs.call(argv, environment=environment)

    def back_up(self, **paths: Path) -> None:
        """Make the repository, and a snapshot of each path under its name as a tag."""
        self.call("init")
        for tag, path in paths.items():
            self.call("backup", "--tag", tag, "--host", HOST, path)


def dump(layout: Layout, server: Source, pharma: Source) -> None:
    """Dump the databases: some for others to save, and some into a directory where dumps stay."""
    server.dump("dpi", layout.dumps / "dpi.dump")
    pharma.dump("pharmacie", layout.dumps / "pharmacie.dump")
    server.dump("labo", layout.exports / f"labo-{_now()}.dump")
    others.directory(layout)
    others.sterile_goods(layout)
    invoices = others.invoices(layout, datetime.now(ZoneInfo("Europe/Paris")))
    invoices.rename(layout.exports / f"facturation-{_now()}.sql")


def _now() -> str:
    return f"{datetime.now(ZoneInfo('Europe/Paris')):%Y%m%d-%H%M%S}"


def with_restic(layout: Layout, program: Path, coffre_port: int | None) -> None:
    """Save dumps and letters into the directory and, if it has a port, some into the rest-server."""
    dpi = layout.dumps / "dpi.dump"
    nas = Restic(
        program=program, repository=str(layout.nas), password_file=write_secret(layout, "nas")
    )
    directory, goods = layout.dumps / "annuaire.ldif", layout.dumps / "sterilisation.db"
    nas.back_up(dpi=dpi, ged=layout.documents, annuaire=directory, sterilisation=goods)
    if coffre_port is not None:
        coffre = Restic(
            program=program,
            repository=f"rest:http://127.0.0.1:{coffre_port}/",
            password_file=write_secret(layout, "coffre"),
        )
        coffre.back_up(dpi=dpi, annuaire=directory)


@contextmanager
def vault(layout: Layout, program: Path) -> Iterator[int]:
    """Run the rest-server, append-only, until the block ends, and yield its port on loopback."""
    port = programs.free_port()
    argv = (
        program,
        "--append-only",
        "--no-auth",  # on loopback, and restic encrypts: what it keeps is of no use to others
        "--listen",
        f"127.0.0.1:{port}",
        "--path",
        layout.coffre,
    )
    write_script(layout.coffre_script, argv)
    log = layout.log / "coffre.log"
    with programs.running(argv, lambda: programs.listens(port), log):
        yield port


def with_borg(layout: Layout, program: Path) -> None:
    """Save the pharmacy's dump and the images into a new encrypted borg repository."""
    secret = write_secret(layout, "borg")
    environment = {
        "BORG_BASE_DIR": str(layout.source / "borg"),
        "BORG_PASSCOMMAND": f"cat {shlex.quote(str(secret))}",
    }
    programs.call([program, "init", "-e", "repokey", layout.borg], environment=environment)
    for name, path in (
        ("pharmacie", layout.dumps / "pharmacie.dump"),
        ("imagerie", layout.images),
    ):
        archive = f"{layout.borg}::{name}-{_now()}"
        programs.call([program, "create", archive, path], environment=environment)


def to_cloud(layout: Layout, server: S3Server) -> None:
    """Upload the laboratory's dump and an archive of the images into a bucket that keeps versions."""
    write_secret(layout, "cloud", server.credentials("auditor"))
    write_script(layout.cloud_script, server.argv, server.environment)
    admin = server.client()
    admin.create_bucket(Bucket=BUCKET)
    admin.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    images = layout.source / "images.tar"
    programs.call(["tar", "-cf", images, "-C", layout.source, layout.images.name])
    writer = server.client("writer")
    (labo,) = layout.exports.glob("labo-*.dump")
    (invoices,) = layout.exports.glob("facturation-*.sql")
    archive = (images, f"imagerie-{_now()}.tar")
    for path, name in ((labo, labo.name), (invoices, invoices.name), archive):
        writer.upload_file(str(path), BUCKET, f"dumps/{name}")


def to_locked_bucket(layout: Layout, server: S3Server, program: Path) -> None:
    """Save the records' dump into a bucket whose objects nobody deletes for a month."""
    server.client().create_bucket(Bucket=LOCKED_BUCKET, ObjectLockEnabledForBucket=True)
    server.client().put_object_lock_configuration(
        Bucket=LOCKED_BUCKET,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": _LOCKED_DAYS}},
        },
    )
    write_secret(layout, "verrou-reader", server.credentials("auditor"))
    write_secret(layout, "writer", server.credentials("writer"))
    repository = Restic(
        program=program,
        repository=f"s3:{server.endpoint}/{LOCKED_BUCKET}",
        password_file=write_secret(layout, "verrou"),
        environment={"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writer-secret"},
    )
    repository.back_up(dpi=layout.dumps / "dpi.dump")


def onto_disk(layout: Layout, program: Path) -> UUID:
    """Save the records' dump onto a disk of its own, an image file; return its file system's UUID.

    It is filled as a directory and made into an ext4 image: an ordinary user mounts nothing.
    """
    content = layout.source / "disque-rouge"
    content.mkdir()
    repository = Restic(
        program=program,
        repository=str(content / "restic"),
        password_file=write_secret(layout, "disque"),
    )
    repository.back_up(dpi=layout.dumps / "dpi.dump")
    used = sum(path.stat().st_size for path in content.rglob("*") if path.is_file())
    identity = uuid4()
    mebibytes = used // (1 << 20) * 5 // 4 + 32
    programs.call(
        [
            *("/usr/sbin/mke2fs", "-q", "-t", "ext4", "-U", str(identity), "-L", "disque-rouge"),
            *("-d", content, layout.medium, f"{mebibytes}M"),
        ]
    )
    shutil.rmtree(content)
    return identity


def reporting(layout: Layout) -> None:
    """Archive the letters onto a disk, by a command that `backupguard report-run` reports."""
    archive = layout.disk / "ged.tar.gz"
    report = (Path(sys.executable).parent / "backupguard", "report-run", "--job", "ged.disque")
    told = ("--spool", layout.spool, "--artifact", archive)
    programs.call(
        [*report, *told, "--", "tar", "-czf", archive, "-C", layout.source, layout.documents.name]
    )


# ------------------------------------------------------------- the second server, saved as a whole


def archive_command(layout: Layout, program: Path) -> str:
    """Write pgBackRest's configuration but for the server; return how a segment is archived."""
    work = layout.source / "pgbackrest"
    for name in ("lock", "log", "spool"):
        (work / name).mkdir(parents=True)
    secret = write_secret(layout, "pgbackrest").read_text(encoding="ascii").strip()
    place = layout.etc / "pgbackrest.conf"
    place.touch(mode=0o600)
    place.write_text(
        f"[global]\nrepo1-path={layout.pgbackrest}\nrepo1-cipher-type=aes-256-cbc\n"
        f"repo1-cipher-pass={secret}\nrepo1-retention-full=2\nlog-path={work}/log\n"
        f"lock-path={work}/lock\nspool-path={work}/spool\nstart-fast=y\nprocess-max=2\n"
        f"[{_STANZA}]\npg1-path={layout.source}/pharma/data\npg1-user=postgres\n",
        encoding="utf-8",
    )
    command = shlex.join([*_pgbackrest(layout, program), "archive-push"])
    return command.replace("%", "%%") + " %p"  # PostgreSQL puts the segment's path there


def _pgbackrest(layout: Layout, program: Path) -> list[str]:
    return [str(program), f"--config={layout.etc}/pgbackrest.conf", f"--stanza={_STANZA}"]


def with_pgbackrest(layout: Layout, program: Path, pharma: Source) -> None:
    """Save the second server with pgBackRest, where its log is archived from now on."""
    with (layout.etc / "pgbackrest.conf").open("a", encoding="utf-8") as file:
        file.write(f"pg1-socket-path={pharma.socket}\npg1-port={pharma.port}\n")
    argv: list[str | Path] = [*_pgbackrest(layout, program)]
    programs.call([*argv, "stanza-create"])
    programs.call([*argv, "--type=full", "backup"])


@contextmanager
def streaming(layout: Layout, program: Path, pharma: Source) -> Iterator[None]:
    """Have Barman receive the second server's log through a slot of its own, until the block ends."""
    place = layout.etc / "barman.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    for directory in (layout.barman, layout.etc / "barman.d"):
        directory.mkdir(mode=0o700)
    place.write_text(
        f"[barman]\nbarman_home = {layout.barman}\nbarman_user = {user}\n"
        f"configuration_files_directory = {layout.etc}/barman.d\nlog_file = {layout.log}/barman.log\n"
        f"[{_STANZA}]\ndescription = pharmacie\nconninfo = {pharma.conninfo}\n"
        f"streaming_conninfo = {pharma.conninfo}\nbackup_method = postgres\n"
        "streaming_archiver = on\nslot_name = barman\ncompression = gzip\n"
        f"immediate_checkpoint = true\npath_prefix = {pharma.programs}\n",
        encoding="utf-8",
    )
    barman = _barman(layout, program)
    programs.call([*barman, "receive-wal", "--create-slot", _STANZA])
    slot = "select count(*) from pg_replication_slots where active"
    log = layout.log / "barman-receive-wal.log"
    with programs.running(
        [*barman, "receive-wal", _STANZA],
        lambda: pharma.psql("postgres", "-c", slot).strip() == "1",
        log,
    ):
        yield


def _barman(layout: Layout, program: Path) -> list[str | Path]:
    return [program, "-q", "-c", layout.etc / "barman.conf"]


def with_barman(layout: Layout, program: Path, pharma: Source) -> None:
    """Save the second server with Barman, which wants log of it before."""
    arrived = layout.barman / _STANZA / "streaming"
    # A segment ends where the next one begins, and an idle server would leave that to its own time.
    pharma.psql("postgres", "-c", "select pg_switch_wal()", "-c", "checkpoint")
    programs.wait_until(lambda: any(len(path.name) == 24 for path in arrived.iterdir()), "barman")
    barman = _barman(layout, program)
    programs.call([*barman, "archive-wal", _STANZA])
    programs.call([*barman, "backup", "--wait", _STANZA])
