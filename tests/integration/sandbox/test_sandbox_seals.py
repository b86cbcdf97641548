"""What restored data can see and do in the sandbox: each trap that was once found, each hostile act."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from backupguard.sandbox import SandboxLimits, check
from backupguard.sandbox.seccomp import seccomp_filter

# -- traps


def test_nothing_of_our_environment_shows_inside(shell, monkeypatch):
    monkeypatch.setenv("RESTIC_PASSWORD", "leaked-from-the-daemon")
    done = shell("cat /proc/[0-9]*/environ | tr '\\0' '\\n'; echo; env")
    assert b"leaked" not in done.stdout
    assert shell("wc -c < /proc/1/environ").stdout.strip() == b"0"
    names = {line.split(b"=")[0] for line in shell("env").stdout.splitlines()}
    assert names == {b"HOME", b"PATH", b"TMPDIR", b"LANG", b"TZ", b"PWD"}


def test_only_the_environment_asked_for_is_added(shell):
    assert shell("echo $PGDATA", environment={"PGDATA": "/scratch/d"}).stdout == b"/scratch/d\n"
    with pytest.raises(ValueError, match="environment"):
        shell("true", environment={"A\0B": "c"})


def test_no_path_of_the_host_shows_in_the_command_line(shell, tmp_path):
    words = shell("cat /proc/[0-9]*/cmdline").stdout
    assert str(tmp_path).encode() not in words
    assert b"bwrap" in words


def test_the_root_dev_and_etc_are_sealed(shell):
    done = shell(
        "for d in / /dev /etc /usr /usr/bin /in /shared /proc; do touch $d/x && echo $d; done"
    )
    assert done.stdout == b""
    assert done.stderr.count(b"Read-only file system") >= 6


def test_what_is_writable_in_memory_is_bounded(opened):
    with opened(tmp_bytes=4 << 20, shared_memory_bytes=4 << 20) as box:
        for place in ("/tmp", "/dev/shm"):
            done = box.run(
                ("dd", "if=/dev/zero", f"of={place}/x", "bs=1M", "count=16"),
                scratch=False,
                timeout_s=30,
            )
            assert done.returncode != 0
            assert b"No space left" in done.stderr


def test_there_is_a_user_of_its_own_and_no_other(shell):
    assert (
        shell("id -un; id -u; cat /etc/passwd /etc/group | wc -l").stdout == b"sandbox\n1000\n2\n"
    )
    assert shell("ls /etc").stdout.split() == [
        name
        for name in (b"alternatives", b"firebird", b"group", b"ld.so.cache", b"passwd")
        if name not in (b"alternatives", b"firebird") or Path("/etc", name.decode()).exists()
    ]


def test_no_process_of_the_host_shows(shell):
    assert int(shell("set -- /proc/[0-9]*; echo $#").stdout) <= 3


def test_only_standard_descriptors_are_open(shell):
    with Path("/etc/hostname").open("rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        assert set(shell("ls /proc/self/fd").stdout.split()) <= {b"0", b"1", b"2", b"3"}
        links = shell("ls -l /proc/1/fd").stdout
        assert b"hostname" not in links


def test_a_program_sees_scratch_and_shared_only_when_given(box):
    seen = box.run(("ls", "/"), scratch=False, timeout_s=10).stdout.split()
    assert b"scratch" not in seen
    assert b"shared" not in seen
    box.run(("touch", "/shared/pg/socket"), scratch=False, shared=("pg",), timeout_s=10)
    other = box.run(("ls", "/shared"), scratch=False, shared=("other",), timeout_s=10)
    assert other.stdout.split() == [b"other"]
    with pytest.raises(ValueError, match="shared"):
        box.run(("true",), scratch=False, shared=("../logs",), timeout_s=10)


# -- hostile acts

ACTS = textwrap.dedent("""
    import ctypes, errno, json, os, socket, sys
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number, *arguments):
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        return errno.errorcode[ctypes.get_errno()] if result == -1 else "allowed"

    def attempt(act):
        try:
            act()
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
        return "allowed"

    said = {}
    for path in ("/etc/shadow", "/root", "/home", "/var/lib", "/run", "/sys", "/boot", "/srv"):
        said[path] = attempt(lambda: os.stat(path))
    for path in ("/usr/bin/x", "/in/x", "/in/dpi.dump", "/proc/sys/kernel/core_pattern"):
        said["write " + path] = attempt(lambda: open(path, "r+b" if os.path.exists(path) else "wb"))
    for name, family in (("netlink", 16), ("packet", 17), ("alg", 38), ("vsock", 40), ("xdp", 44)):
        said[name] = attempt(lambda: socket.socket(family, socket.SOCK_DGRAM))
    said["family with high bits"] = call(41, (1 << 32) | 16, 2, 0)
    said["raw"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    def connect(family, address):
        with socket.socket(family) as s:
            s.settimeout(3)
            s.connect(address)
    said["host port"] = attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))))
    said["outside"] = attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 80)))
    said["abstract"] = attempt(lambda: connect(socket.AF_UNIX, "\\0" + sys.argv[2]))
    numbers = {"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308,
        "ptrace": 101, "process_vm_readv": 310, "bpf": 321, "perf_event_open": 298, "keyctl": 250,
        "add_key": 248, "userfaultfd": 323, "io_uring_setup": 425, "open_by_handle_at": 304,
        "settimeofday": 164, "reboot": 169, "syslog": 103, "personality": 135,
        "fsopen": 430, "open_tree": 428, "move_mount": 429, "pidfd_getfd": 438, "finit_module": 313}
    for name, number in numbers.items():
        said[name] = call(number, 0, 0, 0, 0, 0)
    said["device"] = attempt(lambda: os.mknod("/tmp/d", 0o20600, os.makedev(1, 1)))
    said["pipe"] = attempt(lambda: os.mkfifo("/tmp/p"))
    said["unshare user"] = call(272, 0x10000000)
    said["unshare mount"] = call(272, 0x00020000)
    said["clone user"] = call(56, 0x10000000 | 17, 0, 0, 0, 0)
    said["clone3"] = call(435, 0, 0)
    said["tiocsti"] = call(16, 0, 0x5412, 0)
    said["tiocsti with high bits"] = call(16, 0, (1 << 32) | 0x5412, 0)
    said["kill host"] = attempt(lambda: os.kill(int(sys.argv[3]), 0))
    said["setuid"] = attempt(lambda: os.setuid(0))
    status = dict(l.split(":\\t") for l in open("/proc/self/status").read().splitlines() if ":\\t" in l)
    said |= {name: status[name] for name in ("CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")}
    print(json.dumps(said))
""")


@pytest.fixture
def acts(python):
    """What came of every hostile act, with listeners on the host to be reached."""
    name = f"backupguard-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind("\0" + name)
        abstract.listen()
        return python(ACTS, str(server.getsockname()[1]), name, str(os.getpid()))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64's system calls")
def test_hostile_acts_are_refused(acts):
    absent = ("/etc/shadow", "/root", "/home", "/var/lib", "/run", "/sys", "/boot", "/srv")
    assert {acts[path] for path in absent} == {"ENOENT"}
    assert acts["write /usr/bin/x"] == acts["write /in/x"] == acts["write /in/dpi.dump"] == "EROFS"
    assert acts["write /proc/sys/kernel/core_pattern"] in ("EACCES", "EROFS", "EPERM")
    families = ("netlink", "packet", "alg", "vsock", "xdp", "family with high bits")
    assert {acts[name] for name in families} == {"EAFNOSUPPORT"}
    assert acts["raw"] == "EPERM"
    assert acts["host port"] == "ECONNREFUSED"
    assert acts["outside"] == "ENETUNREACH"
    assert acts["abstract"] == "ECONNREFUSED"
    refused = [
        *("mount", "umount2", "pivot_root", "chroot", "setns", "ptrace", "process_vm_readv", "bpf"),
        *("perf_event_open", "keyctl", "add_key", "userfaultfd", "io_uring_setup", "device"),
        *("open_by_handle_at", "settimeofday", "reboot", "syslog", "personality", "fsopen"),
        *("open_tree", "move_mount", "pidfd_getfd", "finit_module", "unshare user"),
        *("unshare mount", "clone user", "tiocsti", "tiocsti with high bits"),
    ]
    assert {name: acts[name] for name in refused} == dict.fromkeys(refused, "EPERM")
    assert acts["pipe"] == "allowed"
    assert acts["clone3"] == "ENOSYS"
    assert acts["kill host"] in ("ESRCH", "EPERM")
    assert acts["setuid"] in ("EINVAL", "EPERM")
    assert int(acts["CapEff"], 16) == int(acts["CapBnd"], 16) == int(acts["CapAmb"], 16) == 0
    assert (acts["NoNewPrivs"], acts["Seccomp"]) == ("1", "2")


def test_ordinary_work_is_not_refused(python):
    program = textwrap.dedent("""
        import json, multiprocessing, os, socket, subprocess, threading, mmap, signal
        a, b = socket.socketpair()
        a.send(b"x")
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 5).close()
        thread = threading.Thread(target=int); thread.start(); thread.join()
        shared = mmap.mmap(-1, 1 << 20)
        fd = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 1 << 20)
        with open("/scratch/f", "wb") as file:
            file.write(b"x"); os.fsync(file.fileno())
        os.symlink("/etc/passwd", "/scratch/link")
        print(json.dumps([subprocess.call(["/usr/bin/true"]), b.recv(1).decode()]))
    """)
    assert python(program) == [0, "x"]


def test_the_filter_is_made_once_and_is_bpf():
    assert seccomp_filter() is seccomp_filter()
    assert len(seccomp_filter()) % 8 == 0  # instructions of 8 bytes


def test_the_artifact_cannot_be_reached_for_writing_through_standard_input(box, artifact):
    script = "echo evil > /proc/self/fd/0; echo $?"
    box.run(("/bin/sh", "-c", script), scratch=False, stdin=artifact / "dpi.dump", timeout_s=10)
    assert (artifact / "dpi.dump").read_bytes() == b"PGDMP of nobody\n"


def test_check_says_yes_here():
    check()


def test_limits_are_set_on_every_program(shell):
    limits = SandboxLimits()
    said = shell("cat /proc/self/limits; cat /proc/self/oom_score_adj; nice").stdout.decode()
    rows = {line[:26].strip(): line[26:].split()[:2] for line in said.splitlines()[1:-2]}
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max processes"] == [str(limits.processes)] * 2
    assert rows["Max file size"] == [str(limits.disk_cap())] * 2
    assert rows["Max data size"] == [str(limits.memory_cap())] * 2
    assert said.splitlines()[-2:] == ["1000", str(limits.niceness)]


# -- as root

INSIDE = """
import sys
from pathlib import Path
from backupguard.processes import Cancellation, become_owner
from backupguard.sandbox import SandboxLimits, check, open_sandbox
place = Path(sys.argv[1])
become_owner(place)
with open_sandbox(place / "box", place / "in", limits=SandboxLimits(), cancel=Cancellation()) as box:
    done = box.run(("cat", "/in/root", "/in/ours"), scratch=False, timeout_s=20)
    sys.stdout.buffer.write(done.stdout + done.stderr)
"""


@pytest.mark.root
def test_a_sandbox_of_root_is_refused(opened):
    from backupguard.errors import MissingMeans

    for attempt in (check, lambda: opened().__enter__()):
        with pytest.raises(MissingMeans) as raised:
            attempt()
        assert raised.value.code == "sandbox_unavailable"
        assert raised.value.remedy is not None


@pytest.mark.root
def test_after_becoming_the_owner_a_file_of_root_is_not_readable_inside(tmp_path):
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    place = tmp_path / "state"
    (place / "in").mkdir(parents=True)
    (place / "in/root").write_text("of root\n")
    (place / "in/root").chmod(0o600)
    (place / "in/ours").write_text("ours\n")
    for path in (place, place / "in", place / "in/ours"):
        os.chown(path, 65534, 65534)
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(place)], capture_output=True, text=True, check=True
    )
    assert "ours" in done.stdout
    assert "of root" not in done.stdout
    assert "Permission denied" in done.stdout
