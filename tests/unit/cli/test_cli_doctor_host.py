"""`doctor` judges the host it runs on: what the rules refuse, its clean twin, and who accepted it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from backupguard.cli import common, doctor, doctor_host, doctor_place
from backupguard.cli.doctor_needs import Result
from backupguard.cli.doctor_rights import rights
from backupguard.cli.main import main
from backupguard.errors import ConfigurationError
from backupguard.settings import Settings
from backupguard.settings.differences import differences
from backupguard.settings.loading import load
from tests.unit.hosts import MadeHost

TODAY = date(2026, 5, 4)
KEYTAB = b"\x05\x02\x00\x00\x00\x0c\x00\x01\x00\x08CH.LOCAL"
BASE = """\
[site]
name = "CH"
language = "en"
"""
APPLICATION = """\
[repositories.nas]
type = "directory"
path = "{path}"
{repository}
[applications.dpi]
name = "DPI"
criticality = "C1"
{application}
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
"""


@pytest.fixture
def host(tmp_path: Path) -> MadeHost:
    return MadeHost(tmp_path / "root")


@pytest.fixture(autouse=True)
def english() -> None:
    common.set_options(common.Options(language="en"))


def configured(tmp_path: Path, text: str = "") -> Settings:
    file = tmp_path / "backupguard.toml"
    store = "" if "[store]" in text else f'[store]\ndirectory = "{tmp_path}/state"\n'
    file.write_text(BASE + store + text, encoding="utf-8")
    return load(file, environ={}, check_secrets=False)


def estate(path: Path | str, *, repository: str = "", application: str = "") -> str:
    return APPLICATION.format(path=path, repository=repository, application=application)


def accepted(key: str, until: str) -> str:
    return f'[host.accepted.{key}]\nby = "Mme Roux, RSSI"\nuntil = {until}\n'


def remedy(result: Result) -> str:
    return result.remedy.id.removeprefix("cli.doctor.do.") if result.remedy else ""


# -------------------------------------------------------------------------------------- directory


def test_a_host_in_a_directory_is_refused_and_one_of_its_own_is_not(
    host: MadeHost, tmp_path: Path
) -> None:
    settings = configured(tmp_path)
    alone = doctor_host.domain(settings, host.root, TODAY)
    assert (alone.state, remedy(alone)) == ("ok", "")
    host.file("etc/sssd/sssd.conf", "[domain/ch.local]\nid_provider = ad\nad_domain = ch.local\n")
    joined = doctor_host.domain(settings, host.root, TODAY)
    assert (joined.state, remedy(joined)) == ("bad", "domain")
    assert "ch.local" in joined.found
    assert "sssd" in joined.found
    own = configured(tmp_path, '[isolation]\nbackup-domains = ["CH.local"]\n')
    assert doctor_host.domain(own, host.root, TODAY).state == "ok"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/samba/smb.conf", "[global]\nsecurity = ads\nrealm = CH.LOCAL\n"),
        ("etc/nsswitch.conf", "passwd: files winbind\n"),
    ],
    ids=["samba", "winbind"],
)
def test_every_way_of_being_joined_is_seen(
    host: MadeHost, tmp_path: Path, name: str, text: str
) -> None:
    host.file(name, text)
    assert doctor_host.domain(configured(tmp_path), host.root, TODAY).state == "bad"


def test_a_key_of_a_directory_is_a_membership(host: MadeHost, tmp_path: Path) -> None:
    path = host.file("etc/krb5.keytab", "")
    path.write_bytes(KEYTAB)
    found = doctor_host.domain(configured(tmp_path), host.root, TODAY)
    assert found.state == "bad"
    assert "ch.local" in found.found


def test_what_somebody_accepted_holds_until_its_day(host: MadeHost, tmp_path: Path) -> None:
    host.file("etc/nsswitch.conf", "passwd: files winbind\n")
    settings = configured(tmp_path, accepted("domain", "2026-05-04"))
    told = doctor_host.domain(settings, host.root, TODAY)
    assert (told.state, remedy(told)) == ("note", "")
    assert "Mme Roux, RSSI" in told.found
    over = doctor_host.domain(settings, host.root, date(2026, 5, 5))
    assert (over.state, remedy(over)) == ("bad", "domain")
    assert over.found.endswith(": over")
    other = configured(tmp_path, accepted("swap", "2026-05-04"))
    assert doctor_host.domain(other, host.root, TODAY).state == "bad"


def test_nobody_accepts_anything_for_ever(tmp_path: Path) -> None:
    for text, key in (
        (accepted("swap", "2999-01-01"), "host.accepted.swap.until"),
        ('[host.accepted.swap]\nby = "x"\n', "host.accepted.swap.until"),
        ("[host.accepted.swap]\nuntil = 2026-05-04\n", "host.accepted.swap.by"),
        (accepted("anything", "2026-05-04"), "host.accepted.anything"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            configured(tmp_path, text)
        assert key in {problem.key.replace(".[key]", "") for problem in caught.value.problems}


def test_a_new_or_longer_exception_is_told_as_a_weakening(tmp_path: Path) -> None:
    plain = configured(tmp_path).dump()
    one = configured(tmp_path, accepted("swap", "2026-05-04")).dump()
    two = configured(tmp_path, accepted("swap", "2026-06-04")).dump()
    for old, new, weaker in ((plain, one, True), (one, two, True), (two, one, False)):
        found = [each for each in differences(old, new) if each["path"].startswith("host")]
        assert found
        assert any(each["weakened"] for each in found) is weaker


# -------------------------------------------------------------------------------- swap, core dumps


def test_swap_in_clear_text_is_refused(host: MadeHost, tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert doctor_host.swap(settings, host.root, TODAY).state == "ok"
    host.block("sda", "8:0")
    host.swap("/dev/sda")
    found = doctor_host.swap(settings, host.root, TODAY)
    assert (found.state, found.found, remedy(found)) == ("bad", "/dev/sda", "swap")
    excused = configured(tmp_path, accepted("swap", "2026-06-01"))
    assert doctor_host.swap(excused, host.root, TODAY).state == "note"


LIMIT = "Max core file size        {}                    unlimited            bytes     \n"


@pytest.mark.parametrize(
    ("pattern", "limit", "storage", "state", "wanted"),
    [
        ("core", "0", None, "ok", ""),
        ("core", "unlimited", None, "note", "core-limit"),
        ("|/bin/false", "unlimited", None, "ok", ""),
        ("|/usr/share/apport/apport -p%p", "0", None, "bad", "core-pipe"),
        ("|/usr/lib/systemd/systemd-coredump %P", "0", None, "note", "coredump-storage"),
        ("|/usr/lib/systemd/systemd-coredump %P", "0", "none", "ok", ""),
        ("|/usr/lib/systemd/systemd-coredump %P", "0", "journal", "note", "coredump-storage"),
    ],
    ids=["no core file", "core file", "nowhere", "apport", "coredump", "discarded", "journal"],
)
def test_where_the_memory_of_what_dies_goes(
    host: MadeHost, tmp_path: Path, pattern: str, limit: str, storage: str | None,
    state: str, wanted: str,
) -> None:  # fmt: skip
    host.file("proc/sys/kernel/core_pattern", pattern + "\n")
    host.file("proc/1/limits", LIMIT.format(limit))
    if storage is not None:
        host.file("etc/systemd/coredump.conf", "[Coredump]\nStorage=external\n")
        host.file("etc/systemd/coredump.conf.d/90.conf", f"[Coredump]\nStorage={storage}\n")
    found = doctor_host.core_dumps(configured(tmp_path), host.root, TODAY)
    assert (found.state, remedy(found)) == (state, wanted)


# ---------------------------------------------------------------------------------------- scratch


def test_scratch_in_clear_text_is_bad_where_it_refuses_restore_tests(
    host: MadeHost, tmp_path: Path
) -> None:
    host.block("sda", "8:0")
    host.mount("/", device="8:0")
    text = estate("/srv/exports")
    vital = doctor_host.clear_text(configured(tmp_path, text), host.root)
    assert (vital.state, remedy(vital)) == ("bad", "clear-text")
    assert vital.found.endswith("are refused: dpi")
    lesser = configured(tmp_path, text.replace("C1", "C2"))
    assert doctor_host.clear_text(lesser, host.root).state == "note"
    named = text + '[scratch]\nclear-text-accepted-by = "RSSI, 2026-03-02"\n'
    assert doctor_host.clear_text(configured(tmp_path, named), host.root).state == "ok"
    nobody = text + '[scratch]\nclear-text-accepted-by = ""\n'
    assert doctor_host.clear_text(configured(tmp_path, nobody), host.root).state == "bad"
    host.block("dm-0", "254:0", uuid="CRYPT-LUKS2-a", of=("sda",))
    host.mount(tmp_path, device="254:0")
    assert doctor_host.clear_text(configured(tmp_path, text), host.root).state == "ok"


INSTANCE = """\
[instances.sql]
kind = "mssql"
host = "srv-sql"
exchange = "{exchange}"
credentials.account.credential = "sql"
"""


def test_what_a_scratch_server_reads_from_is_judged_as_scratch_is(
    host: MadeHost, tmp_path: Path
) -> None:
    host.block("sda", "8:0")
    host.block("dm-0", "254:0", uuid="CRYPT-LUKS2-a", of=("sda",))
    host.mount("/", device="254:0")
    exchange = tmp_path / "exchange"
    asked = 'restore-test = { engine = "instance", instance = "sql" }'
    text = estate("/srv/exports", application=asked) + INSTANCE.format(exchange=exchange)
    assert doctor_host.clear_text(configured(tmp_path, text), host.root).state == "ok"
    exchange.mkdir()
    assert doctor_host.clear_text(configured(tmp_path, text), host.root).state == "ok"
    host.mount(exchange, "cifs", source="//srv-sql/exchange", device="0:60")
    found = doctor_host.clear_text(configured(tmp_path, text), host.root)
    assert (found.state, remedy(found)) == ("bad", "clear-text")
    assert str(exchange) in found.found
    named = text + '[scratch]\nclear-text-accepted-by = "RSSI, 2026-03-02"\n'
    assert doctor_host.clear_text(configured(tmp_path, named), host.root).state == "ok"


def test_whoever_may_not_look_into_the_state_is_told_so(host: MadeHost, tmp_path: Path) -> None:
    """An administrator without sudo: `doctor` tells what it can, and dies of nothing."""
    settings = configured(tmp_path, estate(tmp_path / "state/copies"))
    (tmp_path / "state").mkdir(mode=0o700)
    host.mount("/")
    settled = doctor._state(settings).state, doctor._disk(settings).state
    (tmp_path / "state").chmod(0)
    try:
        assert doctor._state(settings).state == "bad"
        assert doctor._disk(settings).state == settled[1]
        assert doctor_host.clear_text(settings, host.root).state == "bad"
        assert "repositories.nas" in str(list(rights(settings, host.root)))
    finally:
        (tmp_path / "state").chmod(0o700)
    assert settled[0] == "ok"


# -------------------------------------------------------------------------------- what it stands on


FLAGS = "processor\t: 0\nflags\t\t: fpu sse2 hypervisor lm\n"


@pytest.mark.parametrize(
    ("files", "machine"),
    [
        ({}, ""),
        ({"sys/class/dmi/id/sys_vendor": "Dell Inc.\n"}, ""),
        ({"sys/class/dmi/id/sys_vendor": "VMware, Inc.\n"}, "vmware"),
        ({"sys/class/dmi/id/product_name": "KVM\n"}, "kvm"),
        ({"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n"}, ""),
        (
            {"sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n", "proc/cpuinfo": FLAGS},
            "microsoft",
        ),
        ({"proc/cpuinfo": FLAGS}, "?"),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"run/systemd/container": "lxc\n"}, "container lxc"),
    ],
    ids=["nothing", "hardware", "vmware", "kvm", "surface", "hyper-v", "flag", "xen", "lxc"],
)
def test_a_virtual_machine_is_recognised(
    host: MadeHost, files: dict[str, str], machine: str
) -> None:
    for name, text in files.items():
        host.file(name, text)
    assert doctor_place.virtual(host.root) == machine


def test_a_virtual_machine_says_which_cluster_it_lives_on(host: MadeHost, tmp_path: Path) -> None:
    host.file("sys/class/dmi/id/sys_vendor", "QEMU\n")
    plain = configured(tmp_path, estate("/srv/exports"))
    assert doctor_place.virtualisation(plain, host.root).state == "note"
    known = estate("/srv/exports", repository='failure-domain = "cluster-a"')
    asked = doctor_place.virtualisation(configured(tmp_path, known), host.root)
    assert (asked.state, remedy(asked)) == ("unproven", "failure-domains")
    said = configured(tmp_path, known + '[host]\nfailure-domains = ["cluster-b"]\n')
    found = doctor_place.virtualisation(said, host.root)
    assert (found.state, found.found) == ("ok", "qemu, cluster-b")


def placed(settings: Settings, host: MadeHost, **names: list[str]) -> Result:
    def resolve(name: str) -> list[str]:
        return [name, *names.get(name.replace(".", "_"), [])]

    return doctor_place.place(settings, host.root, TODAY, resolve)


def test_the_cluster_and_the_array_are_declared(host: MadeHost, tmp_path: Path) -> None:
    text = estate(
        "/srv/exports",
        repository='failure-domain = "Array-1"',
        application='failure-domain = "cluster-a"',
    )
    there = configured(tmp_path, text + '[host]\nfailure-domains = ["cluster-A", "array-1"]\n')
    found = placed(there, host)
    assert (found.state, remedy(found)) == ("bad", "place")
    assert found.found == "cluster-A: applications.dpi; array-1: repositories.nas"
    elsewhere = configured(tmp_path, text + '[host]\nfailure-domains = ["room-9"]\n')
    assert placed(elsewhere, host).state == "ok"
    kept = text + '[host]\nfailure-domains = ["array-1"]\n' + accepted("place", "2026-12-01")
    assert placed(configured(tmp_path, kept), host).state == "note"


def test_a_repository_on_the_disk_of_the_store_is_seen(host: MadeHost, tmp_path: Path) -> None:
    host.block("sda", "8:0")
    host.block("sda1", "8:1", part_of="sda")
    host.block("sda2", "8:2", part_of="sda")
    host.block("dm-0", "254:0", uuid="LVM-x", of=("sda2",))
    host.block("sdb", "8:16")
    host.mount("/", device="8:1")
    host.mount("/srv/exports", device="254:0")
    settings = configured(tmp_path, estate("/srv/exports/dpi"))
    found = placed(settings, host)
    assert found.state == "bad"
    assert found.found == "sda: scratch.directory, store.directory, repositories.nas"
    host.mount("/srv/exports", device="8:16")
    assert placed(settings, host).state == "ok"


def test_the_same_server_or_array_is_seen_under_another_name(
    host: MadeHost, tmp_path: Path
) -> None:
    host.mount("/", device="8:1")
    host.mount(tmp_path, "nfs4", source="192.0.2.7:/vol/backupguard", device="0:50")
    text = """[repositories.nas]
type = "restic"
url = "sftp:reader@nas.example:/srv/restic"
credentials.reader.credential = "k"
"""
    settings = configured(tmp_path, text)
    found = placed(settings, host, nas_example=["192.0.2.7"])
    assert (found.state, found.found) == (
        "bad",
        "192.0.2.7: scratch.directory, store.directory, repositories.nas",
    )
    assert placed(settings, host, nas_example=["192.0.2.8"]).state == "ok"


def test_two_volumes_of_one_iscsi_array_are_one_place(host: MadeHost, tmp_path: Path) -> None:
    for name, number, session in (("sdc", "8:32", 1), ("sdd", "8:48", 2)):
        host.block(name, number, under=f"platform/host3/session{session}/target/block")
        connection = f"sys/class/iscsi_connection/connection{session}:0/persistent_address"
        host.file(connection, "192.0.2.50\n")
    host.mount("/", device="8:99")
    host.mount(tmp_path, device="8:32")
    host.mount("/srv/exports", device="8:48")
    settings = configured(tmp_path, estate("/srv/exports"))
    found = placed(settings, host)
    assert (found.state, "192.0.2.50" in found.found) == ("bad", True)
    host.file("sys/class/iscsi_connection/connection2:0/persistent_address", "192.0.2.60\n")
    assert placed(settings, host).state == "ok"


def test_what_others_told_of_their_copies_is_no_copy_here(host: MadeHost, tmp_path: Path) -> None:
    host.block("sda", "8:0")
    host.mount("/", device="8:0")
    text = '[repositories.scripts]\ntype = "reported"\n'
    assert placed(configured(tmp_path, text), host).state == "ok"


@pytest.mark.parametrize(
    ("source", "servers"),
    [
        ("nas.example:/vol/a", {"host:nas.example"}),
        ("[2001:db8::7]:/vol/a", {"host:2001:db8::7"}),
        ("//NAS/share", {"host:nas"}),
        ("admin@192.0.2.1:6789,192.0.2.2:6789:/", {"host:192.0.2.1", "host:192.0.2.2"}),
        ("tank/data", set()),
    ],
    ids=["name", "address", "share", "monitors", "nobody"],
)
def test_the_server_behind_a_mount(host: MadeHost, source: str, servers: set[str]) -> None:
    host.mount("/srv/there", "nfs4", source=source)
    assert doctor_place.grounds(Path("/srv/there/x"), host.root) == servers


# ------------------------------------------------------------------------------------ the real one


def test_of_this_very_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path, estate("/srv"))
    main(["--config", str(tmp_path / "backupguard.toml"), "--language", "fr", "doctor", "--json"])
    checks = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    judged = ("domain", "swap", "core-dumps", "clear-text", "virtualisation", "place")
    assert set(judged) <= set(checks)
    assert all(checks[name]["remedy"] for name in judged if checks[name]["state"] == "bad")
