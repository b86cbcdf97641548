"""Over-size trees: a declared test restores a part, another one each time, and says how much that was.

Which shares of the tree were read when is remembered as keyed hashes, per application and repository,
in the cache: whoever empties it makes the next tests prove their coverage anew.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from backupguard.contracts import Context, Part, PartFetched
from backupguard.model import PartialTest, to_us
from restore_tests.canary import FILE
from restore_tests.settings import Partial


def declared(settings: Any) -> Partial | None:
    """Return what the site declares of partial tests; None: a test restores everything."""
    found = getattr(settings, "partial", None)
    return found if isinstance(found, Partial) else None


def asked(context: Context, application: str, repository: str, said: Partial) -> Part:
    """Return what to ask of a repository: how much, and when each share was last read."""
    kept = _read(_path(context, application, repository))
    return Part(
        max_bytes=said.max_bytes,
        always=(*said.always, FILE),
        read_at=kept["read_at"],
        key=bytes.fromhex(kept["key"]),
    )


def done(said: Partial, part: Part, fetched: PartFetched, now: datetime) -> PartialTest:
    """Return what this test amounts to."""
    read_at = _after(part, fetched, now)
    return PartialTest(
        bytes=fetched.bytes,
        total_bytes=fetched.total_bytes,
        shares=len(fetched.chosen),
        shares_total=len(fetched.shares),
        within_ms=int(said.within.total_seconds() * 1000),
        covered_since=min(read_at.values()) if len(read_at) == len(fetched.shares) else None,
    )


def keep(
    context: Context,
    application: str,
    repository: str,
    part: Part,
    fetched: PartFetched,
    now: datetime,
) -> None:
    """Remember what was read; a full disk costs the proof of coverage, not the test."""
    path = _path(context, application, repository)
    content = {"key": part.key.hex(), "read_at": _after(part, fetched, now)}
    unfinished = path.with_name(f"{uuid4().hex}.part")
    with suppress(OSError):
        try:
            unfinished.touch(mode=0o600, exist_ok=False)
            unfinished.write_text(json.dumps(content), encoding="ascii")
            os.replace(unfinished, path)  # noqa: PTH105
        finally:
            unfinished.unlink(missing_ok=True)


def _after(part: Part, fetched: PartFetched, now: datetime) -> dict[str, int]:
    """Return when each share that there is was last read; those that never were are left out."""
    known = {name: at for name, at in part.read_at.items() if name in set(fetched.shares)}
    return {**known, **dict.fromkeys(fetched.chosen, to_us(now))}


def _path(context: Context, application: str, repository: str) -> Path:
    return context.remember(f"partial-{application}") / f"{repository}.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        read_at = {str(name): int(at) for name, at in found["read_at"].items()}
        key = str(found["key"])
        if len(bytes.fromhex(key)) == 32:
            return {"key": key, "read_at": read_at}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # nothing is known, so nothing counts as read
    return {"key": secrets.token_bytes(32).hex(), "read_at": {}}
