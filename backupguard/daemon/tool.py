"""One tool in the jail, for the daemon: `python -m backupguard.daemon.tool WORK`, by `attendant`.

The command is read from standard input, the answer written to standard output: both are files that
exist only in memory, so that no secret is seen in an argument or an environment.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from backupguard.contracts import Command, Secret
from backupguard.errors import BackupGuardError
from backupguard.model import Message

#: What is kept of a tool's output: what verifies a signature says a line or two.
OUTPUT_LIMIT = 4 << 20
#: An answer with both outputs, in base 64.
ANSWER_LIMIT = 16 << 20


def answer(work: Path, asked: bytes) -> bytes:
    """Return how the command that `asked` describes ended in the jail, as JSON."""
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
    sys.stdout.buffer.write(answer(Path(sys.argv[1]), sys.stdin.buffer.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
