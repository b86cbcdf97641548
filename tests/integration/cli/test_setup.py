"""`backupguard setup` as a person runs it: at a real terminal, with real copies, to a restore test."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupguard.cli import setup_apart, setup_credentials, setup_files
from backupguard.cli.main import main
from backupguard.cli.setup_credentials import Needed, Place
from backupguard.errors import UsageError
from backupguard.processes import service_manager

SECRET = "canary-3f9Kq-not-to-be-seen"
WRONG = "canary-81mXw-no-key-of-anything"
#: Runs the command line on a host on which discovery, which has tests of its own, sees what is said.
LAUNCHER = """
import json, sys
from backupguard.daemon import discovery
seen = json.loads(sys.argv[1])
discovery.look_unconfigured = lambda settings: seen
from backupguard.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def seen(*jobs: dict[str, Any]) -> dict[str, Any]:
    return {"host": "srv-sauvegarde", "databases": [], "jobs": list(jobs), "lacking": []}


def restic_job(name: str, repository: Path) -> dict[str, Any]:
    return {
        "tool": "cron", "name": f"{name}:1 restic", "source": f"/etc/cron.d/{name}", "enabled": True,
        "configured_as": "", "repositories": [str(repository)], "schedule": "0 2 * * *",
        "secrets": [],
    }  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A restic repository that holds a laboratory's SQLite file."""
    place = tmp_path_factory.mktemp("copies")
    with closing(sqlite3.connect(place / "labo.sqlite3")) as database, database:
        database.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, value REAL)")
        database.executemany("INSERT INTO results (value) VALUES (?)", [(n,) for n in range(200)])
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "RESTIC_PASSWORD": SECRET}
    for arguments in (["init"], ["backup", str(place / "labo.sqlite3")]):
        command = [
            shutil.which("restic") or "restic",
            "--no-cache",
            "-q",
            "-r",
            str(place / "nas"),
            *arguments,
        ]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return place / "nas"


@dataclass
class Host:
    """A host of its own below a directory, and a person who calls `setup` there."""

    directory: Path
    seen: dict[str, Any]

    @property
    def configuration(self) -> Path:
        return self.directory / "etc/backupguard.toml"

    @property
    def credentials(self) -> Path:
        return self.directory / "etc/credentials"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "BACKUPGUARD_STORE_DIRECTORY": str(self.directory / "state"),
        }  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-c", LAUNCHER, json.dumps(self.seen),
            "--language", "en", "--config", str(self.configuration), *arguments,
        ]  # fmt: skip

    def run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command("setup", *arguments), env=self.environment, input=given,
            capture_output=True, timeout=120,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def at_a_terminal(self, arguments: Sequence[str], answers: Sequence[tuple[str, str]]) -> Any:
        """Run at a pseudo-terminal; type each answer once its question is there."""
        child, terminal = pty.fork()
        if child == 0:
            os.execve(sys.executable, self.command("setup", *arguments), self.environment)
        said, left, until = "", list(answers), time.monotonic() + 120
        asked_from = 0
        while time.monotonic() < until:
            if left and re.search(left[0][0], said[asked_from:]):
                asked_from = len(said)
                os.write(terminal, left.pop(0)[1].encode() + b"\n")
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                block = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
            if not block:
                break
            said += block.decode(errors="replace")
        else:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)
        assert not left, f"never asked: {left[0][0]}\n{said}"
        return code, said


@pytest.fixture
def host(tmp_path: Path, copies: Path) -> Host:
    return Host(tmp_path, seen(restic_job("labo", copies)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def name_of(host: Host) -> str:
    """Return the one credential that the written configuration names."""
    [name] = set(re.findall(r'credential = "(.*)"', host.configuration.read_text()))
    return name


def contents(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_from_questions_to_a_restore_test(host: Host) -> None:
    """First without the secret, which somebody else has; then with it."""
    answers = [
        ("Name of the site", "CH de Belle-Rive"),
        ("Language", "en"),
        ("Time zone", "Europe/Paris"),
        ("restic.*reader", ""),
    ]
    code, said = host.at_a_terminal([], answers)
    assert code == 0, said
    for told in ("still lacking", "setup --complete", "No restore test yet", "Next:"):
        assert told in said, said
    assert "CH de Belle-Rive" in host.configuration.read_text()
    name = name_of(host)
    assert not (host.credentials / name).exists()
    before = contents(host.directory / "etc")

    code, said = host.at_a_terminal(["--complete"], [("restic.*reader", SECRET)])
    assert code == 0, said
    assert SECRET not in said, "nothing is echoed"
    assert (host.credentials / name).read_text() == SECRET
    assert (mode(host.credentials), mode(host.credentials / name)) == (0o700, 0o600)
    for told in ("configuration is right", "Restore test of", "passed"):
        assert told in said, said
    [found] = (host.directory / "state").glob("store.sqlite3")
    assert SECRET.encode() not in found.read_bytes()
    after = contents(host.directory / "etc")
    assert after.items() >= before.items(), "the configuration is as it was"
    assert after.keys() - before.keys() == {str(host.credentials / name)}


def test_without_questions_and_with_a_wrong_secret(host: Host) -> None:
    done = host.run("--non-interactive", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (host.directory / "etc").exists(), "a dry run makes nothing"
    [name] = set(re.findall(r'credential = "(.*)"', done.stdout))
    assert f"Credential {name} is still lacking" in done.stdout
    done = host.run("--non-interactive", "--credential", f"{name}=-", given=WRONG.encode())
    assert done.returncode == 2, "nothing was proved, and the backup is not to blame"
    assert "wrong password" in done.stdout
    assert WRONG not in done.stdout + done.stderr
    assert (host.credentials / name).read_text() == WRONG
    assert host.configuration.exists()
    again = ["--complete", "--non-interactive", "--no-restore-test", "--credential", f"{name}=-"]
    done = host.run(*again, given=SECRET.encode())
    assert done.returncode == 0, done.stderr
    assert "left as it is" in done.stdout
    assert (host.credentials / name).read_text() == WRONG


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_killed_at_any_moment_it_can_be_called_again(tmp_path: Path, moment: float) -> None:
    """In a child that is killed some time after the first of its files was begun."""
    configuration = tmp_path / "etc/backupguard.toml"
    configuration.parent.mkdir()
    configuration.write_text("# words of the package\n")
    place = Place(tmp_path / "etc/credentials")
    values = {f"c{number}": SECRET.encode() * 20 for number in range(30)}
    text = b"[site]\n" + b"# configured\n" * 5000
    child = os.fork()
    if child == 0:
        try:
            setup_credentials.store(place, values)
            setup_files.put(configuration, text, mode=0o644)
        finally:
            os._exit(0)
    while not place.directory.exists():
        time.sleep(0.001)
    time.sleep(moment)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert configuration.read_bytes() in {b"# words of the package\n", text}
    there = [path for path in place.directory.iterdir() if not path.name.startswith(".")]
    assert all(path.read_bytes() == SECRET.encode() * 20 for path in there)
    missing = {name: value for name, value in values.items() if not place.has(name)}
    setup_credentials.store(place, missing)
    setup_files.put(configuration, text, mode=0o644)
    assert sorted(path.name for path in place.directory.iterdir()) == sorted(values)
    assert [path.name for path in configuration.parent.glob(".*")] == []


# ---------------------------------------------------------------------------------------- credentials


def test_a_credential_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path / "credentials")
    setup_credentials.store(place, {"nas": b"first"})
    with pytest.raises(UsageError):
        setup_credentials.store(place, {"nas": b"second"})
    assert place.plain("nas").read_bytes() == b"first"
    assert [path.name for path in place.directory.iterdir()] == ["nas"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nas"], "--credential NAME=FILE"),
        (["a=-", "b=-"], "standard input"),
        (["nas=/nowhere/at/all"], "cannot be read"),
        (["nas=/dev/null"], "empty"),
        (["nobody={file}"], "No key of the configuration names"),
    ],
    ids=["no file", "twice from one place", "no such file", "nothing in it", "nobody asked"],
)
def test_what_is_given_wrongly_is_refused_and_nothing_written(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("backupguard.daemon.discovery.look_unconfigured", lambda _: seen())
    monkeypatch.setattr("backupguard.cli.common.become_owner", lambda _: None)
    file = tmp_path / "value"
    file.write_text("x")
    path = tmp_path / "etc/backupguard.toml"
    given = [part for option in options for part in ("--credential", option.format(file=file))]
    assert (
        main(["--language", "en", "--config", str(path), "setup", "--non-interactive", *given])
        == 64
    )
    assert says in capsys.readouterr().err
    assert not path.parent.exists()


def test_the_drop_in_hands_over_what_lies_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tmp_path / "backupguard.service.d"
    monkeypatch.setattr(setup_credentials, "UNIT_DIRECTORY", unit)
    monkeypatch.setattr(service_manager, "manages_this_host", lambda: False)
    place = Place(tmp_path / "credentials")
    place.directory.mkdir()
    for name in ("nas", "s3.cred", "theirs"):
        (place.directory / name).write_text("x")
    unit.mkdir()
    (unit / "site.conf").write_text("[Service]\nLoadCredential=theirs:/elsewhere\n")
    wanted = [Needed(name=name, uses=("u",)) for name in ("nas", "s3", "theirs", "lacking")]
    drop_in = setup_credentials.hand_over(place, wanted)
    assert drop_in == unit / "credentials.conf"
    text = drop_in.read_text()
    assert [line for line in text.splitlines() if line.startswith("Load")] == [
        f"LoadCredential=nas:{place.plain('nas')}",
        f"LoadCredentialEncrypted=s3:{place.sealed('s3')}",
    ], "what does not lie there would keep the service from starting"
    assert setup_credentials.hand_over(place, wanted) is None
    drop_in.write_text(text + "# a word of the site's\n[Install]\nAlias=x.service\n")
    (place.directory / "lacking").write_text("x")
    setup_credentials.hand_over(place, wanted)
    assert drop_in.read_text().startswith(text + "# a word of the site's\n[Install]\n")
    assert drop_in.read_text().endswith(
        f"[Service]\nLoadCredential=lacking:{place.plain('lacking')}\n"
    )


def test_a_link_to_another_place_is_left_to_whoever_made_it(tmp_path: Path) -> None:
    (tmp_path / "backupguard.toml").symlink_to(tmp_path / "managed.toml")
    with pytest.raises(UsageError):
        setup_files.refuse_unwritable(tmp_path / "backupguard.toml")


def test_systemd_reads_a_drop_in_that_a_killed_setup_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def reload_units() -> bool:
        asked.append(True)
        return len(asked) < 2

    monkeypatch.setattr(setup_credentials, "UNIT_DIRECTORY", tmp_path)
    monkeypatch.setattr(service_manager, "manages_this_host", lambda: True)
    monkeypatch.setattr(service_manager, "reload_units", reload_units)
    assert setup_credentials.taken_note_of()
    assert not asked, "there is none"
    (tmp_path / "credentials.conf").touch()
    assert setup_credentials.taken_note_of()
    assert not setup_credentials.taken_note_of(), "what systemd refuses is told"
    assert len(asked) == 2
    monkeypatch.setattr(service_manager, "manages_this_host", lambda: False)
    assert setup_credentials.taken_note_of()


def lending(directory: Path) -> Any:
    return setup_apart.lent(SimpleNamespace(state_directory=directory), {"nas": SECRET.encode()})


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=["hangup", "end"])
def test_what_is_lent_is_gone_whoever_ends_it(tmp_path: Path, number: int) -> None:
    places = []

    def told_to_end() -> None:
        with lending(tmp_path) as place:
            assert (place / "nas").read_bytes() == SECRET.encode()
            places.append(place)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        told_to_end()
    assert caught.value.code == 128 + number
    assert not places[0].exists()
    assert signal.getsignal(number) is before


def test_who_works_with_what_is_lent_is_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that waits is told; the one it waits for may not go on without its secrets."""
    children = []

    def forked(work: object) -> int:
        children.append(os.posix_spawnp("sleep", ["sleep", "60"], os.environ))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return children[0]

    def waiting() -> None:
        with lending(tmp_path):
            setup_apart.done(["config", "check"], {})

    monkeypatch.setattr(setup_apart, "_forked", forked)
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit):
            waiting()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not Path("/proc", str(children[0])).exists()


def test_what_a_killed_one_lent_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, living = (
        tmp_path / f"backupguard-setup-{number}-x" for number in (2**22 + 1, os.getpid())
    )
    for place in (dead, living):
        place.mkdir()
        (place / "nas").write_text(SECRET)
    monkeypatch.setattr(setup_apart, "_LENT_BELOW", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with lending(tmp_path) as place:
        assert place.parent == tmp_path
        assert not dead.exists()
        assert living.exists(), "another terminal's"
    assert sorted(tmp_path.iterdir()) == [living]


def test_the_mode_of_the_packages_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "backupguard.toml"
    path.touch(0o640)
    path.chmod(0o640)
    setup_files.put(path, b"x", mode=0o644)
    assert (mode(path), path.read_bytes()) == (0o640, b"x")


# --------------------------------------------------------------------------------------------- as root


@pytest.mark.root
def test_what_systemd_seals_only_this_host_opens(tmp_path: Path) -> None:
    sealed = service_manager.seal("nas", SECRET.encode())
    if sealed is None:
        pytest.fail("systemd-creds does not work here")
    assert SECRET.encode() not in sealed
    assert service_manager.unseal("nas", sealed) == SECRET.encode()
    assert service_manager.unseal("other", sealed) is None, "the name is part of the seal"
    assert service_manager.unseal("nas", sealed[:-30]) is None
