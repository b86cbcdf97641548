"""How ssh is called where a tool reads through it: nobody is asked, no unknown host is believed."""

from __future__ import annotations

from pathlib import Path

#: The environment variable that names the private key's file in the jail.
SSH_KEY = "BACKUPGUARD_SSH_KEY"


def ssh_words(known_hosts: Path | None, port: str | None, *, own_key: bool) -> list[str]:
    """Return ssh and its options, each without blanks; with `own_key` the key in `SSH_KEY` only.

    ssh itself puts in the key's path: tools that split a command put neither quotes nor variables
    into what stands here.
    """
    words = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    words += ["-o", "StrictHostKeyChecking=yes"]
    if known_hosts is not None:
        words += ["-o", f"UserKnownHostsFile={known_hosts}"]
    if own_key:
        words += ["-o", "IdentitiesOnly=yes", "-o", f"IdentityFile=${{{SSH_KEY}}}"]
    return [*words, "-p", port] if port else words
