"""A repository type of somebody else's, as small as one can be; installed by `test_third_party`.

It imports what plug-ins may: contracts, errors, model. A point is a file `NAME.copy`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from backupguard.contracts import (
    Capability,
    Context,
    Fetched,
    FetchRequest,
    JobSelector,
    RepositorySettings,
    RepositoryState,
    VerifiedUnit,
    VerifyPlan,
)
from backupguard.errors import AccessRefused, Changing, Unreachable
from backupguard.model import RecoveryPoint, Verdict


class ShelfSettings(RepositorySettings):
    """Where the shelf is, and which version its console says it has."""

    path: Path
    version_file: Path | None = None


class Shelf:
    """A directory of files, each of them a point."""

    capabilities = frozenset({Capability.VERIFY, Capability.FETCH})

    def __init__(self, identifier: str, settings: ShelfSettings, context: Context) -> None:
        self._identifier = identifier
        self._settings = settings
        self._context = context

    def inspect(self) -> RepositoryState:
        """Return the state; raises Unreachable, AccessRefused."""
        self._files()
        version = self._settings.version_file
        return RepositoryState(
            tool="shelf",
            tool_version=version.read_text(encoding="ascii").strip() if version else "3.1",
            device=f"host:shelf-{self._identifier}",
        )

    def points(self, jobs: Sequence[JobSelector]) -> Iterator[RecoveryPoint]:
        """Yield a point per file whose name begins with the job's `select.name`."""
        files = self._files()
        for job in jobs:
            for path in files:
                if not path.name.startswith(job.name or ""):
                    continue
                status = path.stat()
                at = datetime.fromtimestamp(int(status.st_mtime), UTC)
                yield RecoveryPoint(
                    repository=self._identifier,
                    job=job.job,
                    native_id=path.stem,
                    at=at,
                    covers_until=at,
                    bytes=status.st_size,
                    source_host="srv1",
                )

    def runs(self, since: datetime) -> Iterator[Any]:
        """Yield nothing: a shelf keeps no record."""
        return iter(())

    def verify(self, plan: VerifyPlan) -> Iterator[VerifiedUnit]:
        """Read every file."""
        for path in self._files():
            hashlib.sha256(path.read_bytes())
            yield VerifiedUnit(
                unit=f"file/{path.stem}", verdict=Verdict.PASSED, bytes=path.stat().st_size
            )

    def fetch(self, request: FetchRequest, into: Path) -> Fetched:
        """Copy the file of a point."""
        self._context.cancel.raise_if_set()
        source = self._settings.path / f"{request.point.native_id}.copy"
        try:
            shutil.copyfile(source, into / source.name)
        except FileNotFoundError as error:
            raise Changing("repository_changed", repository=self._identifier) from error
        size = (into / source.name).stat().st_size
        return Fetched(artifact=PurePosixPath(source.name), bytes=size, files=1)

    def protection(self, points: Any) -> Iterator[Any]:
        """Yield nothing."""
        return iter(())

    def _files(self) -> list[Path]:
        try:
            with os.scandir(self._settings.path) as found:
                names = sorted(entry.name for entry in found)
        except FileNotFoundError as error:
            raise Unreachable("not_found", repository=self._identifier) from error
        except PermissionError as error:
            raise AccessRefused("permission", repository=self._identifier) from error
        return [self._settings.path / name for name in names if name.endswith(".copy")]


class ShelfType:
    """The entry point."""

    name = "shelf"
    settings: type[RepositorySettings] = ShelfSettings
    unproven = True

    @contextmanager
    def open(self, identifier: str, settings: Any, context: Context) -> Iterator[Shelf]:
        """Open a shelf for reading."""
        yield Shelf(identifier, settings, context)

    def attack(self, identifier: str, settings: Any, context: Context) -> None:
        """Return None: nothing can be tried against a shelf."""


SHELF = ShelfType()
