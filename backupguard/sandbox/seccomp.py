"""The system calls that restored data has no business making, as a filter for bubblewrap."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache

from backupguard.errors import MissingMeans
from backupguard.model import Message

#: Refused with EPERM. Grouped by what they would touch; names a host's libseccomp does not know are
#: left out, because a kernel call that it cannot name was refused nowhere else either.
DENIED = (
    # namespaces, mounts and roots
    *("mount", "umount", "umount2", "pivot_root", "chroot", "unshare", "setns"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr"),
    *("statmount", "listmount"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    # the kernel and its large, young surfaces
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "kexec_load", "kexec_file_load", "init_module", "finit_module"),
    *("delete_module", "create_module", "query_module", "lookup_dcookie", "nfsservctl", "uselib"),
    *("_sysctl", "syslog", "fanotify_init"),
    # keys
    *("keyctl", "add_key", "request_key"),
    # files by handle, devices, quotas
    *("open_by_handle_at", "name_to_handle_at", "quotactl", "quotactl_fd"),
    *("swapon", "swapoff", "acct"),
    # clocks, consoles, ports, the machine
    *("reboot", "settimeofday", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime"),
    *("clock_adjtime64", "stime", "vhangup", "ioperm", "iopl", "personality", "vm86", "vm86old"),
    *("modify_ldt", "mbind", "migrate_pages", "move_pages", "set_mempolicy"),
)
_CLONE_NEWUSER = 0x10000000
_S_IFMT = 0o170000
_TIOCSTI = 0x5412  # types into the terminal of whoever started us
_TIOCLINUX = 0x541C
_FAMILIES = (1, 2, 10)  # unix, and IPv4 and IPv6, which find only a loopback of their own


@cache
def seccomp_filter() -> bytes:
    """Return the filter as bubblewrap reads it: BPF for this machine's architecture.

    Calls of another architecture's table kill the caller. Raises MissingMeans (program_missing) when
    libseccomp is not installed.
    """
    try:
        import pyseccomp
    except (RuntimeError, OSError) as error:
        raise MissingMeans(
            "program_missing",
            Message(
                id="processes.program_missing",
                values={"program": "libseccomp", "package": "libseccomp2"},
            ),
            Message(id="remedy.install_package", values={"package": "libseccomp2"}),
        ) from error
    filter_ = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
    refuse = pyseccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        try:
            filter_.add_rule(refuse, name)
        except (OSError, ValueError):
            continue
    masked = pyseccomp.MASKED_EQ
    filter_.add_rule(refuse, "clone", pyseccomp.Arg(0, masked, _CLONE_NEWUSER, _CLONE_NEWUSER))
    # clone3 hides its flags in memory; told that there is none, the C library uses clone
    filter_.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for name, argument in (("mknod", 1), ("mknodat", 2)):  # pipes and sockets are made by it too
        for device in (stat.S_IFCHR, stat.S_IFBLK):
            filter_.add_rule(refuse, name, pyseccomp.Arg(argument, masked, _S_IFMT, device))
    for request in (_TIOCSTI, _TIOCLINUX):
        filter_.add_rule(refuse, "ioctl", pyseccomp.Arg(1, masked, 0xFFFFFFFF, request))
    no_family = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in range(max(_FAMILIES)):
        if family not in _FAMILIES:
            filter_.add_rule(no_family, "socket", pyseccomp.Arg(0, masked, 0xFFFFFFFF, family))
    filter_.add_rule(no_family, "socket", pyseccomp.Arg(0, pyseccomp.GT, max(_FAMILIES)))
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w+b") as file:
        filter_.export_bpf(file)
        file.seek(0)
        return file.read()
