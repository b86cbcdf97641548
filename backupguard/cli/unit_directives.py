"""What directives of a unit come to once its drop-ins are merged (systemd.exec(5)).

Values are those of one directive in the order systemd reads them, an empty one having taken back what
stood before it.
"""

from __future__ import annotations

import grp
from collections.abc import Collection, Sequence

#: What bubblewrap makes a sandbox of; all that `RestrictNamespaces=` knows.
NAMESPACES = frozenset({"user", "pid", "net", "ipc", "uts", "cgroup", "mnt"})
#: Calls that a sandbox begins with, each with the sets of `systemd-analyze syscall-filter` it is in.
_CALLS = (("mount", "@mount", "@known"), ("sethostname", "@privileged", "@known"))
_YES = frozenset({"1", "yes", "y", "true", "t", "on"})
_NO = frozenset({"0", "no", "n", "false", "f", "off"})


def namespaces(values: Sequence[str]) -> frozenset[str]:
    """Return the kinds of namespaces that `RestrictNamespaces=` leaves."""
    left: frozenset[str] | None = None
    for value in values:
        if value.lower() in _YES:
            left = frozenset()
        elif value.lower() in _NO:
            left = NAMESPACES
        elif value.startswith("~"):
            left = (NAMESPACES if left is None else left) - frozenset(value[1:].split())
        else:
            left = (left or frozenset()) | (NAMESPACES & frozenset(value.split()))
    return NAMESPACES if left is None else left


def allows(values: Sequence[str], names: Collection[str]) -> bool:
    """Tell whether `SystemCallFilter=` allows a call; `names` are its own and those of its sets."""
    allowed: bool | None = None
    for value in values:
        refuses = value.startswith("~")
        words = {word.partition(":")[0] for word in value.removeprefix("~").split()}
        if words & set(names):
            allowed = not refuses
        elif allowed is None:  # the first says whether what is not named is allowed
            allowed = refuses
    return allowed is not False


def allows_sandbox(values: Sequence[str]) -> bool:
    """Tell whether `SystemCallFilter=` allows what a sandbox begins with."""
    return all(allows(values, names) for names in _CALLS)


def is_group(name: str) -> bool:
    """Tell whether a group that `SupplementaryGroups=` names is there; a number always is."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return name.isdigit()
    return True


def is_yes(value: str) -> bool:
    """Tell whether a value is one of those that mean yes."""
    return value.lower() in _YES
