"""Repositories of restic and borg that are damaged, or cannot be opened; what they hold is sound."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backupguard.model import Verdict
from tests.integration.repositories import borg_maker, restic_maker
from tests.integration.repositories.borg_maker import Borg
from tests.integration.repositories.restic_maker import Restic, damage
from tests.sabotage.corpus.case import Family, Maker, flipped
from tests.sabotage.corpus.sources import AT, Sources

#: restic 0.14 asks a minute long for a pack that is gone before it says so; 0.18 says so at once.
VERSION = "0.18"
_UTC = {**os.environ, "TZ": "UTC"}


def back_up(restic: Restic, at: datetime) -> None:
    """Make a snapshot of the source that says it was made at a moment."""
    restic.backup(restic.source, "--time", f"{at:%Y-%m-%d %H:%M:%S}", env=_UTC)


def restic(
    change: Callable[[Restic], object] = lambda made: None,
    fill: Callable[[Sources, Path], object] | None = None,
) -> Maker:
    """A repository with the laboratory's file of this night, changed afterwards."""

    def make(sources: Sources, into: Path) -> Restic:
        made = restic_maker.make(into, VERSION)
        (fill or _laboratory)(sources, made.source)
        back_up(made, AT)
        changed = change(made)
        return changed if isinstance(changed, Restic) else made

    return make


def _laboratory(sources: Sources, source: Path) -> None:
    sources.sqlite(source / "labo.db")


def _yesterday(sources: Sources, source: Path) -> None:
    sources.sqlite(source / "labo.db", "delete from results where id > 880")


def _largest(made: Restic) -> Path:
    return max(made.packs(), key=lambda path: path.stat().st_size)


def _smallest(made: Restic) -> Path:
    return min(made.packs(), key=lambda path: path.stat().st_size)


def _only(made: Restic, name: str) -> Path:
    path = next(path for path in (made.root / name).rglob("*") if path.is_file())
    path.chmod(0o600)
    return path


def _wrong_password(made: Restic) -> Restic:
    other = made.password.with_name("other")
    other.write_text("another\n")
    other.chmod(0o600)
    return replace(made, password=other)


def borg(
    change: Callable[[Borg], object] = lambda made: None, encryption: str = "repokey"
) -> Maker:
    """The same in a repository of borg 1.2."""

    def make(sources: Sources, into: Path) -> Borg:
        made = borg_maker.make(into, "1.2", encryption)
        _laboratory(sources, made.source)
        made.create("dpi-1", made.source, options=("--timestamp", f"{AT:%Y-%m-%dT%H:%M:%S}"),
                    environment={"TZ": "UTC"})  # fmt: skip
        change(made)
        return made

    return make


def _chmod(path: Path) -> Path:
    path.chmod(0o600)
    return path


_TODAY, _BORG = restic(), borg()
_BROKEN = "fetch:corrupt fetch:missing_object fetch:truncated"
_FAMILY = Family(engine="restic", before=restic(fill=_yesterday), twin=_TODAY)
_BORG_FAMILY = Family(engine="borg", before=_BORG, twin=_BORG)
case, of_borg = _FAMILY.case, _BORG_FAMILY.case

CASES = [
    case("pack-flipped", "one bit of the data", restic(lambda r: damage(_largest(r), "flipped")),
         restored_by="sqlite", speaks=_BROKEN, words="endommagés"),
    case("pack-cut", "half of a pack", restic(lambda r: damage(_largest(r), "truncated")),
         restored_by="sqlite", speaks=_BROKEN, words="endommagés"),
    case("pack-missing", "a pack was deleted", restic(lambda r: damage(_largest(r), "deleted")),
         restored_by="sqlite", speaks=_BROKEN),
    # restic 0.18 itself falls over (a panic in `ls`), which accuses nobody; `check` finds it.
    case("pack-of-trees-flipped", "one bit of what says which files there are",
         restic(lambda r: flipped(_chmod(_smallest(r)), 0.3)), says=Verdict.COULD_NOT_VERIFY,
         restored_by="sqlite", speaks="fetch:unknown_exit"),
    case("index-flipped", "one bit of the index", restic(lambda r: flipped(_only(r, "index"), 0.5)),
         restored_by="sqlite", speaks=_BROKEN + " select:corrupt"),
    case("index-missing", "no index is left", restic(lambda r: _only(r, "index").unlink()),
         restored_by="sqlite", speaks=_BROKEN + " select:corrupt select:missing_object"),
    case("snapshot-flipped", "one bit of the snapshot itself",
         restic(lambda r: flipped(_only(r, "snapshots"), 0.5)),
         restored_by="sqlite", speaks=_BROKEN + " select:corrupt"),
    case("snapshot-missing", "the snapshot is gone: there is nothing to restore",
         restic(lambda r: _only(r, "snapshots").unlink()), restored_by="sqlite",
         speaks="select:no_points select:no_point select:selection_absent"),
    case("config-missing", "the file without which nothing opens",
         restic(lambda r: (r.root / "config").unlink()), restored_by="sqlite",
         says=Verdict.COULD_NOT_VERIFY, speaks="select:not_found select:not_a_repository"),
    case("wrong-key", "the password was changed and nobody told", restic(_wrong_password),
         restored_by="sqlite", says=Verdict.COULD_NOT_VERIFY, speaks="select:wrong_key",
         words="mot de passe"),
    of_borg("segment-flipped", "one bit of a segment",
            borg(lambda b: flipped(b.largest_segment(), 0.5)),
            restored_by="sqlite", speaks=_BROKEN, words="endommagés"),
    of_borg("segment-cut", "half of a segment",
            borg(lambda b: os.truncate(b.largest_segment(),
                                       b.largest_segment().stat().st_size // 2)),
            restored_by="sqlite", speaks=_BROKEN + " select:corrupt"),
    of_borg("segment-missing", "a segment is gone", borg(lambda b: b.largest_segment().unlink()),
            restored_by="sqlite", speaks=_BROKEN + " select:corrupt select:missing_object"),
]  # fmt: skip
