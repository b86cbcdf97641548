"""What `setup` asks of systemd: to seal a secret to this host, to open it again, to read its units."""

from __future__ import annotations

import subprocess
from pathlib import Path

from backupguard.processes.programs import PROGRAM_PATH, find_program

#: There when systemd is the service manager: sd_booted(3).
_BOOTED = Path("/run/systemd/system")
_TIMEOUT_S = 30.0


def manages_this_host() -> bool:
    """Tell whether units run here, and are handed credentials."""
    return _BOOTED.is_dir()


def seal(name: str, value: bytes) -> bytes | None:
    """Return a secret sealed to this host under a name, by systemd-creds(1).

    None where that does not work: the program is missing or older than systemd 250, or what it sealed
    it cannot open. The host's own key is used and not the TPM: that one refuses after an update of
    the firmware, and a service that no longer starts is silence.
    """
    made = _creds("encrypt", name, value, "--with-key=host")
    return made if made and unseal(name, made) == value else None


def unseal(name: str, content: bytes) -> bytes | None:
    """Return a secret that was sealed on this host under that name, None where it cannot be opened."""
    return _creds("decrypt", name, content)


def _creds(verb: str, name: str, given: bytes, *options: str) -> bytes | None:
    # The secret goes in and comes out by pipes: nobody reads it in the list of processes.
    return _run("systemd-creds", f"--name={name}", *options, verb, "-", "-", given=given)


def reload_units() -> bool:
    """Have systemd read its units again; tell whether it did."""
    return _run("systemctl", "daemon-reload", given=b"") is not None


def _run(program: str, *arguments: str, given: bytes) -> bytes | None:
    found = find_program(program)
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *arguments],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": PROGRAM_PATH, "LC_ALL": "C.UTF-8"},
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
