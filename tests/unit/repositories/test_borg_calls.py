from pathlib import Path

import pytest
from pydantic import ValidationError

from backupguard.contracts import Limits
from backupguard.repositories.borg_calls import Call, Refused, literal
from backupguard.repositories.borg_settings import BorgSettings

CHANGING = (
    *(
        "create",
        "delete",
        "prune",
        "compact",
        "recreate",
        "rename",
        "break-lock",
        "init",
        "upgrade",
    ),
    *("key", "config", "with-lock", "mount", "umount", "serve", "import-tar", "check", "debug"),
    *("change-passphrase", "benchmark", "export-tar", "diff"),
)


@pytest.mark.parametrize("verb", CHANGING)
def test_a_verb_that_is_not_on_the_list_cannot_be_called(verb: str):
    with pytest.raises(Refused):
        Call(verb=verb)


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("list", {"options": (("--format", "{x}"),)}),
        ("list", {"options": (("--json", "yes"),)}),
        ("list", {"options": (("--rsh", "sh"),)}),
        ("list", {"paths": ("etc",)}),
        ("list", {"into": Path("/srv")}),
        ("info", {"options": (("--last", "-1"),)}),
        ("info", {"options": (("--last", None),)}),
        ("info", {"options": (("--sort-by", "name"),)}),
        ("extract", {"archive": "a", "options": (("--stdout", None),)}),
        ("extract", {"archive": "a", "options": ()}),
        ("extract", {"archive": "a", "options": (("--dry-run", None),), "into": Path("/srv")}),
    ],
)
def test_options_and_places_are_on_a_list_too(verb: str, more):
    with pytest.raises(Refused):
        Call(verb=verb, **more)


def test_what_is_needed_is_on_the_list():
    Call(verb="list", options=(("--json", None),))
    Call(verb="info", options=(("--json", None), ("--sort-by", "timestamp"), ("--last", "12")))
    Call(verb="extract", archive="a", options=(("--dry-run", None),))
    Call(verb="extract", archive="a", into=Path("/x"), paths=("etc",))


def test_borg_puts_nothing_into_a_name():
    assert literal("dpi-{now}") == "dpi-{{now}}"


@pytest.mark.parametrize(
    "url",
    [
        *("/srv/borg", "/srv/with:colon", "/srv/with blank", "ssh://nas/srv/borg"),
        *("ssh://reader@nas.example:2222/./borg", "ssh://reader@[2001:db8::1]/srv/borg"),
    ],
)
def test_places_that_borg_can_be_at(url: str):
    settings = BorgSettings(type="borg", url=url)
    assert (settings.path is None) == url.startswith("ssh:")


@pytest.mark.parametrize(
    "url",
    [
        *("", "relative", "nas:/srv/borg", "sftp://nas/srv", "ssh://nas", "ssh://u:pw@nas/srv"),
        *("/srv/borg::dpi-1", "/srv/{hostname}", "ssh://-oProxyCommand=sh/srv", "ssh://n/a::b"),
        "ssh://reader@na s/srv",
    ],
)
def test_what_is_no_place_or_holds_a_password_is_refused(url: str):
    with pytest.raises(ValidationError):
        BorgSettings(type="borg", url=url)


def test_a_limit_that_borg_cannot_keep_is_refused():
    with pytest.raises(ValidationError, match="bandwidth"):
        BorgSettings(type="borg", url="/srv/borg", limits=Limits(bandwidth="50MB/s"))


def test_who_is_loaded_by_reading():
    assert BorgSettings(type="borg", url="/srv/borg").talks_to == "localhost"
    assert BorgSettings(type="borg", url="ssh://u@nas:22/srv").talks_to == "nas"
