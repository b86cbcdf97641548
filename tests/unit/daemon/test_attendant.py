"""Runs and tools in a unit of their own: what is asked, what comes along, how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backupguard.contracts import Command, Completed, Secret
from backupguard.daemon import attendant, elsewhere, signatures, tool
from backupguard.daemon.attendant import Refused, make_room, receive
from backupguard.daemon.runners import Runners
from backupguard.errors import AccessRefused, Cancelled, MissingMeans, UsageError
from backupguard.processes import Cancellation
from backupguard.reports import signed
from backupguard.sandbox.disposal import discard
from backupguard.settings.people import Person
from tests.unit.daemon.accepting import accepting
from tests.unit.daemon.test_runners import DEAF, POLITE, RUN

#: Ends with 0 when everything a runner is given is there, and nothing else.
WHOLE = """\
import os, sys
module, run, *rest = sys.argv[1:]
where = os.environ["CREDENTIALS_DIRECTORY"]
right = [
    module == "backupguard.daemon.runner", run == "0" * 26,
    rest == ["--settings", "/state/s.json", "--parent", str(os.getppid())],
    sys.stdin.read() == "the key", os.getsid(0) == os.getpid(),
    open(where + "/nas").read() == "secret", "UNIT" not in os.environ,
    os.environ["SSL_CERT_DIR"] == "/etc/own", os.environ["PATH"] != "of the daemon",
]
raise SystemExit(0 if all(right) else right.index(False) + 10)
"""


def ended(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ask: str | None = None,
    key: int | None = None,
    grace_s: float = 20,
    wait_s: float = 0.7,
) -> int:
    """Have a run performed behind `place` and return its status."""
    monkeypatch.setenv(elsewhere.VARIABLE, str(place))

    async def main() -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        all_ = Runners(lambda _run, status: done.set_result(status), grace_s=grace_s)
        all_.start(RUN, Path("/state/s.json"), timedelta(seconds=60), key)
        if ask is not None:
            await asyncio.sleep(wait_s)
            assert all_.cancel(RUN.id) if ask == "cancel" else await all_.stop() is None
        status = await asyncio.wait_for(done, 20)
        assert len(all_) == 0
        return status

    return asyncio.run(main())


def test_a_run_is_given_all_it_needs_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "nas").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("SSL_CERT_DIR", "/etc/own")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}")
    reading, writing = os.pipe()
    os.write(writing, b"the key")
    os.close(writing)
    try:
        with accepting(tmp_path, WHOLE) as place:
            assert ended(place, monkeypatch, key=reading) == 0
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("script", "ask", "grace_s", "status"),
    [
        ("raise SystemExit(75)", None, 20, 75),
        (POLITE, "cancel", 20, -signal.SIGUSR1),
        (POLITE, "stop", 20, -signal.SIGTERM),
        (DEAF, "stop", 0.3, -signal.SIGKILL),
    ],
    ids=["by itself", "cancelled", "stopped", "deaf"],
)
def test_a_run_ends_as_a_child_of_the_daemon_would(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    ask: str | None,
    grace_s: float,
    status: int,
) -> None:
    with accepting(tmp_path, script) as place:
        assert ended(place, monkeypatch, ask=ask, grace_s=grace_s) == status


def test_a_run_ends_with_its_daemon(tmp_path: Path) -> None:
    script = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); {POLITE}"
    with accepting(tmp_path, script) as place:
        gone = elsewhere.Attended(place, RUN.id, Path("/s"), None)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            pass
        gone.close()
    # the attendant has waited for it
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_an_attendant_that_is_killed_says_nothing_and_that_is_an_end(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = object.__new__(elsewhere.Attended)
        end._connection, end._said = ours, b""
        ours.setblocking(False)
        assert end.status() is None
        theirs.sendall(b"7")
        assert end.status() is None
        theirs.close()
        assert end.status() == -signal.SIGKILL


def test_without_a_unit_a_run_is_performed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from backupguard.daemon import runners

    monkeypatch.setattr(
        runners, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"]
    )
    assert ended(tmp_path / "nobody.sock", monkeypatch) == 7


def asked(request: object, descriptors: int = 0) -> attendant.Request:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        socket.send_fds(ours, [line], [nothing.fileno()] * descriptors)
        ours.shutdown(socket.SHUT_WR)
        return receive(theirs)


def test_a_signal_that_overtakes_the_request_is_delivered(tmp_path: Path) -> None:
    """A stop that meets a starting run: the stream glues both together."""
    line = json.dumps(GOOD).encode() + b"\n" + bytes([99, signal.SIGTERM])
    assert asked(line).early == bytes([99, signal.SIGTERM])
    with accepting(tmp_path, POLITE) as place, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(place))
        connection.sendall(line)
        assert connection.recv(64) == b"%d\n" % -signal.SIGTERM


GOOD = {"do": "run", "run": RUN.id, "settings": "/s", "environment": {}, "brings": []}


@pytest.mark.parametrize(
    ("request_", "descriptors"),
    [
        (b"", 0),
        (b"{}\n", 0),
        (b"[1]\n", 0),
        (b"no line", 0),
        ({**GOOD, "do": "shell"}, 0),
        ({**GOOD, "run": "../x"}, 0),
        ({**GOOD, "settings": 7}, 0),
        ({**GOOD, "settings": "a\0b"}, 0),
        ({**GOOD, "environment": {"TMPDIR": 7}}, 0),
        ({**GOOD, "brings": ["input"]}, 0),
        (GOOD, 1),
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(request_: object, descriptors: int) -> None:
    with pytest.raises(Refused):
        asked(request_, descriptors)


def test_the_environment_of_a_request_cannot_say_what_is_run() -> None:
    told = {**GOOD, "environment": {"TZ": "UTC", "LD_PRELOAD": "/x", "PATH": "/y"}}
    assert asked(told).environment == {"TZ": "UTC"}


def test_another_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendant.os, "geteuid", lambda: 4_000_000)
    with pytest.raises(Refused, match="peer"):
        asked(GOOD)


def test_a_tool_of_the_daemon_runs_in_a_jail_elsewhere(tmp_path: Path) -> None:
    left = tmp_path / "run" / "deep"
    left.mkdir(parents=True)
    (left / "restored").touch()
    left.chmod(0o500)
    with accepting(tmp_path) as place:
        tools = elsewhere.Elsewhere(place, tmp_path, Cancellation())
        discard(left.parent, tools)
        assert not left.parent.exists()
        with pytest.raises(MissingMeans, match="sandbox_unavailable"):
            tools.run(Command(argv=("sh", "-c", "exit 0")))
    ended_in = elsewhere._answered(
        json.dumps(
            {"returncode": 3, "stdout": "", "stderr": "bm8=", "truncated": False, "duration_ms": 1}
        ).encode()
    )
    assert (ended_in.returncode, ended_in.stderr) == (3, b"no")


class Recording:
    """Tools that note what is asked, and fail."""

    def __init__(self) -> None:
        self.asked: list[Command] = []

    def which(self, program: str) -> Path | None:
        raise AssertionError(program)

    def run(self, command: Command) -> Completed:
        self.asked.append(command)
        return Completed(returncode=1, stdout=b"", stderr=b"")


def test_what_the_daemon_asks_is_known_and_nothing_else(tmp_path: Path) -> None:
    tools = Recording()
    left = tmp_path / "run"
    (left / "deep").mkdir(parents=True)
    with pytest.raises(AccessRefused):
        discard(left, tools)
    blob = b"\0\0\0\x0bssh-ed25519" + bytes(36)
    key = f"ssh-ed25519 {base64.b64encode(blob).decode()}"
    person = Person(name="Anne", user="anne", signing_key=key)
    with pytest.raises(UsageError):
        signatures.verify(tools, "anne", person, "Europe/Paris", "text", "armored")
    for trust in (("-noverify",), signed._believed(left)):
        with pytest.raises(UsageError):
            signed._verify(tools, left, *trust)
    assert len(tools.asked) == 6
    assert all(tool.known(command, tmp_path) for command in tools.asked)
    assert not any(tool.known(command, tmp_path / "other") for command in tools.asked[:3])
    for command in tools.asked:
        for other in (
            replace(command, argv=(*command.argv, "-x")),
            replace(command, argv=("/bin/true", *command.argv[1:])),
            replace(command, write=(*command.write, Path("/var"))),
            replace(command, network=True),
            replace(command, secrets={**command.secrets, "MORE": Secret("more", b"")}),
            replace(command, environment={"LD_PRELOAD": "/x"}),
        ):
            assert not tool.known(other, tmp_path)


def test_a_tool_without_a_unit_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = elsewhere.Elsewhere(tmp_path / "nobody.sock", tmp_path, Cancellation())
    with pytest.raises(MissingMeans) as missing:
        tools.run(Command(argv=("true",)))
    assert missing.value.code == "sandbox_unavailable"

    def full(*_: object, **__: object) -> socket.socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(elsewhere, "ask", full)
    with pytest.raises(MissingMeans) as missing:  # not that the tool took long: it has not begun
        tools.run(Command(argv=("true",)))
    assert "timed out" in str(missing.value.message.values["detail"])


def test_a_tool_that_takes_hours_ends_with_its_daemon(tmp_path: Path) -> None:
    cancel = Cancellation()
    path = tmp_path / "slow.sock"
    with socket.socket(socket.AF_UNIX) as slow:
        slow.bind(str(path))
        slow.listen()
        threading.Timer(0.1, cancel.set, ["by_stop"]).start()
        with pytest.raises(Cancelled):
            elsewhere.Elsewhere(path, tmp_path, cancel).run(Command(argv=("rm",), timeout_s=9999))


def delegated(tmp_path: Path, controllers: str) -> Path:
    """Make what a delegated group of version 2 looks like."""
    unit = tmp_path / "system.slice" / "unit"
    (unit / "run").mkdir(parents=True)
    (unit / "cgroup.controllers").write_text(controllers)
    (unit / "cgroup.subtree_control").write_text("")
    return unit


def test_a_delegated_group_is_divided(tmp_path: Path) -> None:
    from backupguard.sandbox.cgroups import places

    unit = delegated(tmp_path, "cpu memory pids\n")
    assert make_room("0::/system.slice/unit\n", tmp_path)
    assert (unit / "run" / "cgroup.procs").read_text() == str(os.getpid())
    assert (unit / "cgroup.subtree_control").read_text() == "+memory +pids"
    # and as the kernel shows it then, a sandbox's group is made beside the run's
    (unit / "cgroup.subtree_control").write_text("memory pids\n")
    (unit / "cgroup.procs").write_text("")
    found = places("0::/system.slice/unit/run\n", tmp_path)
    assert [(one.directory, one.memory) for one in found] == [(unit, "memory.max")]


@pytest.mark.parametrize(
    ("own", "controllers"),
    [
        ("1:memory:/x\n", "memory"),
        ("0::/nowhere\n", "memory"),
        ("0::/system.slice/unit\n", "hugetlb"),
    ],
    ids=["version 1", "not there", "no memory"],
)
def test_where_nothing_is_delegated_nothing_is_touched(
    tmp_path: Path, own: str, controllers: str
) -> None:
    unit = delegated(tmp_path, controllers)
    assert not make_room(own, tmp_path)
    assert (unit / "cgroup.subtree_control").read_text() == ""
