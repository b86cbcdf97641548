"""What a hostile or clumsy restore takes of this host: bounded, ended, rightly named."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from backupguard.contracts import Command
from backupguard.errors import BackupDefect, Cancelled, MissingMeans, Misunderstood, TimedOut
from backupguard.processes import Jail
from backupguard.sandbox import SandboxLimits, ScratchGuard, open_sandbox
from tests.integration.looking import eventually, running

MIB = 1 << 20

# -- processes

FORKS = """
import os, time
made = 0
try:
    for _ in range(3000):
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)
        made += 1
except OSError as error:
    print(made, error.strerror, flush=True)
"""


def test_a_fork_bomb_is_contained_and_gone(opened):
    with opened(processes=100) as box:
        done = box.run(("python3", "-c", FORKS), scratch=False, timeout_s=60)
        made, words = done.stdout.split(maxsplit=1)
        assert 80 < int(made) <= 100
        assert b"temporarily unavailable" in words
        assert running(FORKS) == []
        # each program has a count of its own: the next one starts
        assert box.run(("true",), scratch=False, timeout_s=10).returncode == 0


def test_a_bomb_that_never_stops_ends_at_its_timeout(opened):
    bomb = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass\n# 918273"
    with opened(processes=50) as box:
        with pytest.raises(TimedOut):
            box.run(("python3", "-c", bomb), scratch=False, timeout_s=2)
        assert running("918273") == []


# -- disk

FILL = "while :; do dd if=/dev/zero of=$i bs=1M count=16 2>/dev/null; i=$((i+1)); done"


def test_filling_the_disk_ends_the_run_at_its_cap(opened):
    with opened(disk_bytes=64 * MIB) as box:
        script = "cd /scratch; i=0;" + FILL
        with pytest.raises(TimedOut) as raised:
            box.run(("sh", "-c", script), scratch=True, timeout_s=60)
        assert raised.value.code == "scratch_limit"
        with pytest.raises(TimedOut):  # and nothing more starts
            box.run(("true",), scratch=False, timeout_s=10)
        with pytest.raises(TimedOut):
            box.read(PurePosixPath("/scratch/0"), 10)


def test_what_hides_from_measuring_is_counted_too(opened):
    with opened(disk_bytes=64 * MIB) as box:
        script = "mkdir /scratch/d; cd /scratch/d; chmod 300 .; i=0;" + FILL
        with pytest.raises(TimedOut) as raised:
            box.run(("sh", "-c", script), scratch=True, timeout_s=60)
        assert raised.value.code == "scratch_limit"


def test_one_file_cannot_pass_the_cap(opened):
    with opened(disk_bytes=32 * MIB) as box:
        done = box.run(
            ("dd", "if=/dev/zero", "of=/scratch/x", "bs=1M", "count=40"), scratch=True, timeout_s=60
        )
        assert done.returncode != 0
        assert (box.directory / "scratch/x").stat().st_size <= 32 * MIB


def test_the_reserve_of_the_host_stays_free(opened, tmp_path):
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    with opened(reserve_percent=0, reserve_bytes=free - 512 * MIB) as box:
        fill = ("fallocate", "--length", str(1024 * MIB), "/scratch/x")
        with pytest.raises(MissingMeans) as raised:
            box.run(("sh", "-c", '"$@"; sleep 60', "sh", *fill), scratch=True, timeout_s=60)
        assert raised.value.code == "no_disk"
        assert raised.value.verdict == "could_not_verify"


def test_a_sandbox_is_not_opened_below_the_reserve(opened):
    with pytest.raises(MissingMeans) as raised, opened(reserve_bytes=1 << 60):
        pass
    assert raised.value.code == "no_disk"
    assert raised.value.remedy is not None


def test_a_modest_use_disturbs_nobody(opened):
    with opened(disk_bytes=64 * MIB) as box:
        script = "dd if=/dev/zero of=/scratch/x bs=1M count=32 2>/dev/null; sleep 1.5"
        assert box.run(("sh", "-c", script), scratch=True, timeout_s=30).returncode == 0


def test_a_fetch_is_bounded_by_the_same_guard(tmp_path, cancel):
    guard = ScratchGuard(tmp_path, SandboxLimits(disk_bytes=16 * MIB))
    jail = Jail(tmp_path, cancel, watch=guard.check)
    sink = tmp_path / "fetched"
    endless = Command(argv=("cat", "/dev/zero"), sink=sink, timeout_s=60)
    with pytest.raises(TimedOut) as raised:
        jail.run(endless)
    assert raised.value.code == "scratch_limit"


# -- memory


def test_a_process_cannot_take_more_memory_than_its_limit(opened):
    with opened(memory_bytes=200 * MIB) as box:
        done = box.run(
            ("python3", "-c", "x = bytearray(400 << 20); print('allowed')"),
            scratch=False,
            timeout_s=60,
        )
        assert b"MemoryError" in done.stderr


SHARE = """
for _ in range(5):
    if os.fork() == 0:
        kept = bytes([1]) * (90 << 20)
        time.sleep(60)
time.sleep(60)
"""
HOGS = {
    "together they pass what each may take": "import os, time" + SHARE,
    "not to be looked into": (
        "import ctypes, os, time\nctypes.CDLL(None).prctl(4, 0)" + SHARE  # PR_SET_DUMPABLE
    ),
    "shared": """
import mmap, time
kept = mmap.mmap(-1, 500 << 20)
for page in range(0, 500 << 20, 4096): kept[page] = 1
time.sleep(60)
""",
}


@pytest.mark.parametrize("hog", HOGS)
def test_a_memory_hog_ends_the_run(opened, hog):
    program = HOGS[hog]
    with opened(memory_bytes=300 * MIB) as box:
        with pytest.raises(MissingMeans) as raised:
            box.run(("python3", "-c", program), scratch=False, timeout_s=50)
        assert raised.value.code == "no_memory"


def test_a_killed_program_is_not_told_as_want_of_memory(box, tmp_path):
    with pytest.raises(Misunderstood) as raised:
        box.run(("sh", "-c", "kill -9 $$"), scratch=False, timeout_s=10)
    assert raised.value.code == "program_killed"
    # a site's own program says with its status what it likes
    done = box.run(("sh", "-c", "kill -9 $$"), scratch=False, timeout_s=10, site=tmp_path)
    assert done.returncode == 137
    assert box.run(("sh", "-c", "exit 9"), scratch=False, timeout_s=10).returncode == 9


def test_a_host_short_of_memory_ends_the_run(opened):
    with opened(memory_reserve_bytes=1 << 60) as box, pytest.raises(MissingMeans) as raised:
        box.run(("sleep", "50"), scratch=False, timeout_s=40)
    assert raised.value.code == "no_memory"


# -- time, cancel, output


def test_a_timeout_ends_all_of_it(box):
    marker = f"1357{os.getpid()}"
    script = 'setsid sleep "$1" & (sleep "$1" &); sleep "$1"'
    with pytest.raises(TimedOut) as raised:
        box.run(("sh", "-c", script, "sh", marker), scratch=False, timeout_s=1)
    assert raised.value.code == "phase_limit"
    assert running(f"sleep\0{marker}") == []


def test_a_cancel_ends_all_of_it(box, cancel):
    marker = f"2468{os.getpid()}"
    threading.Timer(0.5, cancel.set, ["by_operator"]).start()
    with pytest.raises(Cancelled):
        box.run(
            ("sh", "-c", 'setsid sleep "$1" & sleep "$1"', "sh", marker),
            scratch=False,
            timeout_s=60,
        )
    assert running(f"sleep\0{marker}") == []


def test_a_flood_is_capped(box):
    script = "head -c 30000000 /dev/zero >&2 & head -c 30000000 /dev/zero; wait"
    done = box.run(("sh", "-c", script), scratch=False, timeout_s=60, output_limit=1000)
    assert (len(done.stdout), done.truncated) == (1000, True)
    assert len(done.stderr) < 2 * MIB


def test_input_is_fed_from_bytes_and_files(box, artifact):
    large = os.urandom(3 * MIB)
    (artifact / "large").write_bytes(large)
    box.write(PurePosixPath("/scratch/large"), large)
    sources = (
        large,
        artifact / "large",
        PurePosixPath("/in/large"),
        PurePosixPath("/scratch/large"),
    )
    for source in sources:
        done = box.run(("cat",), scratch=False, stdin=source, timeout_s=30, output_limit=4 * MIB)
        assert done.stdout == large
    # a program that does not want it is no error
    assert box.run(("true",), scratch=False, stdin=large, timeout_s=30).returncode == 0


def test_input_from_a_link_is_refused(box, artifact):
    (artifact / "link").symlink_to("/etc/passwd")
    for source in (artifact / "link", PurePosixPath("/in/link")):
        with pytest.raises(Misunderstood):
            box.run(("cat",), scratch=False, stdin=source, timeout_s=10)


# -- servers


def test_a_server_runs_stops_and_leaves_a_log(box):
    script = 'trap "echo stopping; exit 3" TERM; echo started; while :; do sleep 0.05; done'
    server = box.start(("sh", "-c", script), scratch=False, log="server")
    assert eventually(lambda: b"started" in box.log("server", 100))
    assert server.alive()
    done = server.stop(signal.SIGTERM, 20)
    assert done.returncode == 3
    assert not server.alive()
    assert box.log("server", 9) == b"stopping\n"
    assert server.stop(signal.SIGTERM, 20).returncode == 3  # again is no error
    assert box.log("never-written", 10) == b""


def test_a_server_that_does_not_obey_is_killed_with_all_it_started(box):
    marker = f"9753{os.getpid()}"
    script = 'trap "" TERM; setsid sleep "$1" & while :; do sleep "$1"; done'
    server = box.start(("sh", "-c", script, "sh", marker), scratch=False, log="server")
    assert eventually(lambda: len(running(f"sleep\0{marker}")) == 2)
    assert server.stop(signal.SIGTERM, 1).returncode == 137
    assert running(f"sleep\0{marker}") == []


def test_a_server_that_ends_by_itself_is_not_alive(box):
    server = box.start(("sh", "-c", "exit 4"), scratch=False, log="server")
    assert eventually(lambda: not server.alive())
    assert server.stop(signal.SIGTERM, 5).returncode == 4


def test_a_server_that_is_not_there_is_missing(box):
    with pytest.raises(MissingMeans) as raised:
        box.start(("/usr/lib/nowhere/postgres",), scratch=False, log="server")
    assert raised.value.code == "program_missing"
    with pytest.raises(MissingMeans):
        box.run(("/usr/lib/nowhere/postgres",), scratch=False, timeout_s=10)


def test_a_server_is_started_in_the_main_thread_only(box):
    caught: list[BaseException] = []

    def start() -> None:
        try:
            box.start(("sleep", "1"), scratch=False, log="server")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert caught


def test_leaving_the_sandbox_ends_its_servers(opened):
    marker = f"8642{os.getpid()}"
    with opened() as box:
        box.start(("sleep", marker), scratch=False, log="server")
        assert running(f"sleep\0{marker}")
    assert running(f"sleep\0{marker}") == []
    assert not box.directory.exists()


def test_a_server_ended_by_a_limit_says_so_and_accuses_no_backup(opened):
    filler = "cd /scratch; i=0;" + FILL

    def trial() -> None:
        with opened(disk_bytes=64 * MIB) as box:
            server = box.start(("sh", "-c", filler), scratch=True, log="server")
            with pytest.raises(TimedOut):
                eventually(lambda: not server.alive(), 60)
            server.stop(signal.SIGTERM, 5)  # never raises
            raise BackupDefect("load_refused")

    with pytest.raises(TimedOut) as raised:
        trial()
    assert raised.value.code == "scratch_limit"


def test_client_and_server_meet_in_a_shared_directory(box):
    server = textwrap.dedent("""
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("/shared/meet/s"); s.listen()
            c, _ = s.accept(); c.sendall(b"hello"); c.close()
    """)
    client = 'import socket; s = socket.socket(1); s.connect("/shared/meet/s"); print(s.recv(9))'
    box.start(("python3", "-c", server), scratch=True, shared=("meet",), log="server")
    assert eventually((box.directory / "shared/meet/s").exists)
    done = box.run(("python3", "-c", client), scratch=False, shared=("meet",), timeout_s=20)
    assert done.stdout == b"b'hello'\n"


def test_kill_9_of_the_parent_leaves_no_process(tmp_path, artifact):
    marker = f"9517{os.getpid()}"
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from backupguard.processes import Cancellation
        from backupguard.sandbox import SandboxLimits, open_sandbox
        script = 'setsid sleep "$1" & (sleep "$1" &); sleep "$1"'
        place, artifact = map(Path, sys.argv[1:3])
        with open_sandbox(place, artifact, limits=SandboxLimits(), cancel=Cancellation()) as box:
            argv = ("sh", "-c", script, "sh", sys.argv[3])
            box.start(argv, scratch=True, log="server")
            box.run(argv, scratch=False, timeout_s=100)
    """)
    argv = [sys.executable, "-c", program, str(tmp_path / "box"), str(artifact), marker]
    parent = subprocess.Popen(argv)
    try:
        assert eventually(lambda: len(running(f"sleep\0{marker}")) == 6)
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: not running(f"sleep\0{marker}"), 5)


# -- what comes back


def test_results_are_read_without_following_links(box, shell, tmp_path):
    (tmp_path / "host").write_text("of the host")
    shell(
        'echo fine > /scratch/fine; ln -s "$1" /scratch/link; mkfifo /scratch/pipe; mkdir /scratch/d;'
        'ln -s "$2" /scratch/up; ln -s /scratch/fine /scratch/inner',
        str(tmp_path / "host"),
        str(tmp_path),
    )
    assert box.read(PurePosixPath("/scratch/fine"), 3) == b"fin"
    for name in ("link", "pipe", "d", "up/host", "inner", "fine/x"):
        with pytest.raises(Misunderstood):
            box.read(PurePosixPath("/scratch", name), 100)
    with pytest.raises(FileNotFoundError):
        box.read(PurePosixPath("/scratch/absent"), 100)
    for path in ("/etc/passwd", "/scratch/../host", "/scratch", "/shared/x", "scratch/fine"):
        with pytest.raises(ValueError, match="sandbox"):
            box.read(PurePosixPath(path), 100)
    assert box.read(PurePosixPath("/in/dpi.dump"), 5) == b"PGDMP"


def test_files_are_written_without_following_links(box, shell, tmp_path):
    host = tmp_path / "host"
    host.write_text("of the host")
    shell('ln -s "$1" /scratch/conf; ln -s "$2" /scratch/up', str(host), str(tmp_path))
    box.write(PurePosixPath("/scratch/conf"), b"ours")
    assert host.read_text() == "of the host"
    assert shell("cat /scratch/conf").stdout == b"ours"
    with pytest.raises(OSError, match="up"):
        box.write(PurePosixPath("/scratch/up/host"), b"ours")
    box.write(PurePosixPath("/shared/pg/a/b"), b"x")
    assert shell("cat /shared/pg/a/b", shared=("pg",)).stdout == b"x"
    with pytest.raises(ValueError, match="sandbox"):
        box.write(PurePosixPath("/in/x"), b"x")


def test_a_log_replaced_by_a_link_is_not_followed(box, tmp_path):
    (box.directory / "logs/server").symlink_to("/etc/passwd")
    with pytest.raises(Misunderstood):
        box.log("server", 100)


# -- opening


def test_a_directory_in_use_or_an_artifact_that_is_none_is_refused(tmp_path, artifact, cancel):
    used = tmp_path / "used"
    used.mkdir()
    (used / "x").touch()
    options = {"limits": SandboxLimits(), "cancel": cancel}
    for directory, given in ((used, artifact), (tmp_path / "b", artifact / "dpi.dump")):
        with pytest.raises(ValueError, match="not"), open_sandbox(directory, given, **options):
            pass
    assert (used / "x").exists()


def test_no_descriptor_and_no_thread_stays(opened):
    def once() -> None:
        with opened() as box:
            box.run(("true",), scratch=True, stdin=b"x", timeout_s=10)
            box.start(("sleep", "60"), scratch=True, log="server").stop(signal.SIGTERM, 5)

    once()
    gc.collect()  # what other tests left
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    began = time.monotonic()
    for _ in range(3):
        once()
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before
    assert time.monotonic() - began < 20


# -- control groups, where an administrator has delegated one

GROUPED = textwrap.dedent("""
    import sys
    from pathlib import Path
    from backupguard.errors import MissingMeans
    from backupguard.processes import Cancellation, become_owner
    from backupguard.sandbox import SandboxLimits, open_sandbox
    place, group = map(Path, sys.argv[1:3])
    (group / "cgroup.procs").write_text("0")
    become_owner(place)
    limits = SandboxLimits(memory_bytes=200 << 20, memory_reserve_bytes=0)
    fill = ("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=300")
    with open_sandbox(place / "box", place / "in", limits=limits, cancel=Cancellation()) as box:
        done = box.run(("cat", "/proc/self/cgroup"), scratch=False, timeout_s=20)
        print(done.stdout.decode())
        try:
            # memory files are nobody's resident memory: only the kernel counts them
            box.run(("sh", "-c", '"$@"; sleep 20', "sh", *fill), scratch=False, timeout_s=30)
        except MissingMeans as error:
            print("ended", error.code)
    print("left", [path.name for path in group.iterdir() if path.is_dir()])
""")


@pytest.mark.root
def test_a_delegated_group_counts_all_memory(tmp_path):
    memory = Path("/sys/fs/cgroup/memory")
    own = next(
        (
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.split(":")[1] == "memory"
        ),
        None,
    )
    if own is None:
        pytest.skip("no memory control group of version 1")
    group = memory / own.lstrip("/") / f"backupguard-test-{os.getpid()}"
    group.mkdir()
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    place = tmp_path / "state"
    (place / "in").mkdir(parents=True)
    for path in (place, place / "in", group, group / "cgroup.procs"):
        os.chown(path, 65534, 65534)
    try:
        argv = [sys.executable, "-c", GROUPED, str(place), str(group)]
        done = subprocess.run(argv, capture_output=True, text=True)
    finally:
        assert eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    assert "backupguard-sandbox-" in done.stdout, done.stderr
    assert "ended no_memory" in done.stdout, done.stderr
    assert "left []" in done.stdout
