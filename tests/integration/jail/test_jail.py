"""The jail with real programs: what a tool may see, write and say, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backupguard.contracts import Command, Secret
from backupguard.errors import AccessRefused, Cancelled, MissingMeans, TimedOut, Unreachable
from backupguard.processes import Cancellation, Jail, bubblewrap
from tests.integration.looking import eventually, running

SECRET = Secret("reader", b"correct-horse-battery\n")


# -- what it sees and writes


def test_the_host_is_read_only_but_for_what_is_named(shell, tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.mkdir()
    other.mkdir()
    done = shell(
        'for d in "$1" "$2" /usr /etc /var/tmp /dev "$PWD"; do'
        ' touch "$d/x" 2>/dev/null && echo "$d"; done',
        str(allowed),
        str(other),
        write=(allowed,),
    )
    assert done.stdout.decode().split() == [str(allowed)]
    assert (allowed / "x").exists()
    assert not (other / "x").exists()


def test_its_tmp_is_its_own_and_empty(shell):
    done = shell("ls -A /tmp /run /dev/shm; touch /tmp/backupguard-jail-test && echo ok")
    assert b"ok" in done.stdout
    assert not Path("/tmp/backupguard-jail-test").exists()
    assert shell("test -e /tmp/backupguard-jail-test").returncode == 1


def test_what_it_reads_or_writes_below_a_hidden_place_is_shown(cancel):
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp", f"backupguard-test-{os.getpid()}")
    place.mkdir()
    try:
        (place / "a").write_text("seen")
        run = Jail(place, cancel).run
        cat = Command(argv=("cat", str(place / "a")))
        assert run(cat).stdout == b"seen"
        script = 'cat "$1/a"; touch "$1/b"'
        done = run(Command(argv=("sh", "-c", script, "sh", str(place)), write=(place,)))
        assert done.stdout == b"seen"
        assert (place / "b").exists()
    finally:
        for name in ("a", "b"):
            (place / name).unlink(missing_ok=True)
        place.rmdir()


def test_it_sees_only_its_own_processes(shell):
    script = "set -- /proc/[0-9]*; echo $#; kill -0 $1 2>/dev/null; echo $?"
    assert int(shell(script).stdout.split()[0]) <= 3


def test_a_write_path_that_is_not_there_is_said(shell, tmp_path):
    with pytest.raises(Unreachable) as raised:
        shell("true", write=(tmp_path / "absent",))
    assert raised.value.code == "not_found"


@pytest.mark.parametrize("network", [False, True])
def test_the_network_is_there_only_when_asked(shell, network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        script = "import socket,sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
        done = shell('exec python3 -c "$1" "$2"', script, port, network=network)
    assert (done.returncode == 0) is network


def test_it_has_no_capability_and_gains_none(shell):
    status = shell("cat /proc/self/status; ulimit -c").stdout.decode()
    lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
    assert status.splitlines()[-1] == "0"


def test_only_its_own_descriptors_are_open(shell):
    with Path("/etc/hostname").open("rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        names = shell("ls /proc/self/fd").stdout.split()
    assert set(names) <= {b"0", b"1", b"2", b"3"}


# -- environment and secrets


def test_the_environment_is_fixed(shell, monkeypatch):
    monkeypatch.setenv("RESTIC_PASSWORD", "leaked-from-the-daemon")
    monkeypatch.setenv("LD_PRELOAD", "")
    done = shell("env; cat /proc/[0-9]*/environ", environment={"RESTIC_PROGRESS_FPS": "0.1"})
    names = {line.split(b"=")[0] for line in done.stdout.split(b"\0")[0].splitlines()}
    assert b"PATH=/usr/local/bin:/usr/bin:/usr/sbin\n" in done.stdout
    assert {b"HOME", b"LANG", b"RESTIC_PROGRESS_FPS"} <= names
    assert b"leaked" not in done.stdout


def test_a_name_that_is_no_variable_is_refused(shell):
    with pytest.raises(ValueError, match="environment"):
        shell("true", environment={"A=B": "c"})


def test_a_secret_is_a_file_inside_and_nothing_else(shell):
    script = (
        'stat -c %a "$RESTIC_PASSWORD_FILE"; wc -c < "$RESTIC_PASSWORD_FILE";'
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
    )
    done = shell(script, secrets={"RESTIC_PASSWORD_FILE": SECRET})
    assert done.stdout.split()[:2] == [b"600", str(len(SECRET.reveal())).encode()]
    assert b"RESTIC_PASSWORD_FILE=/run/" in done.stdout
    assert b"****" not in done.stdout  # nothing had to be masked
    assert b"correct-horse" not in done.stdout


def test_what_is_private_is_seen_by_no_tool(cancel, tmp_path):
    """Not even below a directory that is shown, by another name, or with the rights to read it."""
    place = tmp_path / "repository"
    keys, secret, other = place / "keys", place / "secret", tmp_path / "other"
    keys.mkdir(parents=True)
    for file in (keys / "signing", secret, other, place / "data"):
        file.write_text(f"content of {file.name}")
    link = tmp_path / "link"
    link.symlink_to(other)
    private = (keys, secret, link, tmp_path / "absent", Path("/run/nothing"))
    script = 'cd "$1/repository"; cat keys/* secret ../other ../link data; ls keys'
    argv = ("sh", "-c", script, "sh", str(tmp_path))
    for command in (Command(argv=argv, read=(place,)), Command(argv=argv, write=(place,))):
        done = Jail(tmp_path, cancel, private=private).run(command)
        assert done.stdout == b"content of data", done
        twin = Jail(tmp_path, cancel).run(command)
        assert twin.stdout.count(b"content of") == 5


def test_a_secret_shows_in_no_command_line_or_environment_of_the_host(jail, cancel, tmp_path):
    marker = f"8642{os.getpid()}"
    argv = ("sh", "-c", 'cat "$RESTIC_PASSWORD_FILE" > /dev/null; sleep "$1"', "sh", marker)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            jail.run(Command(argv=argv, secrets={"RESTIC_PASSWORD_FILE": SECRET}))
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert eventually(lambda: running(f"sleep\0{marker}"))
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                for name in ("cmdline", "environ"):
                    try:
                        words = (entry / name).read_bytes()
                    except OSError:
                        continue
                    assert b"correct-horse" not in words, entry
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    finally:
        cancel.set("by_stop")
        thread.join()
    assert ended


def test_secrets_are_masked_in_output_errors_and_lines(shell):
    script = 'cat "$F"; cat "$F" >&2; exit 7'
    done = shell(script, secrets={"F": SECRET})
    assert (done.stdout, done.stderr, done.returncode) == (b"****", b"****", 7)
    lines: list[bytes] = []
    shell(script, secrets={"F": SECRET}, sink=lines.append)
    assert lines == [b"****"]


def test_secrets_are_in_no_error(shell):
    with pytest.raises(TimedOut) as raised:
        shell('cat "$F" >&2; sleep 60', secrets={"F": SECRET}, timeout_s=1)
    assert "correct-horse" not in str(raised.value) + repr(raised.value.message)


# -- output


def test_a_file_sink_is_new_and_private(jail, shell, tmp_path):
    sink = tmp_path / "dump"
    done = shell("echo data; echo words >&2", sink=sink)
    assert (sink.read_bytes(), done.stdout, done.stderr) == (b"data\n", b"", b"words\n")
    assert stat.S_IMODE(sink.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        shell("echo again", sink=sink)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        shell("echo again", sink=link)


def test_a_sink_that_raises_ends_the_tool(shell):
    def refuse(line: bytes) -> None:
        raise ZeroDivisionError

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        shell("echo one; sleep 60", sink=refuse)
    assert time.monotonic() - began < 20


def test_both_pipes_are_drained_and_a_flood_is_capped(shell, monkeypatch):
    monkeypatch.setattr("backupguard.processes.jail.OUTPUT_LIMIT", 1 << 20)
    done = shell(
        "head -c 30000000 /dev/zero >&2 & head -c 30000000 /dev/zero; wait; echo the end >&2"
    )
    assert done.returncode == 0
    assert done.truncated
    assert len(done.stdout) == 1 << 20
    assert len(done.stderr) < (1 << 20) + 100
    assert done.stderr.endswith(b"the end\n")


def test_short_output_is_not_truncated(shell):
    done = shell("printf a; printf b >&2")
    assert (done.stdout, done.stderr, done.truncated) == (b"a", b"b", False)


def test_exit_statuses_and_signals_are_told(shell):
    assert shell("exit 12").returncode == 12
    assert shell("kill -SEGV $$").returncode == 128 + signal.SIGSEGV
    assert not shell("kill -KILL $$").oom


def test_output_after_the_tool_closed_its_pipes_is_no_end(shell):
    done = shell("exec >&- 2>&-; sleep 0.5; exit 3")
    assert (done.returncode, done.duration_ms >= 450) == (3, True)


# -- the end


def test_a_timeout_ends_the_tool_and_all_it_started(shell):
    marker = f"7531{os.getpid()}"
    began = time.monotonic()
    with pytest.raises(TimedOut) as raised:
        shell('setsid sleep "$1" & sleep "$1" & (sleep "$1" &) ; sleep "$1"', marker, timeout_s=1)
    assert raised.value.code == "phase_limit"
    assert 0.9 < time.monotonic() - began < 20
    assert running(f"sleep\0{marker}") == []


def test_a_cancel_ends_the_tool_at_once(shell, cancel):
    marker = f"6420{os.getpid()}"
    threading.Timer(0.5, cancel.set, ["by_stop"]).start()
    began = time.monotonic()
    with pytest.raises(Cancelled) as raised:
        shell('setsid sleep "$1" & sleep "$1"', marker)
    assert raised.value.code == "by_stop"
    assert time.monotonic() - began < 20
    assert running(f"sleep\0{marker}") == []
    with pytest.raises(Cancelled):
        shell("true")  # a run that is to end starts nothing more


def test_a_cancel_without_descriptor_is_seen_too(tmp_path):
    class Plain:
        asked = False

        def is_set(self) -> bool:
            return self.asked

        def raise_if_set(self) -> None:
            if self.asked:
                raise Cancelled("by_operator")

        def wait(self, seconds: float) -> bool:
            return self.asked

    plain = Plain()
    threading.Timer(0.3, setattr, [plain, "asked", True]).start()
    with pytest.raises(Cancelled):
        Jail(tmp_path, plain).run(Command(argv=("sleep", "60")))


def test_what_a_finished_tool_left_behind_is_gone_when_it_returns(shell):
    marker = f"5319{os.getpid()}"
    done = shell('setsid sleep "$1" > /dev/null 2>&1 & echo done', marker)
    assert done.stdout == b"done\n"
    assert running(f"sleep\0{marker}") == []


def test_a_watch_that_raises_ends_the_tool(tmp_path, cancel):
    calls = []

    def watch() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise MissingMeans("no_disk")

    with pytest.raises(MissingMeans):
        Jail(tmp_path, cancel, watch=watch).run(Command(argv=("sleep", "60")))


def test_no_zombie_and_no_descriptor_stays(shell):
    shell("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        shell("true")
    with pytest.raises(TimedOut):
        shell("sleep 60", timeout_s=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [
        child for child in children if b"bwrap" in Path("/proc", child, "cmdline").read_bytes()
    ]


def test_kill_9_of_the_parent_leaves_no_process(tmp_path):
    marker = f"4208{os.getpid()}"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from backupguard.contracts import Command
        from backupguard.processes import Cancellation, Jail
        script = 'setsid sleep "$1" & (sleep "$1" &); sleep "$1"'
        argv = ("sh", "-c", script, "sh", sys.argv[2])
        Jail(Path(sys.argv[1]), Cancellation()).run(Command(argv=argv))
    """)
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), marker])
    try:
        assert eventually(lambda: len(running(f"sleep\0{marker}")) == 3)
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: not running(f"sleep\0{marker}"), 5)


def test_four_tools_run_at_once_from_a_pool(shell):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: shell(f"sleep 0.3; echo {n}"), range(8)))
    assert [int(one.stdout) for one in done] == list(range(8))


# -- what is missing


def test_a_missing_program_names_its_package(jail):
    with pytest.raises(MissingMeans) as raised:
        jail.run(Command(argv=("/nowhere/restic", "version")))
    assert raised.value.code == "program_missing"
    assert raised.value.message.values["package"] == "restic"
    assert jail.which("sh") == Path("/usr/bin/sh")
    assert jail.which("no-such-program") is None


def test_a_host_without_user_namespaces_is_said_with_a_remedy(jail, monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "require_program", lambda _name: broken)
    with pytest.raises(MissingMeans) as raised:
        jail.run(Command(argv=("true",)))
    assert raised.value.code == "sandbox_unavailable"
    assert "namespace" in str(raised.value.message.values["detail"])
    assert raised.value.remedy is not None


def test_restic_says_its_version(jail):
    done = jail.run(Command(argv=("restic", "version")))
    assert done.stdout.startswith(b"restic 0.")


def test_the_cache_outlives_the_run_and_is_named(tmp_path, cancel):
    cache = tmp_path / "cache"
    cache.mkdir()
    jail = Jail(tmp_path, cancel, cache=cache)
    jail.run(Command(argv=("sh", "-c", 'echo kept > "$XDG_CACHE_HOME/a"')))
    assert (cache / "a").read_text() == "kept\n"


# -- as root


BECOME = """
import json, os, sys
from pathlib import Path
from backupguard.processes import become_owner
become_owner(Path(sys.argv[1]))
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
print(json.dumps({"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(), "back": back}))
"""


@pytest.mark.root
def test_root_becomes_the_owner_of_the_state_directory(tmp_path):
    os.chown(tmp_path, 65534, 65534)  # nobody, nogroup
    done = subprocess.run(
        [sys.executable, "-c", BECOME, str(tmp_path)], capture_output=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["ids"] == [65534] * 6
    assert said["back"] is False
    assert 0 not in said["groups"]


@pytest.mark.root
def test_root_does_not_work_on_a_directory_of_its_own(tmp_path):
    from backupguard.processes import become_owner

    os.chown(tmp_path, 0, 0)
    with pytest.raises(AccessRefused) as raised:
        become_owner(tmp_path)
    assert raised.value.remedy is not None
    with pytest.raises(Unreachable):
        become_owner(tmp_path / "absent")


@pytest.mark.root
def test_a_jail_of_root_has_no_capability(tmp_path):
    secret = tmp_path / "of-another"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, 65534, 65534)
    done = Jail(tmp_path, Cancellation()).run(Command(argv=("cat", str(secret))))
    assert done.returncode == 1


def test_the_sweep_can_tell_whose_processes_these_are(jail):
    mounts = jail.run(Command(argv=("cat", "/proc/self/mountinfo"))).stdout.decode()
    assert f" {jail.work} " in mounts
