"""Anchors at real places: a collector's file, a mailbox, time stamps; and how they are read back."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pypdf import PdfReader

from backupguard import anchoring
from backupguard.anchoring import timestamps
from backupguard.anchoring.due import Anchored, may_try
from backupguard.cli.main import main
from backupguard.evidence.records import canonical
from backupguard.model import Observation
from backupguard.settings import load
from backupguard.store import open_store
from backupguard.store.sql import SqlStore
from tests.integration.daemon.living import wait_for

from . import relay, time_stamps
from .collector import Authority, Collector
from .time_stamps import TimeStampAuthority

SETTINGS = """
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"
language = "en"

[store]
directory = "{state}"

[soc.syslog]
host = "127.0.0.1"
port = {collector}
ca = "{ca}"
patience = "3s"

[notify.mail]
host = "127.0.0.1"
port = {relay}
security = "none"
from = "backupguard@belle-rive.example"
to = ["rssi@belle-rive.example"]

[evidence.anchors.soc]
type = "syslog"

[evidence.anchors.archive]
type = "mail"
to = ["archive@elsewhere.example"]

[evidence.anchors.tsa]
type = "rfc3161"
url = "{tsa}"
certificates = "{certificates}"
directory = "{tokens}"
"""


class House:
    """A site with its places, the store, and the command line."""

    def __init__(self, directory: Path, collector: Collector, tsa: TimeStampAuthority) -> None:
        self.directory, self.collector, self.tsa = directory, collector, tsa
        self.relay = relay.Relay()
        self.tokens = directory / "tokens"
        self.tokens.mkdir()
        self.config = directory / "backupguard.toml"

    def configure(self) -> None:
        text = SETTINGS.format(
            state=self.directory / "state",
            collector=self.collector.port,
            ca=self.collector.authority.file,
            relay=self.relay.port,
            tsa=self.tsa.url,
            certificates=self.tsa.certificates,
            tokens=self.tokens,
        )
        self.config.write_text(text, encoding="utf-8")

    def store(self) -> SqlStore:
        return open_store(self.directory / "state", site="CH de Belle-Rive")

    def kept(self) -> Path:
        """Return a file with what the mailbox holds."""
        path = self.directory / "mail.eml"
        path.write_bytes(b"".join(bytes(mail) for mail in self.relay.mails))
        return path

    def token(self) -> Path:
        return max(self.tokens.iterdir())


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    directory = tmp_path_factory.mktemp("anchors-collector")
    made = Collector(directory, Authority(directory))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeStampAuthority]:
    with time_stamps.serving(time_stamps.make(tmp_path_factory.mktemp("tsa"))) as made:
        yield made


@pytest.fixture
def house(tmp_path: Path, collector: Collector, authority: TimeStampAuthority) -> Iterator[House]:
    made = House(tmp_path, collector, authority)
    with relay.serving(tmp_path, "none", relay=made.relay):
        made.configure()
        yield made
    authority.status = 200


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(house: House, capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> tuple[int, str]:
        capfd.readouterr()
        code = main(["--config", str(house.config), "evidence", *map(str, arguments)])
        captured = capfd.readouterr()
        return code, captured.out + captured.err

    return run


def test_each_place_alone_shows_that_nothing_is_missing(house: House, command: Command) -> None:
    assert command("anchor")[0] == 0
    with closing(house.store()) as store:
        fingerprint = store.key.fingerprint
        facts = {f.observation.data["place"]: f for f in store.facts(kinds=["evidence.anchored"])}
    assert set(facts) == {"soc", "archive", "tsa"}
    wait_for(lambda: house.collector.out.exists() and "anchor-1" in house.collector.out.read_text())
    receipt = facts["soc"].observation.data["receipt"]
    assert receipt.endswith(" - anchor -")
    assert (
        facts["archive"].observation.data["receipt"]
        == str(house.relay.mails[0]["Message-ID"]).strip()
    )
    assert house.relay.readers == [["archive@elsewhere.example"]]
    assert house.token().read_text() == facts["tsa"].observation.data["receipt"]
    known = ("--key", fingerprint)
    certificates = ("--tsa-certificates", house.tsa.certificates)
    for file, more in (
        (house.collector.out, ()),
        (house.kept(), ()),
        (house.token(), certificates),
    ):
        code, said = command("verify", *known, "--anchors", file, *more)
        assert (code, "PROVED" in said) == (0, True), said
    code, said = command("verify", *known, "--anchors", house.token())
    assert (code, "1 time stamps were not counted" in said) == (2, True)


def test_a_mail_that_a_relay_wrote_otherwise_is_read(house: House, command: Command) -> None:
    assert command("anchor", "--place", "archive")[0] == 0
    mail = house.relay.mails[0]
    text = mail.get_content()
    for encoding in ("quoted-printable", "base64"):
        mail.set_content(text, cte=encoding)
        path = house.directory / f"{encoding}.eml"
        path.write_bytes(bytes(mail))
        with closing(house.store()) as store:
            seq = next(store.facts(kinds=["evidence.anchored"])).observation.data["seq"]
        code, said = command("verify", "--anchors", path, "--json")
        assert (code, json.loads(said)["anchored_to"]) == (2, seq)


def test_a_time_stamp_of_another_line_or_authority_counts_for_nothing(
    house: House, command: Command, tmp_path: Path
) -> None:
    assert command("anchor", "--place", "tsa")[0] == 0
    certificates = ("--tsa-certificates", house.tsa.certificates)
    stranger = time_stamps.make(tmp_path / "stranger")
    file = house.token()
    code, said = command("verify", "--anchors", file, "--tsa-certificates", stranger.certificates)
    assert (code, "1 time stamps were not counted: they" in said) == (2, True), said
    text = file.read_text()
    digest = text.split()[3]
    file.write_text(text.replace(digest, "0" * 64))
    code, said = command("verify", "--anchors", file, *certificates)
    assert (code, "1 time stamps were not counted: they" in said) == (2, True), said


def test_a_place_that_fails_is_told_and_tried_again_and_takes_nothing_from_others(
    house: House, command: Command
) -> None:
    house.tsa.status = 503
    house.relay.answer = "554 no"
    code, said = command("anchor")
    assert (code, "not" in said) == (2, True)
    now = datetime.now(UTC)
    settings = load(house.config)
    with closing(house.store()) as store:
        names = [f.observation.data["place"] for f in store.facts(kinds=["evidence.anchored"])]
        assert names == ["soc"]
        (closed,) = store.facts(kinds=["anchor.closed"])
        assert closed.observation.data["verdict"] == "could_not_verify"
        anchored = Anchored(store)
        anchored.learn()
        assert anchoring.owed(settings, anchored, now) == ("archive", "tsa")
        assert not may_try(store, now)
        assert may_try(store, now + timedelta(minutes=6))
        house.tsa.status, house.relay.answer = 200, "250 taken"
        assert command("anchor", "--place", "archive", "--place", "tsa")[0] == 0
        anchored.learn()
        assert anchoring.owed(settings, anchored, now + timedelta(hours=1)) == ()
        assert len(anchoring.owed(settings, anchored, now + timedelta(days=1, hours=1))) == 3
        data = {"month": "2026-03", "format": "html", "language": "fr"}
        data |= {"sha256": "0" * 64, "bytes": 1}
        report = Observation(
            kind="report.issued", subject="site", observed_at=now, key="r", data=data
        )
        store.append([report])
        anchored.learn()
        assert len(anchoring.owed(settings, anchored, now)) == 3


def test_what_one_place_raises_holds_up_no_other(
    house: House, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise OSError(errno.EIO, "the share is gone")

    monkeypatch.setattr(timestamps, "_keep", gone)
    assert command("anchor", "--place", "tsa", "--place", "soc")[0] == 2
    with closing(house.store()) as store:
        names = [f.observation.data["place"] for f in store.facts(kinds=["evidence.anchored"])]
        (closed,) = store.facts(kinds=["anchor.closed"])
    assert names == ["soc"]
    assert (closed.observation.data["state"], closed.observation.data["code"]) == (
        "finished",
        "bug",
    )


KEEPING = """
import sys
from pathlib import Path
from backupguard.anchoring import timestamps
from backupguard.errors import BackupGuardError
from backupguard.evidence.seals import Anchor
try:
    timestamps._keep(Path(sys.argv[1]), Anchor(store="s", seq=1, hash=bytes(32)), "token")
except BackupGuardError as error:
    print(error.code, error.message.id, error.message.values["path"])
"""


def test_a_directory_that_the_unit_leaves_read_only_is_told_as_such(tmp_path: Path) -> None:
    def kept(directory: Path, *around: str) -> str:
        call = [*around, sys.executable, "-c", KEEPING, str(directory)]
        done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
        assert done.stderr == ""
        return done.stdout.strip()

    place = str(tmp_path)
    # as ProtectSystem=strict does it
    read_only = kept(tmp_path, "bwrap", "--dev-bind", "/", "/", "--ro-bind", place, place)
    assert read_only == f"permission evidence.not-writable {place}"
    too_long = tmp_path / ("x" * 300)
    assert kept(too_long) == f"not_found error.not_found {too_long}"
    assert list(tmp_path.iterdir()) == []
    assert kept(tmp_path) == ""
    assert [path.read_text() for path in tmp_path.iterdir()] == ["token"]


def test_a_rewritten_end_and_a_cut_tail_are_seen_by_what_is_kept_elsewhere(
    house: House, command: Command
) -> None:
    with closing(house.store()) as store:
        store.append([_step(7)])
    assert command("anchor", "--place", "archive")[0] == 0
    database = house.directory / "state" / "store.sqlite3"
    import sqlite3

    with closing(sqlite3.connect(database)) as connection:
        head = connection.execute("SELECT max(seq) FROM facts").fetchone()[0]
        connection.execute("DELETE FROM seals WHERE seq > 1")
        connection.execute("DELETE FROM facts WHERE seq > 1")
        first = connection.execute("SELECT seq, hash FROM facts").fetchone()
        connection.execute("UPDATE chain_head SET seq = ?, hash = ?", first)
        connection.commit()
    assert head > 2
    assert command("verify")[0] == 2  # nothing here can tell
    code, said = command("verify", "--anchors", house.kept())
    assert (code, "Record 2 and those after it are missing" in said) == (1, True), said


def _step(number: int) -> Observation:
    return Observation(
        kind="clock.stepped",
        subject="site",
        observed_at=datetime.now(UTC),
        key=f"clock/{number}",
        data={"step_ms": number},
    )


def test_an_anchor_by_hand_is_somebodys_word(house: House, command: Command) -> None:
    code, said = command("anchor", "--by-hand", "coffre de la direction", "--receipt", "page 12")
    assert code == 0
    line = said.strip().splitlines()[-1]
    with closing(house.store()) as store:
        (fact,) = store.facts(kinds=["evidence.anchored"])
    assert (fact.observation.origin, fact.observation.data["receipt"]) == ("attested", "page 12")
    assert fact.author is not None
    (house.directory / "page").write_text(line)
    assert command("verify", "--anchors", house.directory / "page")[0] == 2
    assert canonical(fact.observation.data)
    assert command("anchor", "--place", "nowhere")[0] == 64


def test_the_commissioning_record_shows_the_key_and_is_named_in_the_chain(
    house: House, command: Command
) -> None:
    code, said = command("commissioning", "--language", "fr", "--language", "en")
    assert code == 0
    pages = {path.name: path for path in map(Path, said.split())}
    with closing(house.store()) as store:
        groups = store.key.fingerprint
        issued = list(store.facts(kinds=["commissioning.issued"]))
    assert len(issued) == 2
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        assert " ".join(groups[at : at + 4] for at in range(0, 64, 4)) in text
        assert "archive@elsewhere.example" in text
        assert "backupguard-anchor-1" in text
    assert (
        "Procès-verbal de mise en service" in pages["backupguard-commissioning-fr.html"].read_text()
    )
    bundle = house.directory / "bundle"
    assert command("export", "--output", bundle)[0] == 0
    assert (bundle / "documents" / "backupguard-commissioning-fr.html").exists()
    code, said = command("commissioning", "--language", "fr", "--format", "pdf")
    assert code == 0
    (sheet,) = PdfReader(said.strip()).pages
    assert groups in "".join(sheet.extract_text().split())


def test_another_key_and_a_slice_in_a_bundle(house: House, command: Command) -> None:
    with closing(house.store()) as store:
        first = store.key.fingerprint
        now, data = datetime.now(UTC), {"reason": "fin"}
        ended = Observation(
            kind="pause.ended", subject="site", observed_at=now, data=data, key="pause/1"
        )
        store.append([_step(1), ended])
    assert command("rotate-key", "--reason", "  ")[0] == 64
    assert command("rotate-key", "--reason", "départ")[0] == 0
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    bundle = house.directory / "bundle"
    assert command("export", "--output", bundle, "--since", tomorrow)[0] == 0
    code, said = command("verify", bundle, "--key", first)
    assert (code, "hashes only" in said) == (2, True), said
    assert command("export", "--output", house.directory / "x", "--since", "hier")[0] == 64
    code, said = command("prune", "--before", "2020-01-01", "--reason", "cinq ans", "--dry-run")
    assert (code, "Nothing recorded" in said) == (0, True)
