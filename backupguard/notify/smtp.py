"""Hands one mail to the site's relay (RFC 5321), and says in our own words why that failed."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage

from backupguard.contracts import Secret
from backupguard.errors import AccessRefused, Unreachable
from backupguard.settings.notify import Mail

#: Seconds that the relay may take for one answer.
PATIENCE_S = 30


class RefusedForGood(AccessRefused):
    """The relay refuses a mail, and says that it always will (RFC 5321, 4.2.1: 5yz)."""


def post(mail: Mail, password: Secret | None, message: EmailMessage, to: Sequence[str]) -> int:
    """Hand over a mail; return how many of its readers the relay refused, though not all.

    Raises Unreachable (dns, refused, tls, timeout) and AccessRefused (authentication for the login,
    permission for a mail that the relay refuses, as RefusedForGood where it will not take it later).
    No error holds what the relay said: it may repeat an address.
    """
    with _relay(mail, password) as relay:
        return len(relay.send_message(message, to_addrs=list(to)))


def greet(mail: Mail, password: Secret | None) -> None:
    """Log in as for a mail, and send none. Raises what `post` raises."""
    with _relay(mail, password) as relay:
        relay.noop()


@contextmanager
def _relay(mail: Mail, password: Secret | None) -> Iterator[smtplib.SMTP]:
    """Hold a connection to the relay that is logged in, and say in our own words what fails."""
    try:
        relay = _connected(mail)
        try:
            if mail.user is not None and password is not None:
                relay.login(mail.user, password.reveal().decode())
            yield relay
        finally:
            with suppress(OSError, smtplib.SMTPException):  # it has the mail, or has not
                relay.quit()
            relay.close()
    except smtplib.SMTPAuthenticationError as error:
        raise AccessRefused("authentication") from error
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as e:
        raise (RefusedForGood if _for_good(e) else AccessRefused)("permission") from e
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        raise Unreachable("tls") from error
    except socket.gaierror as error:
        raise Unreachable("dns") from error
    except TimeoutError as error:
        raise Unreachable("timeout") from error
    except (OSError, smtplib.SMTPException) as error:
        raise Unreachable("refused") from error


def _for_good(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPResponseException) -> bool:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return error.smtp_code >= 500


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
