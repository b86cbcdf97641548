"""One tool in the jail, for the daemon: `python -m backupguard.daemon.tool WORK`, by `attendant`.

It knows what the daemon asks for and nothing else: removing what a dead run left, verifying a
signature. The command is read from standard input, the answer written to standard output: both are
files that exist only in memory, so that no secret is seen in an argument or an environment.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

from backupguard.contracts import Command, Secret
from backupguard.errors import BackupGuardError
from backupguard.evidence.statements import NAMESPACE
from backupguard.model import Message

#: What is kept of a tool's output: what verifies a signature says a line or two.
OUTPUT_LIMIT = 4 << 20
#: An answer with both outputs, in base 64.
ANSWER_LIMIT = 16 << 20
#: Verifies a statement's signature: ssh-keygen reads the signed text from its standard input only.
SIGNATURE_SCRIPT = (
    'exec ssh-keygen -Y verify -f "$SIGNERS" -I "$1" -n "$2" -s "$SIGNATURE" < "$STATEMENT"'
)
_SECRETS = frozenset({"SIGNERS", "SIGNATURE", "STATEMENT"})
#: Of `sandbox.disposal`: all that stands before the directory.
_DISPOSAL = (
    ("rm", "--recursive", "--force", "--one-file-system", "--"),
    ("chmod", "--recursive", "--silent", "u+rwx", "--"),
)
#: Of `reports.signed`, where {} is the directory it may write to; what follows says who is believed.
_REPORT = (
    *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "{}/signature"),
    *("-content", "{}/content", "-signer", "{}/signers", "-out", "/dev/null"),
)
_TRUST = (
    ("-noverify",),
    ("-CAfile", "{}/ca", "-no-CApath", "-no-CAstore", "-purpose", "any"),
)


def known(command: Command, work: Path) -> bool:
    """Tell whether a command is one of those that the daemon uses, on something below `work`."""
    if command.sink is not None or command.network or command.read or command.environment:
        return False
    if not command.write:
        script = ("sh", "-c", SIGNATURE_SCRIPT, "sh")
        return (
            command.argv[:-2] == script
            and command.argv[-1] == NAMESPACE
            and frozenset(command.secrets) == _SECRETS
        )
    place = command.write[0]
    if len(command.write) != 1 or command.secrets or not _is_below(place, work):
        return False
    asked = [(*argv, str(place)) for argv in _DISPOSAL]
    asked += [
        tuple(word.replace("{}", str(place)) for word in (*_REPORT, *trust)) for trust in _TRUST
    ]
    return command.argv in asked


def _is_below(place: Path, work: Path) -> bool:
    return place.name != ".." and os.path.abspath(place.parent) == os.path.abspath(work)  # noqa: PTH100


def answer(work: Path, asked: bytes) -> bytes | None:
    """Return how the command that `asked` describes ended in the jail, as JSON.

    None for a command that the daemon does not use: nothing was run.
    """
    from backupguard.processes import Cancellation, Jail

    told = json.loads(asked)
    command = Command(
        argv=tuple(told["argv"]),
        read=tuple(map(Path, told["read"])),
        write=tuple(map(Path, told["write"])),
        secrets={
            name: Secret(name, base64.b64decode(value)) for name, value in told["secrets"].items()
        },
        environment=told["environment"],
        timeout_s=told["timeout_s"],
    )
    if not known(command, work):
        return None
    try:
        done = Jail(work, Cancellation()).run(command)
    except BackupGuardError as error:
        return json.dumps(
            {
                "error": type(error).__name__,
                "code": error.code,
                "message": _told(error.message),
                "remedy": None if error.remedy is None else _told(error.remedy),
            }
        ).encode()
    cut = len(done.stdout) > OUTPUT_LIMIT or len(done.stderr) > OUTPUT_LIMIT
    return json.dumps(
        {
            "returncode": done.returncode,
            "stdout": base64.b64encode(done.stdout[:OUTPUT_LIMIT]).decode(),
            "stderr": base64.b64encode(done.stderr[:OUTPUT_LIMIT]).decode(),
            "truncated": done.truncated or cut,
            "duration_ms": done.duration_ms,
        }
    ).encode()


def _told(message: Message) -> dict[str, object]:
    return {"id": message.id, "values": dict(message.values)}


def main() -> int:
    """Read a command, run it, write how it ended."""
    from backupguard.undumped import forbid_dumps

    forbid_dumps()
    told = answer(Path(sys.argv[1]), sys.stdin.buffer.read())
    if told is None:
        print("refused: no tool of the daemon", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
