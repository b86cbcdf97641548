"""What `doctor` tells of those who are sent events and mails: do they answer, with what is configured?

Nothing is sent: a connection is made as for a delivery, with its certificates and its login, and ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupguard.cli.doctor_needs import Result
from backupguard.errors import BackupGuardError
from backupguard.model import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backupguard.settings import Settings
    from backupguard.settings.notify import Mail
    from backupguard.settings.soc import Syslog


def channels(settings: Settings) -> Iterator[Result]:
    """Tell whether the collector of syslog and the mail server answer, where they are configured."""
    collector, mail = settings.soc.syslog, settings.notify.mail
    if collector is not None:
        place = f"{collector.host}:{collector.port}"
        yield _asked("syslog", place, lambda: _collector(collector))
    if mail is not None:
        host, port = mail.relay
        yield _asked("mail", f"{host}:{port}", lambda: _relay(mail))


def _asked(check: str, place: str, ask: Callable[[], None]) -> Result:
    try:
        ask()
    except BackupGuardError as error:
        remedy = error.remedy or Message(id=f"cli.doctor.do.{check}")
        return Result(check=check, state="bad", found=f"{place}: {error.code}", remedy=remedy)
    return Result(check=check, state="ok", found=place)


def _collector(settings: Syslog) -> None:
    from backupguard.notify.syslog import hand_over

    hand_over(settings, ())


def _relay(mail: Mail) -> None:
    from backupguard.notify.smtp import greet
    from backupguard.settings.secrets import read_secret

    greet(mail, read_secret(mail.password) if mail.password is not None else None)
