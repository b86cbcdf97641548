"""Reads other tools' configuration files: bounded, without believing them, without their secrets."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.discovery_found import Found

#: No configuration of a backup tool is longer.
LIMIT = 1 << 20
_FILES_LIMIT = 2000
_SECRET_KEY = re.compile(
    r"pass(?!word_?command|_?file|command)|pwd|secret|token|credential|api[-_]?key|access[-_]?key|[-_]key\b",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"//(\S*)@")


def read_text(path: Path, found: Found, hides: str = "jobs") -> str | None:
    """Return a file's text, None when there is none or it cannot be read: that is noted.

    What is no UTF-8 is read all the same, wrong characters replaced.
    """
    content = read_bytes(path, found, hides)
    return None if content is None else content.decode("utf-8-sig", "replace")


def read_bytes(path: Path, found: Found, hides: str = "jobs", limit: int = LIMIT) -> bytes | None:
    """As `read_text`, without decoding. Only regular files are read; links are followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        found.lack(str(path), "permission", path, hides)
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # os.fdopen refuses a directory
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError:
            found.lack(str(path), "unparsable", path, hides)
            return None
    if len(content) > limit:
        found.lack(str(path), "too_large", path, hides)
        return None
    return content


def entries(directory: Path, found: Found, hides: str = "jobs") -> list[Path]:
    """Return what lies in a directory, sorted; none when it does not exist; refusals are noted."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        found.lack(str(directory), "permission", directory, hides)
        return []
    if len(names) > _FILES_LIMIT:
        found.lack(str(directory), "too_many", directory, hides)
    return [directory / name for name in names[:_FILES_LIMIT]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An assignment in an INI file, with its section and line number."""

    section: str
    key: str
    value: str
    number: int


def ini(text: str) -> Iterator[Line]:
    """Yield the assignments of an INI file. Lines that are none are skipped."""
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("[") and "]" in line:
            section = line[1 : line.index("]")].strip()
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            yield Line(section=section, key=key.strip(), value=value.strip(), number=number)


def is_secret_key(key: str) -> bool:
    """Tell whether a value under this key is likely to be a secret."""
    return _SECRET_KEY.search(key) is not None


def without_password(address: str) -> tuple[str, bool]:
    """Return an address without password, token or query, and whether there was any.

    The user stays where it stands alone before an `ssh://` host. Everything up to the last "@" counts
    as user and password: rather a path cut short than half a password shown.
    """
    plain, mark, _ = address.partition("?")
    hidden = bool(mark)
    match = _USERINFO.search(plain)
    if match:
        secret = ":" in match[1] or not re.match(r"(ssh|sftp)://", plain)
        user = "" if secret else f"{match[1]}@"
        plain = plain[: match.start()] + "//" + user + plain[match.end() :]
        hidden = hidden or secret
    elif re.match(r"[^/:@]+:[^/@]*@", plain):  # user:password@host without a scheme
        plain, hidden = plain.rpartition("@")[2], True
    return plain, hidden
