"""Rights per feature: each row of the table, held and not, by the account and by the unit."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from backupguard.cli.doctor_needs import Result
from backupguard.cli.doctor_rights import rights
from backupguard.cli.rights import HELPER, RIGHTS, RUNNER, UNIT, Host, credentials
from backupguard.language import LANGUAGES, catalogue
from backupguard.settings.loading import load
from tests.unit.hosts import MadeHost

UNITS = {
    name: (Path(__file__).parents[3] / "systemd" / name).read_text("utf-8")
    for name in (UNIT, RUNNER, HELPER)
}
NAMESPACES = "RestrictNamespaces=user pid net ipc uts cgroup mnt"
FILTER = "SystemCallFilter=@system-service @mount sethostname"
RUNS = f"etc/systemd/system/{RUNNER}.d"


@pytest.fixture
def host(tmp_path: Path) -> MadeHost:
    made = MadeHost(tmp_path / "root")
    made.mount("/proc", "proc", source="proc", device="0:4")
    return made


def install(host: MadeHost) -> None:
    for name, text in UNITS.items():
        host.file(f"usr/lib/systemd/system/{name}", text)


def looked(tmp_path: Path, host: MadeHost, text: str) -> dict[str, Result]:
    file = tmp_path / "backupguard.toml"
    store = f'[store]\ndirectory = "{tmp_path}/state"\n'
    file.write_text(f'[site]\nname = "CH"\n{store}{text}', encoding="utf-8")
    found = list(rights(load(file, environ={}, check_secrets=False), host.root))
    return {result.check.removeprefix("right/"): result for result in found}


def drop_in(host: MadeHost, unit: str, *lines: str) -> None:
    text = "\n".join(("[Service]", *lines, ""))
    host.file(f"etc/systemd/system/{unit}.d/50-site.conf", text)


def directive(result: Result) -> str:
    return str(result.remedy.values["gives"]) if result.remedy is not None else ""


def test_a_repository_that_may_not_be_read_says_which_group_would_do(
    tmp_path: Path, host: MadeHost
) -> None:
    place = tmp_path / "exports"
    place.mkdir()
    text = f'[repositories.nas]\ntype = "directory"\npath = "{place}"\n'
    assert looked(tmp_path, host, text)["repositories"].state == "ok"
    place.chmod(0o300)
    if os.geteuid() == 0:
        pytest.fail("run as an ordinary user: root may read everything")
    missing = looked(tmp_path, host, text)["repositories"]
    place.chmod(0o700)
    group = grp.getgrgid(place.stat().st_gid).gr_name
    assert (missing.state, directive(missing)) == ("missing", f"SupplementaryGroups={group}")


def test_what_the_units_groups_open_is_held(tmp_path: Path, host: MadeHost) -> None:
    """A command run by hand is not inside the unit: the modes say what its groups may do."""
    others = [entry for entry in grp.getgrall() if entry.gr_gid not in os.getgroups()]
    place = tmp_path / "shadow"
    host.file(f"{RUNS}/50-groups.conf", "[Service]\n")
    assert os.access("/etc/shadow", os.R_OK) is False
    shadow = grp.getgrgid(Path("/etc/shadow").stat().st_gid)
    assert shadow in others
    assert Host(root=host.root).may(Path("/etc/shadow"), os.R_OK) is False
    host.file(
        f"{RUNS}/50-groups.conf",
        f"[Service]\nSupplementaryGroups={shadow.gr_name}\n",
    )
    assert Host(root=host.root).may(Path("/etc/shadow"), os.R_OK) is True
    assert Host(root=host.root).may(place, os.R_OK) is None, "nothing is there"


SECRET = """\
[repositories.nas]
type = "restic"
url = "rest:https://nas.example/dpi"
credentials.reader.credential = "restic-nas"
[isolation.vantages.office]
zone = "office"
witness = "dc.example:389"
key.credential = "vantage-office"
"""


def test_each_secret_of_systemd_is_given_by_the_unit_or_a_drop_in(
    tmp_path: Path, host: MadeHost
) -> None:
    assert "secrets" not in looked(tmp_path, host, SECRET), "no unit is installed here"
    install(host)
    missing = looked(tmp_path, host, SECRET)["secrets"]
    assert missing.state == "missing"
    one = "LoadCredential=restic-nas:/etc/x"
    drop_in(host, UNIT, one, "ImportCredential=vantage-*")
    assert looked(tmp_path, host, SECRET)["secrets"].state == "ok"
    drop_in(host, UNIT, one)
    left = looked(tmp_path, host, SECRET)["secrets"]
    assert left.found == "vantage-office"
    place = "/etc/backupguard/credentials/vantage-office"
    assert directive(left) == f"LoadCredential=vantage-office:{place}"
    drop_in(host, UNIT, one, "LoadCredential=")
    assert looked(tmp_path, host, SECRET)["secrets"].state == "missing"


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    file = tmp_path / "backupguard.toml"
    file.write_text('[site]\nname = "CH"\n' + SECRET, encoding="utf-8")
    settings = load(file, environ={}, check_secrets=False)
    assert sorted(credentials(settings)) == ["restic-nas", "vantage-office"]


def test_where_it_writes_the_unit_must_let_it(tmp_path: Path, host: MadeHost) -> None:
    place = tmp_path / "plan"
    place.mkdir()
    text = f'[plan]\ndirectory = "{place}"\n'
    assert looked(tmp_path, host, text)["writing"].state == "ok"
    install(host)
    missing = looked(tmp_path, host, text)["writing"]
    assert (missing.state, directive(missing)) == ("missing", f"ReadWritePaths={place}")
    drop_in(host, RUNNER, f"ReadWritePaths=-{tmp_path}")
    assert looked(tmp_path, host, text)["writing"].state == "ok"


def test_hidden_processes_are_told_and_the_group_that_sees_them(
    tmp_path: Path, host: MadeHost
) -> None:
    assert looked(tmp_path, host, "")["processes"].state == "ok"
    host.mount("/proc", "proc", source="proc", device="0:4", options="rw,hidepid=invisible")
    host.file("proc/self/mountinfo", "22 1 0:4 / /proc rw - proc proc rw,hidepid=2,gid=42424\n")
    hidden = looked(tmp_path, host, "")["processes"]
    assert (hidden.state, directive(hidden)) == ("missing", "SupplementaryGroups=42424")
    own = os.getegid()
    host.file("proc/self/mountinfo", f"22 1 0:4 / /proc rw - proc proc rw,hidepid=2,gid={own}\n")
    assert looked(tmp_path, host, "")["processes"].state == "ok"
    assert "processes" not in looked(tmp_path, host, "[discovery]\nenabled = false\n")


def test_a_drop_in_that_hides_processes_is_told(tmp_path: Path, host: MadeHost) -> None:
    install(host)
    assert looked(tmp_path, host, "")["processes"].state == "ok"
    drop_in(host, RUNNER, "ProtectProc=invisible")
    hidden = looked(tmp_path, host, "")["processes"]
    assert (hidden.state, directive(hidden)) == ("missing", "ProtectProc=default")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("ProcSubset=pid", "ProcSubset=all"),
        ("ProtectHostname=yes", "ProtectHostname=no"),
        ("RestrictNamespaces=yes", NAMESPACES),
        ("RestrictNamespaces=\nRestrictNamespaces=user pid mnt", NAMESPACES),
        ("RestrictNamespaces=~user", NAMESPACES),
        ("RestrictSUIDSGID=yes", "RestrictSUIDSGID=no"),
        ("SystemCallFilter=~@privileged", FILTER),
        ("SystemCallFilter=~sethostname", FILTER),
        ("SystemCallFilter=\nSystemCallFilter=@system-service @mount", FILTER),
        ("SystemCallFilter=\nSystemCallFilter=@system-service sethostname", FILTER),
    ],
    ids=[
        *("proc", "hostname", "namespaces", "few-namespaces", "no-user-namespace", "set-uid"),
        *("privileged", "sethostname", "only-mount", "no-mount"),
    ],
)
def test_a_drop_in_that_forbids_the_sandbox_is_told(
    tmp_path: Path, host: MadeHost, line: str, wanted: str
) -> None:
    install(host)
    assert looked(tmp_path, host, "")["sandbox"].state == "ok"
    host.file(f"{RUNS}/x.conf", f"[Service]\n{line}\n")
    broken = looked(tmp_path, host, "")["sandbox"]
    assert (broken.state, directive(broken)) == ("missing", wanted)


@pytest.mark.parametrize(
    "lines",
    [
        "RestrictNamespaces=user",  # lists are merged
        "RestrictNamespaces=no",
        "SystemCallFilter=~@swap",
        "SystemCallFilter=\nSystemCallFilter=~@swap",
        "SystemCallFilter=~@privileged\nSystemCallFilter=sethostname:EPERM",
    ],
    ids=["merged", "none", "less", "all-but", "given-back"],
)
def test_a_drop_in_that_leaves_the_sandbox_its_own_is_right(
    tmp_path: Path, host: MadeHost, lines: str
) -> None:
    install(host)
    host.file(f"{RUNS}/x.conf", f"[Service]\n{lines}\n")
    assert looked(tmp_path, host, "")["sandbox"].state == "ok"


def test_what_is_said_for_this_boot_counts_less_than_what_the_site_says(
    tmp_path: Path, host: MadeHost
) -> None:
    install(host)
    host.file(f"{RUNS}/x.conf", "[Service]\nProcSubset=all\n")
    host.file(f"run/systemd/system/{RUNNER}.d/x.conf", "[Service]\nProcSubset=pid\n")
    assert looked(tmp_path, host, "")["sandbox"].state == "ok"


def test_a_group_that_does_not_exist_starts_no_run(tmp_path: Path, host: MadeHost) -> None:
    install(host)
    assert "groups" not in looked(tmp_path, host, "")
    host.file(f"{RUNS}/x.conf", "[Service]\nSupplementaryGroups=root no-such-readers 42\n")
    missing = looked(tmp_path, host, "")["groups"]
    assert (missing.state, directive(missing)) == ("missing", "groupadd no-such-readers")
    host.file(f"{RUNS}/x.conf", "[Service]\nSupplementaryGroups=root\n")
    assert looked(tmp_path, host, "")["groups"].state == "ok"


def test_a_low_port_needs_a_capability(tmp_path: Path, host: MadeHost) -> None:
    text = '[http]\nlisten = "127.0.0.1:443"\n'
    missing = looked(tmp_path, host, text)["port"]
    assert (missing.state, directive(missing)) == (
        "missing",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
    )
    host.file("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n")
    assert looked(tmp_path, host, text)["port"].state == "ok"
    assert "port" not in looked(tmp_path, host, "")


def test_disks_are_recognised_where_udev_runs(tmp_path: Path, host: MadeHost) -> None:
    text = '[media.usb]\nkind = "removable"\nserial = "S1"\n'
    assert looked(tmp_path, host, text)["media"].state == "missing"
    (host.root / "run/udev/data").mkdir(parents=True)
    found = looked(tmp_path, host, text)
    assert found["media"].state == "ok"
    assert found["helper"].state == "note", "whether it is there is told by its own check"


def test_scratch_elsewhere_is_the_daemons_to_sweep_too(tmp_path: Path, host: MadeHost) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    install(host)
    text = f'[scratch]\ndirectory = "{place}"\n'
    line = f"[Service]\nReadWritePaths={place}\n"
    host.file(f"{RUNS}/scratch.conf", line)
    assert looked(tmp_path, host, text)["writing"].state == "missing"
    host.file(f"etc/systemd/system/{UNIT}.d/scratch.conf", line)
    assert looked(tmp_path, host, text)["writing"].state == "ok"


def test_a_tape_library_needs_the_helpers_drop_in(tmp_path: Path, host: MadeHost) -> None:
    text = '[media.lto]\nkind = "tape"\nbarcode = "LTO001L8"\nlibrary = "/dev/sg3"\n'
    install(host)
    missing = looked(tmp_path, host, text)["tapes"]
    wanted = f"{HELPER}.d/tapes.conf"
    assert (missing.state, directive(missing)) == ("missing", wanted)
    shipped = Path(__file__).parents[3] / "systemd/drop-ins" / wanted
    host.file(f"etc/systemd/system/{wanted}", shipped.read_text("utf-8"))
    assert looked(tmp_path, host, text)["tapes"].state == "ok"


def test_every_row_is_told_in_both_languages_and_stands_on_its_page() -> None:
    ids = [row.id for row in RIGHTS]
    assert len(ids) == len(set(ids))
    for language in LANGUAGES:
        known = catalogue(language)
        for name in ids:
            assert f"cli.doctor.check.right/{name}" in known
            assert f"cli.rights.{name}.needs" in known
            assert "{gives}" in known[f"cli.rights.{name}.gives"]
    page = (Path(__file__).parents[3] / "docs/rights.md").read_text("utf-8")
    assert [name for name in ids if f"| `{name}` |" not in page] == []
