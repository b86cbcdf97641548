"""A site with a secret of its own in every setting that names one, and servers that tell them back."""

from __future__ import annotations

import shutil
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import bcrypt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.certificates import Authority
from tests.integration.daemon.living import Site, quiet
from tests.integration.notify import relay
from tests.integration.repositories.restic_maker import Restic
from tests.integration.repositories.servers import await_port, free_port
from tests.integration.security.canaries import Searcher, canary
from tests.integration.security.hostile import Reflectors, reflectors
from tests.programs import program

#: A typed password, and what a person brings for one test: no setting names them.
WEB_USER = "rssi"
USES = ("reader", "backend", "writer-for-probe", "escrow")

#: What each type of repository is told beside its credentials; `{http}` and the like are ports.
REPOSITORIES = {
    "restic": (
        'url = "rest:http://127.0.0.1:{restic}/dpi"\nprogram = "{restic_program}"\ndata-buckets = 1'
    ),
    "borg": 'url = "ssh://backup@127.0.0.2:{tcp}/srv/borg"',
    "directory": 'path = "{directory}/dumps"',
    "pgbackrest": "",
    "barman": 'path = "{directory}/barman"',
    "bareos": 'database = "bareos"\nhost = "127.0.0.1"\nport = {postgresql}',
    "mssql": 'host = "127.0.0.1"\nport = {tcp}\ntimezone = "Europe/Paris"',
    "rman": 'host = "127.0.0.1"\nport = {tcp}\nservice = "DPI"\ntls = false\ntimezone = "Europe/Paris"',
    "proxmox": 'url = "https://localhost:{https}"\nfingerprint = "{fingerprint}"\ndatastore = "main"',
    "veeam": 'url = "https://localhost:{https}"\nfingerprint = "{fingerprint}"\nuser = "viewer"',
    "s3": 'endpoint = "http://127.0.0.1:{http}"\nbucket = "dumps"',
    "import": (
        'file = "{directory}/export.csv"\nsource = "tina"\ncolumns.job = "job"\ncolumns.at = "at"\n'
    ),
    "reported": 'spool = "{directory}/spool"\ntokens."labo.reported".file = "{token}"',
}
#: How a job chooses points there.
SELECTS = {
    "restic": 'select.paths = ["{source}"]',
    "s3": 'select.pattern = "dpi-%Y%m%d.dump"',
    "directory": 'select.pattern = "dpi-%Y%m%d.dump"',
    "reported": "",
}

SITE = """
[site]
name = "CH de Belle-Rive"
[store]
directory = "state"
[http]
listen = "127.0.0.1:{port}"
web-config = "web.yml"
[scratch]
clear-text-accepted-by = "the tests"
[discovery.servers.labo]
engine = "postgresql"
host = "127.0.0.1"
port = {postgresql}
credentials.reader.file = "{discovery}"
[instances.scratch]
kind = "postgresql"
host = "127.0.0.1"
port = {scratch}
tls = "none"
credentials.account.file = "{instance}"
[isolation.vantages.bureautique]
zone = "postes"
witness = "127.0.0.1:{tcp}"
key.file = "{vantage}"
[notify.mail]
host = "localhost"
port = {relay}
ca = "{relay_ca}"
user = "backupguard"
password.file = "{mail}"
from = "backupguard@example.org"
to = ["rssi@example.org"]
minimum-severity = "info"
[notify.dead-man]
url-from.file = "{dead_man}"
[soc.syslog]
host = "127.0.0.1"
port = {collector}
server-name = "localhost"
ca = "{authority}"
certificate = "{client}"
key.file = "{client_key}"
[evidence.anchors.bucket]
type = "s3-lock"
bucket = "anchors"
endpoint = "http://127.0.0.1:{http}"
credentials.file = "{anchor}"
[evidence.anchors.collector]
type = "syslog"
collector.host = "127.0.0.1"
collector.port = {collector}
collector.server-name = "localhost"
collector.ca = "{authority}"
collector.certificate = "{client2}"
collector.key.file = "{client2_key}"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "24h"
[applications.dpi.backups.nightly]
repository = "restic"
every = "24h"
{dpi}
[applications.dpi.restore-test]
engine = "sqlite"
schedule = "0 3 1 1 *"
[applications.labo]
name = "Laboratoire"
criticality = "C2"
rpo = "24h"
"""


@dataclass
class Audited:
    """The site, what it was given, and where that may be."""

    site: Site
    heard: Reflectors
    mails: relay.Relay
    authority: Path
    keys: dict[str, bytes] = field(default_factory=dict)

    @property
    def secrets(self) -> Path:
        return self.site.directory / "secrets"

    def searcher(self) -> Searcher:
        """Return what finds every secret of this site, its signing key once there is one."""
        keys = {
            f"the signing key {path.name}": path.read_bytes()
            for path in sorted((self.site.state / "keys").glob("*"))
            if b"PRIVATE" in path.read_bytes()
        }
        return Searcher({**self.keys, **keys})

    def write(self, name: str, content: str | bytes | None = None) -> Path:
        """Write a secret, a canary unless something else is given, and return where it is."""
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        path = self.secrets / name
        text = canary(name) if content is None else content
        path.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
        path.chmod(0o600)
        if b"PRIVATE KEY" in path.read_bytes():
            self.keys[name] = path.read_bytes()
        return path


def _aws(name: str) -> str:
    return (
        f"[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {canary(name)[:40]}"
    )


def _ssh_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def contents(kind: str, use: str) -> str | bytes | None:
    """Return what a credential has to look like, None where it is a password and nothing else."""
    name = f"{kind}.{use}"
    plain = canary(name, awkward=False)
    table: dict[str, str | bytes] = {
        "restic.backend": f"reader:{canary(name)}",
        "restic.writer-for-probe": f"writer:{canary(name)}",
        "borg.backend": _ssh_key(),
        "borg.writer-for-probe": _ssh_key(),
        "proxmox.reader": f"backupguard@pbs!audit:{plain}",
        "s3.reader": _aws(name),
        "s3.writer-for-probe": _aws(name),
        "pgbackrest.backend": (  # it warns of what has no use
            "[global]\nrepo1-type=posix\nrepo1-path=/nowhere\nrepo1-cipher-type=aes-256-cbc\n"
            f"repo1-s3-key-secret={plain}"
        ),
    }
    return table.get(name)


def _repositories(made: Audited, about: dict[str, object]) -> str:
    text = ""
    for kind, told in REPOSITORIES.items():
        # a window that never opens keeps what is read and tried to what the test asks for
        limits = "" if kind == "restic" else 'limits.windows = ["Mon 03:00-03:01"]\n'
        text += f'[repositories.{kind}]\ntype = "{kind}"\n{told.format(**about)}\n{limits}'
        for use in USES:
            path = made.write(f"{kind}.{use}", contents(kind, use))
            text += f'credentials.{use}.file = "{path}"\n'
        if kind == "borg":
            text += f'key-file.file = "{made.write("borg.key-file")}"\n'
        if kind != "restic":
            select = SELECTS.get(kind, 'select.name = "main"')
            text += f'[applications.labo.backups.{kind}]\nrepository = "{kind}"\nevery = "24h"\n'
            text += f"{select}\n"
    return text


def _dump(path: Path) -> None:
    with sqlite3.connect(path) as made:
        made.execute("create table stays (id integer primary key, admitted text)")
        made.execute("insert into stays values (1, '2026-03-01')")
    made.close()


def _web(directory: Path) -> None:
    web = directory / "web.yml"
    web.touch(mode=0o600)
    hashed = bcrypt.hashpw(canary("web").encode(), bcrypt.gensalt(8)).decode()
    web.write_text(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
        f"basic_auth_users:\n  {WEB_USER}: {hashed}\n"
    )


@contextmanager
def _rest_server(directory: Path, made: Audited) -> Iterator[tuple[int, Path]]:
    """Serve a repository that restic made, to a reader and a writer; yield port and what is saved."""
    reader = made.write("restic.reader")
    source = directory / "src"
    source.mkdir()
    restic = Restic("0.18", directory / "served" / "dpi", reader, source)
    restic.root.parent.mkdir()
    restic.run("init")
    _dump(source / "dpi.db")
    restic.backup(source / "dpi.db")
    users = directory / "htpasswd"
    with users.open("wb") as file:
        for name, use in (("reader", "backend"), ("writer", "writer-for-probe")):
            secret = canary(f"restic.{use}").encode()
            file.write(name.encode() + b":" + bcrypt.hashpw(secret, bcrypt.gensalt(4)) + b"\n")
    port = free_port()
    with (directory / "rest-server.log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(program("restic-rest-server"), "--listen", f"127.0.0.1:{port}"),
                *("--path", directory / "served", "--append-only", "--htpasswd-file", users),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        await_port(port)
        yield port, source / "dpi.db"
    finally:
        server.kill()
        server.wait()


@contextmanager
def audited(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[Audited]:
    """Yield a site whose every secret is a canary; its servers end with the block."""
    site = Site(directory)
    authority = Authority(directory)
    for name in ("server", "collector", "client", "client2"):
        authority.issue(name)
    collector = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    collector.load_cert_chain(directory / "collector.pem", directory / "collector.key")
    collector.load_verify_locations(authority.file)
    collector.verify_mode = ssl.CERT_REQUIRED
    patch.setattr(relay, "PASSWORD", canary("mail", awkward=False))
    places = directory / "relay"
    places.mkdir()
    with ExitStack() as held:
        heard = held.enter_context(reflectors(directory, collector))
        mails = held.enter_context(relay.serving(places, "starttls"))
        made = Audited(site=site, heard=heard, mails=mails, authority=authority.file)
        held.callback(site.end)
        for name in ("server", "client", "client2"):
            made.keys[f"{name}.key"] = (directory / f"{name}.key").read_bytes()
        port, source = held.enter_context(_rest_server(directory, made))
        for name in ("barman", "spool"):
            (directory / name).mkdir(mode=0o750)
        now = datetime.now(UTC)
        (directory / "export.csv").write_text(f"job,at\nmain,{now.isoformat()}\n")
        shutil.copy(source, site.dumps / f"dpi-{now:%Y%m%d}.dump")
        _web(directory)
        about: dict[str, object] = {
            **vars(heard),
            "directory": directory,
            "port": site.port,
            "restic": port,
            "restic_program": program("restic-0.18"),
            "source": source,
            "relay": mails.port,
            "relay_ca": mails.ca,
            "authority": authority.file,
            "client": directory / "client.pem",
            "client_key": made.write("client-key", (directory / "client.key").read_bytes()),
            "client2": directory / "client2.pem",
            "client2_key": made.write("client2-key", (directory / "client2.key").read_bytes()),
            "mail": made.write("mail", canary("mail", awkward=False)),
            "dead_man": made.write(
                "dead-man",
                f"http://127.0.0.1:{heard.http}/ping/{canary('dead-man', awkward=False)}",
            ),
            "anchor": made.write("anchor", _aws("anchor")),
            "discovery": made.write("discovery"),
            "instance": made.write("instance"),
            "vantage": made.write("vantage", canary("vantage", awkward=False) * 2),
            "token": made.write("token", canary("token", awkward=False) * 2),
        }
        about["dpi"] = SELECTS["restic"].format(**about)
        text = SITE.format(**about) + _repositories(made, about) + quiet()
        site.config.write_text(text, encoding="utf-8")
        yield made
