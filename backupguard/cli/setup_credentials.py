"""The credentials that a configuration names: asked for, taken from files, put down for systemd.

A secret is read here once and goes to a file that only root may read, sealed to this host where
systemd can: never to the screen, an argument, the environment or a log.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli import common, setup_files
from backupguard.errors import UsageError
from backupguard.model import Message
from backupguard.processes import service_manager

if TYPE_CHECKING:
    from backupguard.settings import Loaded

#: Where a drop-in of the service lies, and what ours is called.
UNIT_DIRECTORY = Path("/etc/systemd/system/backupguard.service.d")
DROP_IN = "credentials.conf"
_HEADING = (
    "# Made by `backupguard setup`: systemd hands these secrets to the service, readable by it alone.\n"
    "[Service]\n"
)
_LIMIT = 64 * 1024  # as much as is read of a secret
#: What systemd takes as a credential's name, and a file too: systemd.exec(5).
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A credential that a configuration names: its name, and the keys that name it."""

    name: str
    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the credentials of a configuration lie."""

    directory: Path

    def plain(self, name: str) -> Path:
        """Return the file of a credential as it is."""
        return self.directory / name

    def sealed(self, name: str) -> Path:
        """Return the file of a credential that was sealed to this host."""
        return self.directory / f"{name}.cred"

    def has(self, name: str) -> bool:
        """Tell whether a credential was put down."""
        return os.path.lexists(self.plain(name)) or os.path.lexists(self.sealed(name))

    def value(self, name: str) -> bytes | None:
        """Return a credential that was put down, None where we cannot read it."""
        try:
            if self.plain(name).exists():
                return self.plain(name).read_bytes()
            return service_manager.unseal(name, self.sealed(name).read_bytes())
        except OSError:
            return None


def needed(loaded: Loaded) -> list[Needed]:
    """Return the credentials that a configuration names; one that lies in a safe stays there."""
    from backupguard.settings.rules import references_to_secrets

    found: dict[str, list[str]] = {}
    for path, reference in references_to_secrets(loaded.merged.data):
        name = reference.credential
        if name is None or path[-2:] == ("credentials", "escrow"):
            continue
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            values: dict[str, int | str] = {"name": name}
            raise UsageError("usage", Message(id="setup.bad-credential", values=values))
        found.setdefault(name, []).append(".".join(map(str, path)))
    return [Needed(name=name, uses=tuple(uses)) for name, uses in found.items()]


def given(options: Sequence[str]) -> dict[str, bytes]:
    """Return the values of `--credential NAME=FILE`, by name; "-" is standard input, once.

    Raises UsageError.
    """
    found: dict[str, bytes] = {}
    files = [option.partition("=") for option in options]
    if sum(file == "-" for _, _, file in files) > 1:
        raise UsageError("usage", Message(id="setup.credential-usage"))
    for name, _, file in files:
        if not name or not file or name in found:
            raise UsageError("usage", Message(id="setup.credential-usage"))
        try:
            if file == "-":
                value = sys.stdin.buffer.read(_LIMIT + 1)
            else:
                with Path(file).open("rb") as source:
                    value = source.read(_LIMIT + 1)
        except OSError as error:
            why: dict[str, int | str] = {"path": file, "why": error.strerror or ""}
            raise UsageError("usage", Message(id="setup.cannot-read", values=why)) from error
        found[name] = _usable(name, value)
    return found


def _usable(name: str, value: bytes) -> bytes:
    if not value.strip(b"\r\n") or len(value) > _LIMIT:
        raise UsageError("usage", Message(id="setup.credential-empty", values={"name": name}))
    return value


def refuse_unknown(values: Collection[str], wanted: Sequence[Needed]) -> None:
    """Raise UsageError for a value that no key of the configuration asks for."""
    names = [one.name for one in wanted]
    for name in values:
        if name not in names:
            told: dict[str, int | str] = {"name": name, "known": ", ".join(names) or "—"}
            raise UsageError("usage", Message(id="setup.credential-unknown", values=told))


def asked(wanted: Sequence[Needed]) -> dict[str, bytes]:
    """Ask for each credential at the terminal, without an echo; an empty answer is "later"."""
    import getpass

    words = common.words()
    found = {}
    if wanted:
        common.result("setup.ask-credentials")
    with warnings.catch_warnings():
        # Where the echo cannot be switched off, nothing is asked for.
        warnings.simplefilter("error", getpass.GetPassWarning)
        for one in wanted:
            question = words.text("setup.ask-credential", name=one.name, use=one.uses[0])
            try:
                value = getpass.getpass(question).encode("utf-8", "surrogateescape")
            except (getpass.GetPassWarning, EOFError) as error:
                raise UsageError("usage", Message(id="setup.no-terminal")) from error
            if value:
                found[one.name] = _usable(one.name, value)
    return found


def store(place: Place, values: Mapping[str, bytes]) -> list[Path]:
    """Put credentials down, sealed to this host where that works; return their files.

    What is there already is never replaced. Raises UsageError.
    """
    may_seal = os.geteuid() == 0 and service_manager.manages_this_host()
    made = []
    for name, value in values.items():
        sealed = service_manager.seal(name, value) if may_seal else None
        path = place.plain(name) if sealed is None else place.sealed(name)
        content = value if sealed is None else sealed
        setup_files.add(path, content, mode=0o600, directory_mode=0o700)
        made.append(path)
    return made


def hand_over(place: Place, wanted: Sequence[Needed]) -> Path | None:
    """Have systemd hand the credentials that lie there to the service; return the drop-in if changed.

    What the drop-ins of the unit say already stays as it is: a credential named there is not named
    again.
    """
    told = "".join(
        file.read_text(encoding="utf-8", errors="replace")
        for file in sorted(UNIT_DIRECTORY.glob("*.conf"))
    )
    lines = []
    for one in wanted:
        said = rf"^\s*LoadCredential(?:Encrypted)?\s*=\s*{re.escape(one.name)}(?::|\s*$)"
        if not place.has(one.name) or re.search(said, told, re.MULTILINE):
            continue
        sealed = not os.path.lexists(place.plain(one.name))
        path = place.sealed(one.name) if sealed else place.plain(one.name)
        lines.append(f"LoadCredential{'Encrypted' if sealed else ''}={one.name}:{path}\n")
    if not lines:
        return None
    drop_in = UNIT_DIRECTORY / DROP_IN
    text = drop_in.read_text(encoding="utf-8") if drop_in.exists() else _HEADING
    if not text.endswith("\n"):
        text += "\n"
    if re.findall(r"^\[(\w+)\]", text, re.MULTILINE)[-1:] != ["Service"]:
        text += "[Service]\n"
    setup_files.put(drop_in, (text + "".join(lines)).encode(), mode=0o644)
    return drop_in


def taken_note_of() -> bool:
    """Have systemd read the drop-in, also one that a killed `setup` left; False where it did not."""
    if not (UNIT_DIRECTORY / DROP_IN).exists() or not service_manager.manages_this_host():
        return True
    return service_manager.reload_units()
