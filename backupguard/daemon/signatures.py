"""Verifies who signed a statement: `ssh-keygen -Y verify`, in the jail, against one person's key.

Nothing but the text, the signature and that one public key goes in; ssh-keygen's exit status is the
answer (ssh-keygen(1): "the command will return a zero exit status if the signature is valid").
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from backupguard.contracts import Command, Secret, Tools
from backupguard.daemon.tool import SIGNATURE_SCRIPT
from backupguard.errors import UsageError
from backupguard.evidence.statements import NAMESPACE
from backupguard.model import Message
from backupguard.settings.people import Person, key_of

#: A signature of the largest RSA key is below 3 KiB.
LONGEST = 16 * 1024
_TIMEOUT_S = 30
#: What ssh-keygen says, to why it is refused; anything else is a wrong key or an altered text.
_WHY = {
    b"namespace does not match": "@statements.refused.namespace",
    b"key has expired": "@statements.refused.expired",
    b"No principal matched": "@statements.refused.key",
    b"incorrect signature": "@statements.refused.text",
}


def verify(
    tools: Tools, identifier: str, person: Person, timezone: str, statement: str, armored: str
) -> None:
    """Return when `armored` is the signature of `statement` by the person of that id.

    Raises UsageError when it is not, or when the person has no key; MissingMeans without ssh-keygen
    or a jail.
    """
    if person.signing_key is None:
        message = Message(id="statements.no-key", values={"person": identifier})
        raise UsageError("usage", message)
    done = tools.run(
        Command(
            argv=("sh", "-c", SIGNATURE_SCRIPT, "sh", identifier, NAMESPACE),
            secrets={
                "SIGNERS": Secret("signers", _signers(identifier, person, timezone).encode()),
                "SIGNATURE": Secret("signature", armored.encode()),
                "STATEMENT": Secret("statement", statement.encode()),
            },
            timeout_s=_TIMEOUT_S,
        )
    )
    if done.returncode == 0:
        return
    why = next((said for words, said in _WHY.items() if words in done.stderr), None)
    raise UsageError(
        "usage",
        Message(
            id="statements.refused",
            values={"why": why or "@statements.refused.key", "person": identifier},
        ),
    )


def _signers(identifier: str, person: Person, timezone: str) -> str:
    """Return the one line of an allowed_signers file that names the person's key."""
    found = key_of(person.signing_key or "")
    assert found is not None  # the settings were validated
    options = f'namespaces="{NAMESPACE}"'
    if person.signing_key_until is not None:
        day = person.signing_key_until + timedelta(days=1)
        end = datetime.combine(day, time(), ZoneInfo(timezone)).astimezone(UTC)
        options += f',valid-before="{end:%Y%m%d%H%M%S}Z"'
    kind, encoded = str(person.signing_key).split()[:2]
    return f"{identifier} {options} {kind} {encoded}\n"
