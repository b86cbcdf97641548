"""Copies without encryption, keys without an escrow that works: CHF-01 must say so, each twin not.

Real restic and borg: the escrowed key opens the repository, or it does not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupguard import runs, settings
from backupguard.assess import Assessor
from backupguard.contracts import Secret, Store
from backupguard.controls import load_catalogue
from backupguard.daemon import client
from backupguard.daemon.requests import request
from backupguard.daemon.tasks import TASKS
from backupguard.demo.backups import Restic
from backupguard.model import (
    SITE,
    Finding,
    Observation,
    Origin,
    Run,
    Status,
    Verdict,
    application_subject,
    from_us,
    repository_subject,
    to_us,
)
from backupguard.processes import Cancellation
from backupguard.store import open_store
from tests.integration.daemon.living import quiet
from tests.integration.repositories.borg_maker import make
from tests.programs import program

DPI, FAR = application_subject("dpi"), repository_subject("far")
#: What lies in escrow for the restic repository: a key of its own, which no other place holds.
ESCROWED = "the-key-that-lies-in-the-safe-4711"
BACKUPGUARD = Path(sys.executable).with_name("backupguard")

CONFIGURATION = """
[site]
name = "CH des essais"
[store]
directory = "{root}/state"
[http]
listen = "127.0.0.1:{port}"
[scratch]
clear-text-accepted-by = "tests: invented data"
{quiet}
[repositories.far]
off-site = true
{repository}
[applications.dpi]
name = "Dossier patient"
criticality = "C1"
[applications.dpi.backups.nuit]
repository = "far"
{selects}
every = "24h"
"""


class Site:
    """One site with one repository elsewhere."""

    def __init__(self, root: Path, repository: str, selects: str) -> None:
        self.root = root
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            self.port = asked.getsockname()[1]
        self.file = root / "backupguard.toml"
        self.file.write_text(
            CONFIGURATION.format(
                root=root, port=self.port, quiet=quiet(), repository=repository, selects=selects
            )
        )
        self.settings = settings.load(self.file, environ={})

    @contextmanager
    def store(self) -> Iterator[Store]:
        opened = open_store(self.settings.state_directory)
        try:
            yield opened
        finally:
            opened.close()

    def perform(self, task: str, subject: str, **options: str) -> Run:
        asked = request(
            task, subject, requested_by="tests", due_at=datetime.now(UTC), options=options
        )
        with self.store() as store:
            run = store.enqueue(asked)
            runs.perform(run, self.settings, store, Cancellation(), TASKS)
            ended = store.run(run.id)
        assert ended is not None
        return ended

    def escrow_test(self) -> Run:
        return self.perform("restore-test", DPI, repository="far", key="escrow")

    def attest(self, made: datetime) -> None:
        """Have a person state that the key lies in escrow."""
        until = made + timedelta(days=180)
        data = {
            "topic": "escrow", "person": None, "text": "la clé est au coffre", "values": {},
            "expires_at": to_us(until), "signature": None,
        }  # fmt: skip
        stated = Observation(
            kind="attestation.made", subject=FAR, origin=Origin.ATTESTED, observed_at=made,
            data=data, key=f"attestation/{to_us(made)}",
        )  # fmt: skip
        with self.store() as store:
            store.append([stated], author="uid/0 (root)")

    def judged(self, at: datetime | None = None) -> Finding:
        with self.store() as store:
            assessment = Assessor(store, self.settings, load_catalogue()).assess(
                at or datetime.now(UTC)
            )
        found = assessment.finding("CHF-01", FAR)
        assert found is not None
        return found

    def result(self) -> dict[str, object]:
        with self.store() as store:
            fact = store.latest([DPI])[DPI]["restore-test.result"]
        assert isinstance(fact.observation.data, dict)
        return fact.observation.data


def secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return path


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a restic repository that two keys open: the reader's, the escrowed."""
    root = tmp_path_factory.mktemp("escrow")
    restic = Restic(
        program=program("restic-0.18"),
        repository=str(root / "far"),
        password_file=secret(root / "password", "the password of every day"),
    )
    (root / "dpi.sql").write_text("select 1;\n" * 1000)
    restic.back_up(dpi=root / "dpi.sql")
    restic.call("key", "add", "--new-password-file", secret(root / "escrowed", ESCROWED))
    return root


@pytest.fixture
def place(repository: Path, tmp_path: Path) -> Site:
    """Return a site whose escrowed key may be brought to `escrow`; its everyday key is here too."""
    secret(tmp_path / "password", "the password of every day")
    return restic_site(repository, tmp_path)


def restic_site(repository: Path, root: Path, escrow: bool = True) -> Site:
    reference = f'credentials.escrow.file = "{root}/escrow"' if escrow else ""
    return Site(
        root,
        f'type = "restic"\nurl = "{repository}/far"\nprogram = "{program("restic-0.18")}"\n'
        f'credentials.reader.file = "{root}/password"\n{reference}',
        f'select.paths = ["{repository}/dpi.sql"]',
    )


# ------------------------------------------------------------------------------ unencrypted copy


def borg_site(root: Path, encryption: str) -> Site:
    borg = make(root / "borg", "1.2", encryption)
    (borg.source / "dpi.dump").write_text("invented")
    borg.create("dpi-1", borg.source)
    keys = (
        f'credentials.reader.file = "{borg.passphrase}"\ncredentials.escrow.file = "{root}/escrow"'
    )
    keys = "" if encryption == "none" else keys
    return Site(root, f'type = "borg"\nurl = "{borg.root}"\n{keys}', 'select.name = "dpi-*"')


@pytest.mark.parametrize(
    ("encryption", "status", "reason"),
    [
        ("none", Status.NON_COMPLIANT, "clear"),
        ("authenticated", Status.NON_COMPLIANT, "clear"),
        ("repokey", Status.NOT_MEASURABLE, "never_attested"),
    ],
    ids=["unencrypted copy", "signed only", "clean twin"],
)
def test_unencrypted_copy(tmp_path: Path, encryption: str, status: Status, reason: str) -> None:
    site = borg_site(tmp_path, encryption)
    site.perform("inventory", SITE)
    found = site.judged()
    assert (found.status, found.reason.id) == (status, f"reason.CHF-01.{reason}")


# ---------------------------------------------------------------------- escrow attestation expired


def test_escrow_attestation_expired_and_its_twin(place: Site) -> None:
    secret(place.root / "escrow", ESCROWED)
    made = datetime.now(UTC) - timedelta(days=1)
    place.perform("inventory", SITE)
    place.escrow_test()
    place.attest(made)

    assert place.judged().status is Status.COMPLIANT
    late = place.judged(made + timedelta(days=181))
    assert (late.status, late.reason.id) == (Status.NON_COMPLIANT, "reason.CHF-01.escrow_expired")
    assert from_us(int(late.reason.values["made_at"])) == from_us(to_us(made))


# ------------------------------------------------------------------------------ escrowed key wrong


def test_escrowed_key_wrong_and_the_right_one_brought(place: Site) -> None:
    secret(place.root / "escrow", "not the key at all")
    place.perform("inventory", SITE)
    place.attest(datetime.now(UTC))

    run = place.escrow_test()

    # the backup is not accused: it is the means of recovery that is wrong
    assert (run.verdict, run.code) == (Verdict.COULD_NOT_VERIFY, "wrong_key")
    assert (place.result()["key"], place.result()["repository"]) == ("escrow", "far")
    found = place.judged()
    assert (found.status, found.reason.id) == (Status.NON_COMPLIANT, "reason.CHF-01.wrong_key")

    secret(place.root / "escrow", ESCROWED)
    place.escrow_test()
    assert place.result()["level"] == 1
    assert place.judged().reason.id == "reason.CHF-01.good"


def test_no_other_key_of_this_host_is_used(repository: Path, tmp_path: Path) -> None:
    secret(tmp_path / "password", "what it was before the server was reinstalled")
    secret(tmp_path / "escrow", ESCROWED)
    site = restic_site(repository, tmp_path)
    site.escrow_test()
    assert (site.result()["key"], site.result()["level"]) == ("escrow", 1)
    assert not list((tmp_path / "state").glob("cache/restic*")), "no cache, old or new"


def test_a_key_nobody_brought(place: Site) -> None:
    run = place.escrow_test()
    assert (run.verdict, run.code) == (Verdict.COULD_NOT_VERIFY, "secret_missing")
    assert place.judged().reason.id != "reason.CHF-01.wrong_key"


def test_an_everyday_test_says_nothing_of_the_escrow(place: Site) -> None:
    place.perform("inventory", SITE)
    place.perform("restore-test", DPI, repository="far")
    place.attest(datetime.now(UTC))
    assert place.result()["key"] == "reader"
    assert place.judged().reason.id == "reason.CHF-01.never_tested"


def test_a_borg_passphrase_from_escrow(tmp_path: Path) -> None:
    site = borg_site(tmp_path, "repokey")
    everyday = tmp_path / "borg" / "passphrase"
    secret(tmp_path / "escrow", "another")
    assert site.escrow_test().code == "wrong_key"
    secret(tmp_path / "escrow", everyday.read_text().strip())
    secret(everyday, "what it was before the server was reinstalled")
    site.escrow_test()
    assert (site.result()["key"], site.result()["level"]) == ("escrow", 1)


def test_the_escrowed_key_may_not_be_the_everyday_one(repository: Path, tmp_path: Path) -> None:
    from backupguard.errors import ConfigurationError

    with pytest.raises(ConfigurationError):
        Site(
            tmp_path,
            f'type = "restic"\nurl = "{repository}/far"\n'
            f'credentials.reader.file = "{tmp_path}/password"\n'
            f'credentials.escrow.file = "{tmp_path}/password"',
            f'select.paths = ["{repository}/dpi.sql"]',
        )


# ----------------------------------------------------------------------- a key that is brought


@contextmanager
def living(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    with (site.root / "log").open("ab") as log:
        daemon = subprocess.Popen(
            [BACKUPGUARD, "--config", site.file, "run"], stdout=log, stderr=log
        )
    try:
        for _ in range(200):
            if daemon.poll() is None and client.daemon_alive(site.settings):
                break
            time.sleep(0.1)
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


def restore_test(site: Site, key: str) -> dict[str, object]:
    """Run the command as somebody who has the key on standard input."""
    done = subprocess.run(
        [BACKUPGUARD, "--config", site.file, "restore-test", "dpi", "--repository", "far",
         "--escrowed-key", "--json"],
        input=key.encode() + b"\n", capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.stdout, done.stderr
    assert ESCROWED.encode() not in done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def places_with_the_key(site: Site) -> list[str]:
    """Return the files of the site, and the processes of this account, in which the key shows."""
    found = [
        str(path)
        for path in site.root.rglob("*")
        if path.is_file() and not path.is_symlink() and ESCROWED.encode() in path.read_bytes()
    ]
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                if ESCROWED.encode() in (process / name).read_bytes():
                    found.append(str(process / name))
    return found


def test_a_key_that_is_brought_is_nowhere_but_where_it_is_used(
    repository: Path, tmp_path: Path
) -> None:
    secret(tmp_path / "password", "the password of every day")
    site = restic_site(repository, tmp_path, escrow=False)

    told = restore_test(site, ESCROWED)  # without a daemon
    assert told["result"]["level"] == 1  # type: ignore[index]

    with living(site) as daemon:
        told = restore_test(site, ESCROWED)
        assert (told["result"]["key"], told["result"]["level"]) == ("escrow", 1)  # type: ignore[index]
        told = restore_test(site, "not the key at all")
        assert told["code"] == "wrong_key"
        # one that is handed over and whose daemon is killed at once
        key = Secret("escrow", ESCROWED.encode())
        options = {"repository": "far", "key": "escrow"}
        client.enqueue(site.settings, "restore-test", DPI, options, key)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        assert places_with_the_key(site) == []
    with living(site):
        runs_left = client.runs(site.settings)
        for run in runs_left:
            last = list(client.follow(site.settings, str(run["id"])))[-1]
            assert last["code"] in {"secret_missing", "daemon_died", None}
    assert places_with_the_key(site) == []
    assert site.judged().reason.id != "reason.CHF-01.good"  # nobody attested anything


def test_a_repository_must_be_named(place: Site) -> None:
    done = subprocess.run(
        [BACKUPGUARD, "--config", place.file, "restore-test", "dpi", "--escrowed-key"],
        input=b"", capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 64
