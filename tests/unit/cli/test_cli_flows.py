"""`doctor flows`: the configuration as a matrix of network flows, in words, JSON and Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupguard import plugins
from backupguard.cli import doctor_flows
from backupguard.cli.flows import ENDPOINTS, Flow, flows
from backupguard.cli.main import main
from backupguard.language import catalogue
from backupguard.settings.loading import load
from tests.unit.hosts import MadeHost

WHOLE = """\
[site]
name = "CH"
language = "en"
[store]
directory = "{state}"
[repositories.nas]
type = "restic"
url = "rest:https://nas.example:8000/dpi"
credentials.reader.credential = "a"
[repositories.cloud]
type = "restic"
url = "s3:https://s3.example/bucket"
credentials.reader.credential = "a"
[repositories.old]
type = "restic"
url = "sftp:reader@old.example:/srv"
credentials.reader.credential = "a"
[repositories.borg]
type = "borg"
url = "ssh://reader@borg.example:2222/srv/borg"
[repositories.local]
type = "directory"
path = "/srv/exports"
[repositories.share]
type = "directory"
path = "/mnt/share/dumps"
[repositories.bucket]
type = "s3"
bucket = "copies"
credentials.reader.credential = "a"
[repositories.sql]
type = "mssql"
host = "sql.example"
timezone = "Europe/Paris"
credentials.reader.credential = "a"
[repositories.veeam]
type = "veeam"
url = "https://vbr.example:9419"
user = "reader"
credentials.reader.credential = "a"
[repositories.scripts]
type = "reported"
tokens."dpi.x".credential = "t"
[discovery.servers.planning]
engine = "mariadb"
host = "db.example"
[soc.syslog]
host = "siem.example"
[notify.mail]
host = "mail.example"
from = "backupguard@ch.example"
to = ["rssi@ch.example"]
[notify.dead-man]
url = "https://ping.example/x"
[evidence.anchors.stamp]
type = "rfc3161"
url = "http://tsa.example/stamp"
certificates = "/etc/ssl/tsa.pem"
[http]
listen = "192.0.2.1:9789"
proxy.addresses = ["192.0.2.80"]
[isolation]
witness = "switch.example:22"
url = "https://backupguard.example/api/v1/vantage"
[isolation.targets.nas]
hosts = ["nas.example"]
ports = [445]
repositories = ["nas"]
[isolation.vantages.office]
zone = "office"
witness = "dc.example:389"
key.credential = "v"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backupguard.toml"
    path.write_text(WHOLE.format(state=tmp_path / "state"), encoding="utf-8")
    return path


def found(file: Path, root: Path) -> dict[tuple[str, str, str], Flow]:
    listed = flows(load(file, environ={}, check_secrets=False), root)
    return {(flow.source, flow.destination, flow.port): flow for flow in listed}


def test_every_flow_the_settings_ask_for_is_there_and_no_other(file: Path, tmp_path: Path) -> None:
    host = MadeHost(tmp_path / "root")
    host.mount("/")
    host.mount("/mnt/share", "nfs4", source="filer.example:/vol", device="0:40")
    me = "@self"
    assert {
        key: (flow.protocol, flow.why, flow.closed) for key, flow in found(file, host.root).items()
    } == {
        (me, "nas.example", "8000/tcp"): ("https", "read-copies", False),
        (me, "s3.example", "443/tcp"): ("s3", "read-copies", False),
        (me, "old.example", "22/tcp"): ("sftp", "read-copies", False),
        (me, "borg.example", "2222/tcp"): ("ssh", "read-copies", False),
        (me, "filer.example", "2049/tcp"): ("nfs", "read-copies", False),
        (me, "s3.us-east-1.amazonaws.com", "443/tcp"): ("s3", "read-copies", False),
        (me, "sql.example", "1433/tcp"): ("tds", "read-copies", False),
        (me, "vbr.example", "9419/tcp"): ("https", "read-copies", False),
        (me, "db.example", "3306/tcp"): ("mysql", "discover", False),
        (me, "siem.example", "6514/tcp"): ("syslog-tls", "tell-soc", False),
        (me, "mail.example", "587/tcp"): ("smtp+starttls", "mail", False),
        (me, "ping.example", "443/tcp"): ("https", "alive", False),
        (me, "tsa.example", "80/tcp"): ("http", "anchor", False),
        ("192.0.2.80", me, "9789/tcp"): ("http", "read-pages", False),
        ("@jobs", me, "9789/tcp"): ("http", "job-reports", False),
        (me, "switch.example", "22/tcp"): ("tcp", "witness", False),
        ("office", "dc.example", "389/tcp"): ("tcp", "witness", False),
        ("office", "backupguard.example", "443/tcp"): ("https", "vantage", False),
        ("office", "nas.example", "445/tcp"): ("tcp", "must-be-closed", True),
        (me, "@resolver", "53/udp, 53/tcp"): ("dns", "names", False),
        (me, "@clocks", "123/udp"): ("ntp", "time", False),
    }


def test_a_site_of_one_host_needs_the_time_and_nothing_else(tmp_path: Path) -> None:
    host = MadeHost(tmp_path / "root")
    host.mount("/")
    path = tmp_path / "backupguard.toml"
    path.write_text(
        '[site]\nname = "CH"\n[repositories.a]\ntype = "directory"\npath = "/srv"\n', "utf-8"
    )
    assert [key[1] for key in found(path, host.root)] == ["@clocks"]


def test_every_type_of_repository_says_where_it_is_read() -> None:
    shipped = {name for name in plugins.names(plugins.REPOSITORIES) if not name.startswith("x-")}
    assert set(ENDPOINTS) <= shipped
    assert {"restic", "borg", "s3", "veeam", "proxmox", "mssql", "rman"} <= set(ENDPOINTS)
    assert not {"restic", "directory", "borg", "pgbackrest", "barman", "bareos", "mssql", "rman",
                "import", "proxmox", "reported", "s3", "veeam"} - set(ENDPOINTS)  # fmt: skip


def test_it_is_told_in_both_languages_as_a_table_as_json_and_as_markdown(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = MadeHost(tmp_path / "root")
    host.mount("/")
    monkeypatch.setattr(doctor_flows, "_ROOT", host.root)

    def said(language: str, *options: str) -> str:
        arguments = ["--config", str(file), "--language", language, "doctor", "flows", *options]
        assert main(arguments) == 0
        return capsys.readouterr().out

    rows = json.loads(said("en", "--json"))["flows"]
    (closed,) = [row for row in rows if not row["allowed"]]
    assert (closed["source"], closed["destination"], closed["port"]) == (
        "office",
        "nas.example",
        "445/tcp",
    )
    assert closed["feature"] == "isolation.targets.nas"
    french = said("fr", "--markdown").splitlines()
    assert french[0].startswith("| De | Vers | Port | Protocole | Règle |")
    assert len(french) == len(rows) + 2
    assert any("| office | nas.example | 445/tcp | tcp | interdire |" in line for line in french)
    assert "this host" in said("en")
    assert main(["--config", str(file), "doctor", "flows", "--json", "--markdown"]) == 64


def test_every_reason_has_a_sentence_and_stands_on_the_page(file: Path, tmp_path: Path) -> None:
    known = catalogue("en")
    page = (Path(__file__).parents[3] / "docs/flows.md").read_text("utf-8")
    reasons = {name.rpartition(".")[2] for name in known if name.startswith("cli.flows.why.")}
    assert len(reasons) > 10
    missing = {name for name in reasons if f"`{name}`" not in page}
    assert not missing
