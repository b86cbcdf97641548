"""Media in the configuration: how they are named, and where what lies on them is."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupguard import media, settings
from backupguard.errors import ConfigurationError

_SITE = '[site]\nname = "CH des essais"\n'
_DISK = """
[media.usb-a]
kind = "removable"
filesystem-uuid = "9c1f4b2e-6a0d-4c57-8f0e-2b7d5a31c644"
"""
_ON_IT = """
[repositories.usb]
type = "directory"
medium = "usb-a"
path = "{medium}/dumps"
"""


def _load(root: Path, text: str) -> settings.Settings:
    path = root / "backupguard.toml"
    path.write_text(_SITE + text)
    return settings.load(path, check_secrets=False)


def test_a_path_on_a_medium_is_where_the_medium_is(tmp_path: Path) -> None:
    loaded = _load(tmp_path, _DISK + _ON_IT)
    chosen = loaded.repositories["usb"]
    plan = media.medium_plan(loaded, "usb-a")
    assert chosen.path == plan.root / "dumps"  # type: ignore[attr-defined]
    found = media.moved(chosen, plan.root, Path("/mnt/usb 1"))
    assert found.path == Path("/mnt/usb 1/dumps")  # type: ignore[attr-defined]
    assert chosen.medium_kind == "removable"
    again = settings.from_file(settings.write_file(loaded, tmp_path / "state"))
    assert again.sha256 == loaded.sha256


def test_its_own_mount_stands_for_it(tmp_path: Path) -> None:
    loaded = _load(tmp_path, _DISK + 'mount = "/srv/usb-a"\n' + _ON_IT)
    assert loaded.repositories["usb"].path == Path("/srv/usb-a/dumps")  # type: ignore[attr-defined]


def test_half_of_the_rotation_is_how_old_a_copy_may_leave(tmp_path: Path) -> None:
    loaded = _load(tmp_path, _DISK + 'every = "14d"\n' + _ON_IT)
    assert media.medium_plan(loaded, "usb-a").fresh_s == 7 * 86_400
    assert media.medium_plan(_load(tmp_path, _DISK + _ON_IT), "usb-a").fresh_s == 86_400


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (_ON_IT, "repositories.usb.medium", "settings.no-medium"),
        (_DISK + _ON_IT.replace('medium = "usb-a"\n', ""), "repositories.usb.path",
         "settings.place-without-medium"),
        (_DISK + _ON_IT.replace("{medium}/dumps", "/srv/dumps"), "repositories.usb.medium",
         "settings.not-on-medium"),
        (_DISK.replace("usb-a", "USB_A"), "media.USB_A", "settings.bad-id"),
    ],
    ids=["no-medium", "no-name", "elsewhere", "bad-id"],
)  # fmt: skip
def test_what_leads_nowhere_is_told_with_its_place(
    tmp_path: Path, text: str, key: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    (found,) = caught.value.problems
    assert (found.key, found.message.id) == (key, message)
    assert found.line is not None


@pytest.mark.parametrize(
    "medium",
    [
        'kind = "removable"',
        'kind = "tape"\nlibrary = "/dev/sg3"',
        'kind = "tape"\nbarcode = "HBR001L6"',
        'kind = "removable"\nfilesystem-uuid = "not one"',
        'kind = "removable"\nserial = "WX"\nmount = "srv"',
        'kind = "floppy"\nserial = "WX"',
    ],
    ids=["nothing-known-by", "no-barcode", "no-library", "no-uuid", "relative", "kind"],
)
def test_a_medium_nobody_could_recognise_is_refused(tmp_path: Path, medium: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, f"[media.usb-a]\n{medium}\n")
    assert caught.value.problems[0].key.startswith("media.usb-a")
