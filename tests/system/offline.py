"""A bare Debian without network or sources of packages: from the bundle to green restore tests.

`script/test-system --bundle` says which machine and bundle: SYSTEM_BARE (a root file system with
nothing but systemd), SYSTEM_BUNDLE (the archive; its key lies beside it).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine
from tests.system.site import CONFIGURATION, UNIT, ready, restored

BUNDLE = Path(os.environ.get("SYSTEM_BUNDLE", ""))
HERE = f"/root/{BUNDLE.name.removesuffix('.tar')}"
KEY = f"/root/{BUNDLE.name.removesuffix('.tar')}.pub"
ENGINES = "/opt/backupguard/engines"
#: Fewer than all where only some are tried.
ADDED = {
    (name.partition("/")[0], name.partition("/")[2])
    for name in os.environ.get(
        "SYSTEM_ENGINES", "postgresql/15 postgresql/17 mariadb/10.11 mariadb/11.8 restic/0.18.0"
    ).split()
}

Figure = Callable[[str, object], None]

_HEAD = """\
[site]
name = "CH d'essai"
timezone = "Europe/Paris"
language = "en"

[scratch]
reserve-percent = 1
reserve = "64MB"
clear-text-accepted-by = "a test machine, no patient in it"

[repositories.exports]
type = "directory"
path = "/srv/exports"
settle = "0s"
failure-domain = "salle-2"

[repositories.nas]
type = "restic"
url = "/srv/restic"
credentials.reader.file = "/etc/backupguard/credentials/restic-nas"
failure-domain = "salle-1"
"""
_APPLICATION = """
[applications.{name}]
name = "{name}"
criticality = "C2"
rpo = "26h"
rto = "8h"

[applications.{name}.backups.nightly]
repository = "{repository}"
select.{select}
every = "24h"

[applications.{name}.restore-test]
engine = "{engine}"{database}

[[applications.{name}.restore-test.checks]]
name = "stays"
sql = "select count(*) from stays"
at-least = 2000
"""
#: Application → where its copy is, how it is selected, by which engine it is restored, which added
#: engine that takes.
_COPIES = {
    name: copy
    for name, copy in {
        "dump15": ("exports", 'pattern = "dump15.dump"', "postgresql", "postgresql/15"),
        "dump17": ("exports", 'pattern = "dump17.dump"', "postgresql", "postgresql/17"),
        "base15": ("exports", 'pattern = "base15"', "postgresql-physical", "postgresql/15"),
        "base17": ("exports", 'pattern = "base17"', "postgresql-physical", "postgresql/17"),
        "maria10": ("exports", 'pattern = "maria10.sql"', "mariadb", "mariadb/10.11"),
        "maria11": ("exports", 'pattern = "maria11.sql"', "mariadb", "mariadb/11.8"),
        "full10": ("exports", 'pattern = "full10"', "mariadb-physical", "mariadb/10.11"),
        "full11": ("exports", 'pattern = "full11"', "mariadb-physical", "mariadb/11.8"),
        "saved": ("nas", 'paths = ["/srv/exports/dump17.dump"]', "postgresql", "postgresql/17"),
    }.items()
    if tuple(copy[3].split("/")) in ADDED
}
#: What the servers of production left, made by the very programs that were added: nothing else is here.
_POSTGRESQL = """\
bin={engines}/postgresql/{version}/bin
as="setpriv --reuid=65534 --regid=65534 --clear-groups env LC_ALL=C.UTF-8 TZ=UTC"
mkdir -p /srv/exports /srv/source{version} && chown 65534:65534 /srv/source{version}
$as $bin/initdb -D /srv/source{version}/data -U postgres -A trust --locale=C.UTF-8 >/dev/null
$as $bin/pg_ctl -D /srv/source{version}/data -w -l /srv/source{version}/log \\
  -o "-k /srv/source{version} -c listen_addresses=" start >/dev/null
to="-h /srv/source{version} -U postgres"
$bin/createdb $to dpi
$bin/psql $to -qX dpi -c 'create table stays as select generate_series(1, 2000) as id'
$bin/pg_dump $to -Fc -f /srv/exports/dump{version}.dump dpi
$bin/pg_basebackup $to -c fast -D /srv/exports/base{version}
$as $bin/pg_ctl -D /srv/source{version}/data -m fast stop >/dev/null
"""
_MARIADB = """\
place={engines}/mariadb/{version}
as="setpriv --reuid=65534 --regid=65534 --clear-groups"
source=/srv/source{short}
mkdir -p /srv/exports $source && chown 65534:65534 $source
base=--basedir=$place/usr
$as $place/bin/mariadb-install-db --no-defaults $base --force --datadir=$source/data --skip-test-db \\
  --auth-root-authentication-method=normal --skip-name-resolve >/dev/null
$as $place/sbin/mariadbd --no-defaults $base --datadir=$source/data --socket=$source/socket \\
  --skip-networking --pid-file=$source/pid >$source/log 2>&1 &
client="$place/bin/mariadb --no-defaults --socket=$source/socket --user=root"
for attempt in $(seq 100); do $client -e 'select 1' >/dev/null 2>&1 && break; sleep 0.2; done
$client -e 'create database dpi'
$client dpi -e 'create table stays (id int primary key) engine=innodb'
$client dpi -e 'insert into stays select seq from seq_1_to_2000'
to="--socket=$source/socket --user=root"
$place/bin/mariadb-dump --no-defaults $to dpi >/srv/exports/maria{short}.sql
$place/bin/mariadb-backup --no-defaults --backup $to --datadir=$source/data \\
  --target-dir=/srv/exports/full{short} >$source/backup.log 2>&1 \\
  || {{ tail -n 5 $source/backup.log >&2; exit 1; }}
kill $(cat $source/pid)
wait
"""
_RESTIC = """\
mkdir -p /etc/backupguard/credentials
(umask 077; echo a-password-of-this-machine >/etc/backupguard/credentials/restic-nas)
export RESTIC_PASSWORD_FILE=/etc/backupguard/credentials/restic-nas
restic={engines}/restic/0.18.0/bin/restic
$restic -q -r /srv/restic init
$restic -q -r /srv/restic backup /srv/exports/dump17.dump
chown -R backupguard: /srv/restic /etc/backupguard/credentials
chgrp -R backupguard /srv/exports && chmod -R g+rX /srv/exports
"""


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """A machine with nothing but Debian's base, that knows of no source of packages."""
    found = Machine(Path(os.environ["SYSTEM_BARE"]))
    try:
        found.boot()
        yield found
    finally:
        found.close()


def test_there_is_no_network_and_no_source_of_packages(bare: Machine) -> None:
    bare.shell("rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/*; : >/etc/apt/sources.list")
    assert bare.run("apt-get", "-qq", "install", "openssl", check=False).returncode != 0
    assert bare.shell("ls /sys/class/net").split() == ["lo"]
    assert "ok installed" not in bare.shell(
        "dpkg-query -W -f '${Status}' python3 bubblewrap openssl 2>/dev/null || true"
    )


def test_the_bundle_is_verified_before_anything_else(bare: Machine, figure: Figure) -> None:
    figure("bundle, MB", round(BUNDLE.stat().st_size / 1e6))
    archive = bare.bring(BUNDLE)
    bare.bring(BUNDLE.with_suffix(".pub"))
    bare.shell(f"cd /root && tar -xf {archive} && rm {archive}")
    sums = bare.shell(f"sha256sum {HERE}/SHA256SUMS").split()[0]

    def refused(*arguments: str, because: str) -> None:
        done = bare.run(f"{HERE}/install", *arguments, check=False)
        assert done.returncode not in {0, 127}
        assert because in done.stderr
        assert bare.run("dpkg-query", "-W", "bubblewrap", check=False).returncode != 0

    refused(because="usage")
    refused("--sums", hashlib.sha256(b"other").hexdigest(), because="not the file with this hash")
    refused("--key", KEY, because="there is no openssl here")
    engine = f"{HERE}/engines/postgresql-17.tar.xz"
    bare.shell(f"cp {engine} /root/kept && truncate -s -1 {engine}")
    refused("--sums", sums, because="damaged, changed or missing")
    bare.shell(f"mv /root/kept {engine} && touch {HERE}/packages/evil_1_amd64.deb")
    refused("--sums", sums, because="not of this bundle")
    bare.shell(f"rm {HERE}/packages/evil_1_amd64.deb; ln -s /etc/passwd {HERE}/link")
    refused("--sums", sums, because="not of this bundle")
    bare.shell(f"rm {HERE}/link")


def test_everything_is_installed_from_the_bundle_alone(bare: Machine, figure: Figure) -> None:
    sums = bare.shell(f"sha256sum {HERE}/SHA256SUMS").split()[0]
    services = bare.shell("systemctl list-units --type=service --no-legend --plain | cut -d' ' -f1")
    began = time.monotonic()
    said = bare.run(f"{HERE}/install", "--sums", sums, timeout=600)
    figure("installed from the bundle, s", f"{time.monotonic() - began:.1f}")
    assert "is installed" in said.stdout, said.stderr
    assert bare.shell("dpkg --audit") == ""
    found = json.loads(bare.run("backupguard", "engines", "list", "--json").stdout)["engines"]
    assert {(one["engine"], Path(one["path"]).name) for one in found} == ADDED
    assert [one["problem"] for one in found] == [None] * len(found)
    assert {one["origin"] for one in found} == {"added"}
    now = bare.shell("systemctl list-units --type=service --no-legend --plain | cut -d' ' -f1")
    assert not {name for name in set(now.split()) - set(services.split()) if "sql" in name}
    packages = bare.shell("dpkg-query -W -f '${Package} ${Status}\\n' | grep 'ok installed'")
    assert not re.findall(r"(?m)^(?:postgresql|mariadb|restic).*", packages)
    # the same once more, with openssl here now, changes nothing
    again = bare.run(f"{HERE}/install", "--key", KEY, timeout=600)
    assert again.stdout.count("already in place") == len(ADDED)


def test_each_copy_is_restored_by_its_own_version(bare: Machine, figure: Figure) -> None:
    for engine, version in sorted(ADDED):
        short = version.partition(".")[0]
        script = {"postgresql": _POSTGRESQL, "mariadb": _MARIADB}.get(engine, "")
        bare.shell(script.format(engines=ENGINES, version=version, short=short))
    bare.shell(_RESTIC.format(engines=ENGINES))
    text = _HEAD
    for name, (repository, select, engine, _) in _COPIES.items():
        database = '\ndatabase = "dpi"' if engine.endswith("-physical") else ""
        text += _APPLICATION.format(
            name=name, repository=repository, select=select, engine=engine, database=database
        )
    bare.write(CONFIGURATION, text)
    bare.run("backupguard", "config", "check")
    began = time.monotonic()
    bare.run("systemctl", "start", UNIT, timeout=120)
    ready(bare)
    for name, (_, _, _, needs) in _COPIES.items():
        run = restored(bare, name)
        assert f'"{needs.partition("/")[2]}.' in json.dumps(run), run
    figure(f"{len(_COPIES)} restore tests, s", f"{time.monotonic() - began:.1f}")
    listed = json.loads(bare.run("backupguard", "engines", "list", "--json").stdout)["engines"]
    (used,) = (one for one in listed if one["path"] == f"{ENGINES}/postgresql/17")
    assert {"base17", "dump17"} <= set(used["applications"])


def test_an_engine_that_is_gone_is_told_and_comes_back(bare: Machine) -> None:
    bare.run("backupguard", "engines", "remove", "postgresql", "17")
    restored(bare, "dump17", "program_missing")
    bare.run("backupguard", "engines", "add", f"{HERE}/engines/postgresql-17.tar.xz")
    restored(bare, "dump17")


def test_wrong_key_full_disk_and_a_kill_change_nothing(bare: Machine) -> None:
    archive = f"{HERE}/engines/postgresql-17.tar.xz"
    add = ("backupguard", "engines", "add")
    bare.shell("openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out /root/other.pub")
    refused = bare.run(*add, "--key", "/root/other.pub", archive, check=False)
    assert (refused.returncode, "not signed with this key" in refused.stderr) == (2, True)
    user = ["setpriv", "--reuid=backupguard", "--regid=backupguard", "--clear-groups"]
    bare.shell(f"chmod 755 /root && mkdir -p /srv/stick && cp {HERE}/engines/* /srv/stick/")
    denied = bare.run(*user, *add, "/srv/stick/postgresql-17.tar.xz", check=False)
    assert (denied.returncode, "Only root" in denied.stderr) == (2, True)
    bare.shell(f"mount -t tmpfs -o size=60M tmpfs {ENGINES}")
    full = bare.run(*add, archive, check=False)
    assert full.returncode == 2
    assert "room" in full.stderr
    assert bare.shell(f"ls {ENGINES}") == ""
    bare.shell(f"umount {ENGINES}")
    bare.run("backupguard", "engines", "remove", "postgresql", "17")
    started = f"setsid backupguard engines add {archive} >/dev/null 2>&1 & echo $!"
    pid = bare.shell(started).strip()
    bare.wait("it unpacks", f"ls -d {ENGINES}/.unfinished-*/tree/usr", 60)
    bare.shell(f"kill -9 {pid}")
    assert not bare.shell(f"ls -d {ENGINES}/postgresql/17 2>/dev/null || true")
    bare.run(*add, archive)
    assert not bare.shell(f"ls -d {ENGINES}/.unfinished-* 2>/dev/null || true")
    restored(bare, "base17")


def test_a_purge_takes_the_engines_away(bare: Machine) -> None:
    bare.run("dpkg", "--purge", "backupguard", timeout=300)
    assert not bare.shell("ls -d /opt/backupguard 2>/dev/null || true")
