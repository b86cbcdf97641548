"""A real SMTP server of a site: TLS, a login, and the ways in which a relay is unwell."""

from __future__ import annotations

import email
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.integration.repositories.rest_server import certificate

USER, PASSWORD = "backupguard", "correct horse"


@dataclass
class Relay:
    """A running relay. `accepted` runs after a mail was taken and before that is answered."""

    port: int = 0
    ca: Path = Path()
    mails: list[EmailMessage] = field(default_factory=list)
    readers: list[list[str]] = field(default_factory=list)
    logins: list[bool] = field(default_factory=list)
    answer: str = "250 taken"
    largest: int = 1 << 25  # bytes of a mail: told to who asks (RFC 1870), and kept to
    accepted: Callable[[], None] = lambda: None

    async def handle_DATA(  # noqa: N802 - the name of the command, as aiosmtpd wants it
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a mail, or refuse it."""
        if self.answer.startswith("2"):
            content = cast(bytes, envelope.original_content)
            self.mails.append(cast(EmailMessage, email.message_from_bytes(content, policy=default)))
            self.logins.append(bool(session.authenticated))
            self.readers.append(envelope.rcpt_tos)
            self.accepted()
        return self.answer


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _login(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data == LoginPassword(
        USER.encode(), PASSWORD.encode()
    )
    return AuthResult(success=good, handled=good or mechanism not in ("LOGIN", "PLAIN"))


@contextmanager
def serving(directory: Path, security: str, *, relay: Relay | None = None) -> Iterator[Relay]:
    """Serve mail on loopback until the block ends; with a login wherever there is TLS."""
    made = relay or Relay()
    made.port = made.port or free_port()
    options: dict[str, Any] = {"data_size_limit": made.largest}
    if security != "none":
        made.ca, key = certificate(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.ca, key)
        # aiosmtpd knows of TLS from STARTTLS alone: over TLS from the start it must not ask for it
        options |= (
            {"ssl_context": context, "auth_require_tls": False}
            if security == "tls"
            else {"tls_context": context, "require_starttls": True, "auth_required": True}
        )
        options["authenticator"] = _login
    controller = Controller(made, hostname="localhost", port=made.port, **options)
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
