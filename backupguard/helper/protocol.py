"""What the daemon and its privileged helper say to one another: one line of JSON each way.

A request is `{"verb": VERB, "id": ID}`, with `token`, `attempt` and `remembered` for `try-files`; the
key of `luks-open` comes as a descriptor beside it (SCM_RIGHTS). The answer is `{"ok": true, …}`, or
`{"ok": false, "code": CODE, "detail": TEXT}` with a code of `CODES`. Ids are those of the
configuration that root wrote: no device, path or option ever comes from the caller.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: Root's own directory, unlike the daemon's, so that nobody else can put a link into its way.
RUNTIME: Final = Path("/run/backupguard-helper")
SOCKET: Final = RUNTIME / "helper.sock"
MEDIA: Final = RUNTIME / "media"

MOUNT: Final = "mount"
UNMOUNT: Final = "unmount"
LUKS_OPEN: Final = "luks-open"
LUKS_CLOSE: Final = "luks-close"
MTX_STATUS: Final = "mtx-status"
TRY_FILES: Final = "try-files"
PING: Final = "ping"

#: Every verb there is, with the keys its request has beside `verb`.
VERBS: Final[dict[str, frozenset[str]]] = {
    PING: frozenset(),
    MOUNT: frozenset({"id"}),
    UNMOUNT: frozenset({"id"}),
    LUKS_OPEN: frozenset({"id"}),
    LUKS_CLOSE: frozenset({"id"}),
    MTX_STATUS: frozenset({"id"}),
    TRY_FILES: frozenset({"id", "token", "attempt", "remembered"}),
}

REQUEST_LIMIT: Final = 16 * 1024
ANSWER_LIMIT: Final = 1024 * 1024

ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
TOKEN: Final = re.compile(r"[0-9a-f]{16}\Z")
ATTEMPT: Final = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
#: A canary's name: no slash, no leading dot but its own.
CANARY: Final = re.compile(r"\.?backupguard-canary-[0-9a-f]{16}[a-z0-9.-]{0,40}\Z")
MOST_REMEMBERED: Final = 64

#: Why a request is refused or could not be done.
CODES: Final = frozenset(
    {
        "usage",  # no JSON, too long, an unknown verb or key, a value out of its pattern
        "peer",  # the caller is not the daemon's account
        "configuration",  # unreadable, or somebody other than root could have written it
        "unknown",  # no such medium or repository is declared
        "undeclared",  # it is, without what this verb needs
        "absent",  # not attached to this host
        "ambiguous",  # two devices bear the declared UUID
        "other",  # what is attached is not what is declared
        "mounted_elsewhere",  # somebody else mounted it
        "in_use",  # it cannot be unmounted or closed while somebody uses it
        "filesystem",  # of a kind that is never mounted here
        "locked",  # a LUKS container that was not opened
        "wrong_key",
        "device_mapper_missing",
        "program_missing",
        "root",  # the backup user is root: no attempt is made as root
        "busy",  # another request for media is being served
        "timeout",
        "failed",  # anything else; the journal says more
    }
)


class Refusal(Exception):
    """A request that is not done: a code of `CODES`, and what the journal is told besides."""

    def __init__(self, code: str, detail: str = "") -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is no code of the helper")
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")
