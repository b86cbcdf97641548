"""What `doctor` says of rights: each feature that is configured, and whether its right is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from backupguard.cli import common
from backupguard.cli.doctor_needs import Result
from backupguard.cli.rights import RIGHTS, Held, Host, Right
from backupguard.model import Message

if TYPE_CHECKING:
    from backupguard.settings import Settings


def rights(settings: Settings, root: Path = Path("/")) -> Iterator[Result]:
    """Yield a line for each right that is not there, one for each row of which all are, none else.

    What cannot be told from here is told by another check (the helper), by each discovery, or by the
    repository itself: it is not counted as there, and asks for nothing.
    """
    host = Host(root=root)
    for row in RIGHTS:
        looked = list(row.look(settings, host))
        missing = [one for one in looked if one.held is False]
        for one in missing:
            yield _without(row, one)
        if looked and not missing:
            held = [one for one in looked if one.held]
            if held:
                found = ", ".join(one.what for one in held[:3]) + (" …" if len(held) > 3 else "")
                yield Result(check=f"right/{row.id}", state="ok", found=found)
            else:
                yield Result(
                    check=f"right/{row.id}",
                    state="note",
                    found=common.words().text(f"cli.rights.{row.id}.needs"),
                    remedy=Message(id="cli.rights.elsewhere"),
                )


def _without(row: Right, one: Held) -> Result:
    remedy = Message(id=f"cli.rights.{row.id}.gives", values={"gives": one.gives})
    return Result(check=f"right/{row.id}", state="missing", found=one.what, remedy=remedy)
