"""Nothing works as root: a command started as root becomes the owner of the state directory."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from backupguard.errors import AccessRefused, Unreachable
from backupguard.model import Message
from backupguard.undumped import stay_undumped


def become_owner(directory: Path) -> None:
    """Given the state directory, become its owner when this process is root; else do nothing.

    For the first lines of a command, before a thread is started or a file is opened. The
    supplementary groups of the owner are taken too, because read rights come by group. Raises
    Unreachable (not_found) when there is no such directory, AccessRefused (permission) when root
    owns it: then there is nobody to become.
    """
    if os.geteuid() != 0:
        return
    try:
        status = directory.stat()
    except OSError as error:
        raise Unreachable("not_found", path=str(directory)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise Unreachable("not_found", path=str(directory))
    if status.st_uid == 0:
        raise AccessRefused(
            "permission",
            remedy=Message(id="remedy.owned_by_root", values={"path": str(directory)}),
            path=str(directory),
        )
    try:
        user = pwd.getpwuid(status.st_uid)
        group, groups = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:  # an owner without a name: a container, a removed account
        group, groups = status.st_gid, [status.st_gid]
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(status.st_uid, status.st_uid, status.st_uid)
    # A change of user decides anew whose core dumps are made: fs.suid_dumpable, proc(5).
    stay_undumped()
