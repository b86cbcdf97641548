"""Hands one mail to the site's relay (RFC 5321), and says in our own words why that failed."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage

from backupguard.contracts import Secret
from backupguard.errors import AccessRefused, Unreachable
from backupguard.settings.notify import Mail

#: Seconds that the relay may take for one answer.
PATIENCE_S = 30


def post(mail: Mail, password: Secret | None, message: EmailMessage, to: Sequence[str]) -> int:
    """Hand over a mail; return how many of its readers the relay refused, though not all.

    Raises Unreachable (dns, refused, tls, timeout) and AccessRefused (authentication for the login,
    permission for a mail that the relay refuses). No error holds what the relay said: it may repeat
    an address.
    """
    try:
        relay = _connected(mail)
        try:
            if mail.user is not None and password is not None:
                relay.login(mail.user, password.reveal().decode())
            return len(relay.send_message(message, to_addrs=list(to)))
        finally:
            with suppress(OSError, smtplib.SMTPException):  # it has the mail, or has not
                relay.quit()
            relay.close()
    except smtplib.SMTPAuthenticationError as error:
        raise AccessRefused("authentication") from error
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as e:
        raise AccessRefused("permission") from e
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        raise Unreachable("tls") from error
    except socket.gaierror as error:
        raise Unreachable("dns") from error
    except TimeoutError as error:
        raise Unreachable("timeout") from error
    except (OSError, smtplib.SMTPException) as error:
        raise Unreachable("refused") from error


def _connected(mail: Mail) -> smtplib.SMTP:
    host, port = mail.relay
    trust = ssl.create_default_context(cafile=None if mail.ca is None else str(mail.ca))
    if mail.security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=PATIENCE_S, context=trust)
    relay = smtplib.SMTP(host, port, timeout=PATIENCE_S)
    if mail.security == "starttls":
        try:
            relay.starttls(context=trust)
        except BaseException:
            relay.close()
            raise
    return relay
