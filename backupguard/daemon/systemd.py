"""What the service manager is told: a datagram to the socket named in NOTIFY_SOCKET.

See sd_notify(3). Without that socket (a terminal, a test) nothing is said and nothing fails.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: A manager that does not empty its queue must not hold up the loop.
PATIENCE_S = 0.2
#: How much longer a start may take from each time that is asked for, and how often that is.
LONGER_S, ASK_EVERY_S = 300, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """Speaks to the service manager; `address` None stays silent, `watchdog_s` None needs no beat."""

    address: str | None
    watchdog_s: float | None

    def send(self, *states: str) -> bool:
        """Send states such as "READY=1" in one datagram; return whether somebody took it.

        A service manager that does not listen must not stop a restore test, so errors are answers.
        """
        if self.address is None:
            return False
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.settimeout(PATIENCE_S)
                speaker.connect(address)
                speaker.sendall("\n".join(states).encode())
        except OSError:
            return False
        return True

    def ready(self, status: str) -> bool:
        """Say that the daemon works, after a start or a reload."""
        return self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> bool:
        """Say that a reload begins; the manager wants to know when, on its own clock."""
        return self.send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
        )

    def stopping(self, status: str) -> bool:
        """Say that the daemon ends on purpose."""
        return self.send("STOPPING=1", f"STATUS={status}")

    def longer(self) -> Callable[[], None]:
        """Return what asks for more time to start, however often it is called (sd_notify(3))."""
        asked: float | None = None

        def ask() -> None:
            nonlocal asked
            now = time.monotonic()
            if asked is None or now - asked >= ASK_EVERY_S:
                asked = now
                self.send(f"EXTEND_TIMEOUT_USEC={LONGER_S * 1_000_000}")

        return ask

    def beat(self) -> bool:
        """Say that the daemon is alive and its threads move."""
        return self.send("WATCHDOG=1")


def notifier(environ: Mapping[str, str] | None = None) -> Notifier:
    """Return the notifier of this process, as NOTIFY_SOCKET and WATCHDOG_USEC describe it.

    WATCHDOG_PID, when it is set, must name this process; half the manager's interval is kept to.
    """
    values = os.environ if environ is None else environ
    period = values.get("WATCHDOG_USEC", "")
    ours = values.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
    return Notifier(
        address=values.get("NOTIFY_SOCKET") or None,
        watchdog_s=int(period) / 2_000_000 if period.isdigit() and ours and int(period) else None,
    )
