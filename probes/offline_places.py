"""Where a medium is now, and how its content is read: mounted, mounted by the helper, or an image.

An image file is attached while it is there: its content is copied out into the run's directory, by
`debugfs` (e2fsprogs), for an ordinary user mounts nothing. The copy is bounded as a restore is, and
gone when the run ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backupguard.contracts import Command, Context
from backupguard.errors import (
    MEDIUM_AWAY,
    BackupGuardError,
    MissingMeans,
    Misunderstood,
    Unreachable,
)
from probes.offline_blocks import blocks, recognise, recognise_image
from probes.offline_found import Helper, Look, MediumPlan, Roots
from probes.offline_tapes import elements, unread

#: How long copying an image out may take, in seconds.
_EXTRACT_S = 4 * 3600
#: One run is one process; its threads copy an image out once.
_GUARD = threading.Lock()


def find(medium: MediumPlan, context: Context, helper: Helper | None, roots: Roots) -> Look:
    """Return whether a disk, image or tape is attached. A vault is found by opening it, not here."""
    if medium.kind in ("tape", "vtl"):
        return _find_tape(medium, context, helper)
    if medium.image is not None:
        return recognise_image(medium, medium.image)
    return recognise(medium, blocks(roots))


def _find_tape(medium: MediumPlan, context: Context, helper: Helper | None) -> Look:
    if medium.barcode is None or medium.library is None:
        return Look(code="not_declared")
    try:
        text = _status(medium, context, helper)
        where = elements(text)
    except BackupGuardError as error:
        return Look(code=error.code)
    if medium.barcode in where:
        slot = where[medium.barcode]
        return Look(attached=True, device=medium.library, identity="barcode", slot=slot)
    if unread(text):
        return Look(device=medium.library, code="barcode_unread")
    return Look(device=medium.library)


def _status(medium: MediumPlan, context: Context, helper: Helper | None) -> str:
    """Return what `mtx -f DEVICE status` says, of the helper where there is one."""
    if helper is not None:
        with suppress(MissingMeans):
            return helper.mtx_status(medium.id)
    # Without rights on the changer this fails, and says so.
    command = Command(
        argv=("mtx", "-f", str(medium.library), "status"),
        read=(Path(str(medium.library)),),
        timeout_s=120,
    )
    ended = context.tools.run(command)
    if ended.returncode != 0:
        raise MissingMeans("helper_missing")
    return ended.stdout.decode("utf-8", "replace")


@contextmanager
def content(
    medium: MediumPlan,
    context: Context,
    helper: Helper | None = None,
    roots: Roots | None = None,
) -> Iterator[Path]:
    """Yield the directory in which an attached medium can be read.

    Raises Unreachable: medium_away (not attached), medium_mismatch (another disk is in its place),
    medium_unmounted (attached, and nobody can mount it).
    """
    look = find(medium, context, helper, roots or Roots())
    if look.code is not None:
        raise Unreachable("medium_unmounted", medium=medium.id)
    if not look.attached:
        raise Unreachable(MEDIUM_AWAY, medium=medium.id)
    if look.mismatch is not None:
        raise Unreachable("medium_mismatch", medium=medium.id)
    if medium.image is not None:
        yield _copied_out(medium, context)
        return
    if look.mount is not None:
        yield look.mount
        return
    if helper is None:
        raise Unreachable("medium_unmounted", medium=medium.id)
    try:
        mounted = helper.mount(medium.id)
    except MissingMeans as error:
        raise Unreachable("medium_unmounted", medium=medium.id) from error
    try:
        yield mounted.path
    finally:
        if not mounted.already:
            with suppress(BackupGuardError):  # it is read-only, and the next look tries again
                helper.unmount(medium.id)


def _copied_out(medium: MediumPlan, context: Context) -> Path:
    """Copy an image's files into the run's directory, once a run; return where they are."""
    assert medium.image is not None
    where = context.work / "media" / medium.id
    with _GUARD:
        if (where / ".complete").exists():
            return where / "content"
        target = where / "content"
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if '"' in str(target):
            raise Misunderstood("output_unparsable")
        command = Command(
            argv=("debugfs", "-R", f'rdump / "{target}"', str(medium.image)),
            read=(medium.image,),
            write=(target,),
            timeout_s=_EXTRACT_S,
        )
        ended = context.tools.run(command)
        if ended.returncode != 0:
            raise Unreachable("medium_unmounted", medium=medium.id)
        _without_links(target)
        (where / ".complete").touch()
        return target


def _without_links(directory: Path) -> None:
    """Remove what is neither file nor directory: a medium must not lead anywhere else.

    Its modes are its own, and may keep even its reader out: they become ours.
    """
    directory.chmod(0o700)
    for place, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                path.unlink()
            elif path.is_dir():
                path.chmod(0o700)
            else:
                path.chmod(0o600)
