"""Statements and exceptions under real accounts, signed with real keys and verified by ssh-keygen."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backupguard.contracts import Store
from backupguard.controls import load_catalogue
from backupguard.daemon.control import create_app
from backupguard.daemon.statements import Statements
from backupguard.errors import UsageError
from backupguard.evidence.statements import Statement, canonical_text
from backupguard.model import Fact, Observation
from backupguard.processes import Cancellation, Jail
from backupguard.processes.programs import require_program
from backupguard.settings import Settings, load
from backupguard.store import open_store

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
#: Accounts that exist everywhere: nobody is logged in as them, the kernel's number is all that counts.
ROOT, DAEMON, NOBODY = 0, 1, pwd.getpwnam("nobody").pw_uid
STRANGER = 54_321  # no account at all
SSH_KEYGEN = require_program("ssh-keygen")

CONFIGURATION = """
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"
[store]
directory = "state"
[repositories.nas]
type = "directory"
path = "HERE/nas"
failure-domain = "baie-2"
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
[applications.labo]
name = "Laboratoire"
criticality = "C3"
[applications.labo.backups.nightly]
repository = "nas"
every = "24h"
[people.claire]
name = "Claire Martin"
user = "root"
roles = ["rssi"]
signing-key = "CLAIRE"
[people.marc]
name = "Marc Petit"
user = "daemon"
roles = ["operator"]
signing-key = "MARC"
signing-key-until = 2026-05-31
[people.ines]
name = "Inès Roy"
user = "nobody"
roles = ["rssi"]
"""


def make_key(directory: Path, name: str) -> str:
    file = directory / name
    subprocess.run(
        [SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file], check=True
    )
    return file.with_suffix(".pub").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    for name in ("claire", "marc", "stranger"):
        make_key(directory, name)
    return directory


def sign(keys: Path, name: str, text: str, namespace: str = "backupguard") -> str:
    done = subprocess.run(
        [SSH_KEYGEN, "-q", "-Y", "sign", "-n", namespace, "-f", keys / name],
        input=text.encode(), capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode()


class Office:
    """A store, its settings and the clock on the wall."""

    def __init__(self, settings: Settings, tools: Jail) -> None:
        self.settings, self.tools, self.now = settings, tools, NOW
        self.store: Store = open_store(settings.state_directory, now=lambda: self.now)
        self.statements = Statements(self.store, settings, load_catalogue())

    def attest(
        self, topic: str, subject: str, signature: str | None = None, uid: int = ROOT, **more: Any
    ) -> int:
        return self.statements.attest(
            statement(topic, subject, **more), signature, uid=uid, now=self.now, tools=self.tools
        )

    def waive(self, control: str, subject: str, days: int, uid: int = ROOT) -> tuple[int, bool]:
        return self.statements.waive(
            control=control,
            subject=subject,
            reason="migration",
            owner="DSI",
            until=(self.now + timedelta(days=days)).date(),
            uid=uid,
            now=self.now,
        )

    def fact(self, seq: int) -> Fact:
        found = self.store.fact(seq)
        assert found is not None
        return found


def statement(
    topic: str, subject: str, days: int = 90, text: str = "clé au coffre", **values: int | str
) -> Statement:
    until = (NOW + timedelta(days=days)).date()
    return Statement(topic=topic, subject=subject, text=text, until=until, values=values)


@pytest.fixture
def office(tmp_path: Path, keys: Path) -> Iterator[Office]:
    (tmp_path / "nas").mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    told = CONFIGURATION.replace("HERE", str(tmp_path))
    for name in ("claire", "marc"):
        told = told.replace(
            name.upper(), (keys / f"{name}.pub").read_text(encoding="utf-8").strip()
        )
    file = tmp_path / "backupguard.toml"
    file.write_text(told, encoding="utf-8")
    made = Office(load(file, environ={}), Jail(tmp_path / "state", Cancellation()))
    yield made
    made.store.close()


def refusal(caught: pytest.ExceptionInfo[UsageError]) -> tuple[str, Any]:
    message = caught.value.message
    return message.id, message.values.get("why")


# --------------------------------------------------------------------------------------- signatures


def test_a_signed_statement_is_authenticated_and_can_be_verified_again(
    office: Office, keys: Path, tmp_path: Path
) -> None:
    stated = statement("escrow", "repository/nas", seal="A-1042")
    text = office.statements.text(stated, uid=ROOT, now=NOW)
    seq = office.attest("escrow", "repository/nas", sign(keys, "claire", text), seal="A-1042")
    data = office.fact(seq).observation.data
    assert office.fact(seq).author == "uid/0 (root)"
    assert (data["person"], data["signature"]["person"]) == ("claire", "claire")
    shown = subprocess.run(
        [SSH_KEYGEN, "-l", "-f", keys / "claire.pub"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert data["signature"]["key"] == shown.stdout.split()[1]
    # an auditor needs the record and the public key, nothing of ours
    (tmp_path / "s.sig").write_text(data["signature"]["armored"], encoding="ascii")
    (tmp_path / "signers").write_text(
        f"claire {(keys / 'claire.pub').read_text(encoding='utf-8')}", encoding="utf-8"
    )
    subprocess.run(
        [SSH_KEYGEN, "-Y", "verify", "-f", tmp_path / "signers", "-I", "claire",
         "-n", "backupguard", "-s", tmp_path / "s.sig"],
        input=data["signature"]["statement"].encode(), capture_output=True, check=True,
    )  # fmt: skip


def test_without_a_signature_it_is_taken_and_not_authenticated(office: Office) -> None:
    seq = office.attest("escrow", "repository/nas", uid=STRANGER)
    fact = office.fact(seq)
    assert (fact.author, fact.observation.data["person"]) == (f"uid/{STRANGER}", None)
    assert fact.observation.data["signature"] is None
    (row,) = office.statements.attestations(NOW)
    assert (row["key"], row["state"]) == (None, "in_force")


@pytest.mark.parametrize(
    ("signer", "changed", "namespace", "uid", "why"),
    [
        ("stranger", {}, "backupguard", ROOT, "@statements.refused.key"),
        ("marc", {}, "backupguard", ROOT, "@statements.refused.key"),
        ("claire", {"text": "clé perdue"}, "backupguard", ROOT, "@statements.refused.text"),
        ("claire", {"days": 91}, "backupguard", ROOT, "@statements.refused.text"),
        ("claire", {"seal": "A-1"}, "backupguard", ROOT, "@statements.refused.text"),
        ("claire", {}, "git", ROOT, "@statements.refused.namespace"),
        ("marc", {}, "backupguard", DAEMON, "@statements.refused.expired"),
    ],
    ids=["unknown-key", "another-person", "altered-text", "longer", "altered-value",
         "another-purpose", "expired-key"],
)  # fmt: skip
def test_a_signature_that_is_not_of_this_statement_by_this_person_is_refused(
    office: Office,
    keys: Path,
    signer: str,
    changed: dict[str, Any],
    namespace: str,
    uid: int,
    why: str,
) -> None:
    who = {ROOT: "claire", DAEMON: "marc"}[uid]
    stated = statement("escrow", "repository/nas", **changed)
    text = canonical_text("CH de Belle-Rive", who, stated)
    armored = sign(keys, signer, text, namespace)
    head = office.store.head()
    with pytest.raises(UsageError) as caught:
        office.attest("escrow", "repository/nas", armored, uid)
    assert refusal(caught) == ("statements.refused", why)
    assert office.store.head() == head


def test_a_signature_of_somebody_without_key_or_entry_is_refused(
    office: Office, keys: Path
) -> None:
    armored = sign(keys, "claire", "x")
    for uid, identifier in ((NOBODY, "statements.no-key"), (STRANGER, "statements.nobody")):
        with pytest.raises(UsageError) as caught:
            office.attest("escrow", "repository/nas", armored, uid)
        assert refusal(caught)[0] == identifier


@pytest.mark.parametrize("armored", ["", "x", "-----BEGIN SSH SIGNATURE-----\n"], ids=len)
def test_what_is_no_signature_at_all_is_refused(office: Office, armored: str) -> None:
    with pytest.raises(UsageError) as caught:
        office.attest("escrow", "repository/nas", armored)
    assert refusal(caught) == ("statements.refused", "@statements.refused.key")


# ------------------------------------------------------------------------------------ what is taken


@pytest.mark.parametrize(
    ("topic", "subject", "more", "wrong"),
    [
        ("weather", "site", {}, "no-topic"),
        ("escrow", "site", {}, "no-subject"),
        ("escrow", "repository/nowhere", {}, "no-subject"),
        ("mfa", "repository/nas", {"name": "nas"}, "no-subject"),
        ("mfa", "site", {}, "name-missing"),
        ("mfa", "site", {"name": "veem"}, "no-name"),
        ("escrow", "repository/nas", {"name": "nas"}, "name-superfluous"),
        ("attacker", "repository/nas", {"name": "backup_writer"}, "no-name"),
        ("admins", "site", {}, "no-count"),
        ("change", "site", {"name": 1}, "no-change"),
        ("escrow", "repository/nas", {"days": -1}, "past"),
        ("escrow", "repository/nas", {"days": 181}, "too-long"),
        ("failure-domain", "repository/nas", {"days": 367, "domain": "baie-2"}, "too-long"),
        ("failure-domain", "repository/nas", {"domain": "baie-1"}, "domain"),
        ("failure-domain", "repository/nas", {}, "domain"),
        ("mfa", "site", {"name": "nas", "days": 367}, "too-long"),
        ("escrow", "repository/nas", {"text": "a\nuntil: 2099-01-01"}, "not-one-line"),
        ("escrow", "repository/nas", {"text": "\x1b[2Jx"}, "not-one-line"),
        ("escrow", "repository/nas", {"text": "@reason.bug"}, "not-one-line"),
        ("escrow", "repository/nas", {"text": "x" * 501}, "not-one-line"),
        ("escrow", "repository/nas", {"seal": "a\nb"}, "not-one-line"),
        ("escrow", "repository/nas", {"Seal: x": 1}, "value-name"),
    ],
)  # fmt: skip
def test_what_cannot_be_stated_is_refused_and_leaves_nothing(
    office: Office, topic: str, subject: str, more: dict[str, Any], wrong: str
) -> None:
    head = office.store.head()
    with pytest.raises(UsageError) as caught:
        office.attest(topic, subject, **more)
    assert refusal(caught)[0] == f"statements.{wrong}"
    assert office.store.head() == head


@pytest.mark.parametrize(
    ("topic", "subject", "more"),
    [
        ("escrow", "repository/nas", {"days": 180}),
        ("escrow", "repository/nas", {"days": 0}),
        ("isolation", "repository/nas", {"days": 180}),
        ("failure-domain", "repository/nas", {"days": 366, "domain": "baie-2"}),
        ("attacker", "repository/nas", {"name": "storage_admin", "days": 366}),
        ("mfa", "site", {"name": "directory", "days": 366}),
        ("admins", "site", {"count": 3}),
        ("secrets", "site", {}),
    ],
)  # fmt: skip
def test_what_can_be_stated_is_taken_until_the_end_of_its_day(
    office: Office, topic: str, subject: str, more: dict[str, Any]
) -> None:
    data = office.fact(office.attest(topic, subject, **more)).observation.data
    last = (NOW + timedelta(days=more.get("days", 90))).date()
    night = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    assert timedelta(0) < night - _moment(data["expires_at"]) <= timedelta(hours=2)  # Paris


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def test_a_change_is_explained_by_its_number(office: Office) -> None:
    data = {"changes": [], "from_seq": None}
    (changed,) = office.store.append(
        [
            Observation(
                kind="policy.changed", subject="site", observed_at=NOW, data=data, key="changed"
            )
        ]
    )
    made = office.attest("change", "site", name=changed.seq)
    for wrong in (made, 99, str(changed.seq)):
        with pytest.raises(UsageError) as caught:
            office.attest("change", "site", name=wrong)
        assert refusal(caught)[0] == "statements.no-change"


def test_a_statement_is_withdrawn_once(office: Office) -> None:
    seq = office.attest("escrow", "repository/nas")
    office.statements.withdraw(seq, "coffre ouvert", uid=DAEMON, now=NOW)
    (row,) = office.statements.attestations(NOW)
    assert row["state"] == "withdrawn"
    assert (row["withdrawn_by"], row["withdrawn_for"]) == ("uid/1 (daemon)", "coffre ouvert")
    for wrong in (seq, 99):
        with pytest.raises(UsageError):
            office.statements.withdraw(wrong, "encore", uid=DAEMON, now=NOW)


# --------------------------------------------------------------------------------------- exceptions


def test_an_exception_for_what_is_not_vital_holds_at_once_for_a_year_at_most(
    office: Office,
) -> None:
    assert office.waive("JOB-01", "job/labo.nightly", 366)[1] is False
    with pytest.raises(UsageError) as caught:
        office.waive("JOB-01", "job/labo.nightly", 367)
    assert refusal(caught)[0] == "statements.too-long"
    (row,) = office.statements.waivers(NOW)
    assert row["state"] == "in_force"


@pytest.mark.parametrize(
    ("control", "subject"),
    [("RST-01", "application/dpi"), ("RST-02", "application/labo"), ("PRV-01", "site")],
    ids=["vital-application", "critical-control", "site-of-a-vital-application"],
)
def test_what_is_vital_or_critical_waits_and_lasts_ninety_days_at_most(
    office: Office, control: str, subject: str
) -> None:
    with pytest.raises(UsageError) as caught:
        office.waive(control, subject, 91)
    assert refusal(caught)[0] == "statements.too-long"
    seq, waits = office.waive(control, subject, 90)
    assert waits
    assert office.statements.waivers(NOW)[0]["state"] == "waiting"
    office.statements.confirm(seq, uid=NOBODY, now=NOW)
    row = office.statements.waivers(NOW)[0]
    assert (row["state"], row["confirmed_by"]) == ("in_force", "ines")


@pytest.mark.parametrize(
    ("uid", "wrong"),
    [(ROOT, "own-waiver"), (DAEMON, "not-rssi"), (STRANGER, "nobody")],
    ids=["who-asked", "without-the-role", "unknown"],
)
def test_nobody_but_a_second_person_with_the_role_confirms(
    office: Office, uid: int, wrong: str
) -> None:
    seq, _ = office.waive("RST-01", "application/dpi", 30)
    with pytest.raises(UsageError) as caught:
        office.statements.confirm(seq, uid=uid, now=NOW)
    assert refusal(caught)[0] == f"statements.{wrong}"
    assert office.statements.waivers(NOW)[0]["state"] == "waiting"


def test_what_is_over_is_neither_confirmed_nor_ended(office: Office) -> None:
    expired, _ = office.waive("RST-01", "application/dpi", 2)
    ended, _ = office.waive("RST-02", "application/dpi", 30)
    confirmed, _ = office.waive("RST-03", "application/dpi", 30)
    office.statements.end(ended, "inutile", uid=ROOT, now=NOW)
    office.statements.confirm(confirmed, uid=NOBODY, now=NOW)
    office.now += timedelta(days=4)
    for seq in (expired, ended, confirmed, 99):
        with pytest.raises(UsageError):
            office.statements.confirm(seq, uid=NOBODY, now=office.now)
    for seq in (expired, ended, 99):
        with pytest.raises(UsageError):
            office.statements.end(seq, "inutile", uid=ROOT, now=office.now)


@pytest.mark.parametrize(
    ("control", "subject", "days", "wrong"),
    [
        ("XXX-99", "site", 1, "no-control"),
        ("RST-01", "application/nowhere", 1, "not-of-control"),
        ("RST-01", "repository/nas", 1, "not-of-control"),
        ("RST-01", "application/labo", -1, "past"),
    ],
)
def test_what_cannot_be_waived_is_refused(
    office: Office, control: str, subject: str, days: int, wrong: str
) -> None:
    with pytest.raises(UsageError) as caught:
        office.waive(control, subject, days)
    assert refusal(caught)[0] == f"statements.{wrong}"


# --------------------------------------------------------------------------------------- the socket


class Socket:
    """The control socket's operations over an office; the caller's account is the kernel's word."""

    def __init__(self, office: Office) -> None:
        self.office = office

    async def state(self, work: Any) -> Any:
        return work(self.office.statements)

    def tools(self) -> Jail:
        return self.office.tools

    def ask(self, uid: int, method: str, path: str, body: Any = None) -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(self), client=("1", uid))  # type: ignore[arg-type]

        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://socket") as client:
                return await client.request(method, path, json=body)

        return asyncio.run(asked())


def test_the_author_is_who_asks_whatever_the_request_says(office: Office) -> None:
    socket = Socket(office)
    office.now = datetime.now(UTC)
    body = {
        "control": "RST-01",
        "subject": "application/dpi",
        "reason": "migration",
        "owner": "uid/0 (root)",
        "until": (datetime.now(UTC).date() + timedelta(days=30)).isoformat(),
        "author": "uid/65534 (nobody)",
        "uid": 65534,
        "person": "ines",
    }
    made = socket.ask(ROOT, "POST", "/waivers", body)
    assert (made.status_code, made.json()["needs_confirmation"]) == (201, True)
    seq = made.json()["seq"]
    assert office.fact(seq).author == "uid/0 (root)"
    assert office.fact(seq).observation.data["person"] == "claire"
    second = {"author": "uid/65534 (nobody)", "uid": NOBODY, "person": "ines"}
    refused = socket.ask(ROOT, "POST", f"/waivers/{seq}/confirm", second)
    assert (refused.status_code, refused.json()["message"]) == (422, "statements.own-waiver")
    done = socket.ask(NOBODY, "POST", f"/waivers/{seq}/confirm")
    assert done.status_code == 200
    (row,) = (socket.ask(ROOT, "GET", "/waivers")).json()
    assert (row["state"], row["confirmed_author"]) == ("in_force", f"uid/{NOBODY} (nobody)")


def test_a_statement_goes_over_the_socket_signed(office: Office, keys: Path) -> None:
    socket = Socket(office)
    office.now = datetime.now(UTC)
    body = {
        "topic": "mfa",
        "subject": "site",
        "text": "MFA sur la console, vérifiée",
        "until": (datetime.now(UTC).date() + timedelta(days=30)).isoformat(),
        "values": {"name": "nas", "count": 4},
        "signature": None,
    }
    text = (socket.ask(ROOT, "POST", "/attestations/text", body)).json()["text"]
    made = socket.ask(
        ROOT, "POST", "/attestations", {**body, "signature": sign(keys, "claire", text)}
    )
    assert made.json()["authenticated"] is True
    (row,) = (socket.ask(DAEMON, "GET", "/attestations")).json()
    assert (row["person"], row["state"], row["text"]) == ("claire", "in_force", body["text"])
    gone = socket.ask(
        DAEMON, "POST", f"/attestations/{row['seq']}/withdraw", {"reason": "console changée"}
    )
    assert gone.status_code == 200
    assert (socket.ask(ROOT, "GET", "/attestations")).json()[0]["state"] == "withdrawn"


@pytest.mark.parametrize(
    "changed",
    [{"until": "demain"}, {"values": {"a": 1.5}}, {"values": []}, {"text": None}, {"signature": 1},
     {"until": 20270101}, {"signature": "x" * 20_000}],
    ids=["day", "fraction", "list", "no-text", "number", "number-day", "long"],
)  # fmt: skip
def test_a_malformed_request_is_refused(office: Office, changed: dict[str, Any]) -> None:
    body = {
        "topic": "secrets", "subject": "site", "text": "x", "values": {},
        "until": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    answer = Socket(office).ask(ROOT, "POST", "/attestations", {**body, **changed})
    assert answer.status_code == 422
    assert office.statements.attestations(NOW) == []


# ----------------------------------------------------------------------------------- command line


def test_the_command_line_states_lists_waives_and_withdraws(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    from backupguard.cli import main as cli

    file = str(office.settings.state_directory.parent / "backupguard.toml")
    office.store.close()
    me = f"uid/{os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"

    def run(*arguments: str, language: str = "en") -> tuple[int, str, str]:
        code = cli.main(["--config", file, "--language", language, *arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    code, out, _ = run("attest", "escrow", "nas", "--text", "au coffre", "--for", "30d")
    assert code == 0
    assert "Statement not authenticated" in out
    code, out, _ = run("attest", "list", language="fr")
    assert code == 0
    assert "déclaration non authentifiée" in out
    assert me in out
    code, out, _ = run("attest", "show", "1")
    assert (code, "au coffre" in out) == (64, False)
    seq = next(word for word in run("attest", "list")[1].split() if word.isdecimal())
    assert "au coffre" in run("attest", "show", seq)[1]
    assert run("attest", "withdraw", seq, "--reason", "erreur")[0] == 0
    assert "withdrawn" in run("attest", "show", seq)[1]
    code, out, _ = run(
        "waive", "rst-01", "dpi", "--reason", "migration", "--owner", "DSI", "--for", "90d"
    )
    assert (code, "changes nothing yet" in out) == (0, True)
    code, out, err = run(
        "waive", "rst-01", "dpi", "--reason", "migration", "--owner", "DSI", "--for", "91d"
    )
    assert (code, "90 days at most" in err) == (64, True)
    code, out, _ = run("waive", "list")
    assert "waiting for its second person" in out
    assert run("attest", "escrow", "nas", "--text", "x")[0] == 64


def test_two_people_with_one_account_or_key_are_a_problem_with_its_line(
    office: Office, tmp_path: Path, keys: Path
) -> None:
    from backupguard.errors import ConfigurationError

    key = (keys / "claire.pub").read_text(encoding="utf-8").strip()
    file = tmp_path / "backupguard.toml"
    text = file.read_text(encoding="utf-8")
    added = f'[people.Jean]\nname = "J"\nuser = "root"\nsigning-key = "{key} autre"\n'
    file.write_text(
        text + added + '[people.luc]\nname="L"\nuser="luc"\nsigning-key="ssh-ed25519 AAAA"\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    first = text.count("\n") + 1
    found = {(problem.line, problem.message.id) for problem in caught.value.problems}
    assert found == {
        (first, "settings.bad-id"),
        (first + 2, "settings.person-twice"),
        (first + 3, "settings.person-twice"),
        (first + 7, "settings.refuses.public-key"),
    }
