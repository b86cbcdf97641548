"""Backup jobs found in other tools' files; the secrets in these files stay there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from backupguard.databases import parse_database_pattern
from probes import discovery_commands
from probes.discovery_files import without_password
from probes.discovery_found import ConfiguredJob, Plan
from tests.unit.probes.discovering import SECRET, Answers, seen, write

pytestmark = pytest.mark.usefixtures("heard")

NEW = f"""\
source_directories: [/etc, /srv/dpi]
repositories:
    - path: ssh://borg@nas.example/./dpi
      label: nas
    - path: rest:https://dpi:{SECRET}@nas.example/dpi
encryption_passphrase: "{SECRET}"
postgresql_databases:
    - name: dpi
      hostname: db1.example
      port: 5433
      username: borg
      password: {SECRET}
    - name: all
mariadb_databases:
    - name: planning
      password: "{{credential file /etc/x}}"
sqlite_databases:
    - name: labo
      path: /srv/labo/labo.sqlite3
"""
OLD = f"""\
location:
    source_directories:
        - /home
    repositories:
        - /mnt/borg
storage:
    encryption_passphrase: {SECRET}
hooks:
    mysql_databases:
        - name: ged
          hostname: localhost
"""


def jobs(directory: Path, **more: Any) -> dict[str, dict[str, Any]]:
    data = seen(directory, **more)
    return {f"{one['tool']}/{one['name']}": one for one in data["jobs"]}


def test_borgmatic_since_1_8(tmp_path: Path) -> None:
    file = write(tmp_path / "etc/borgmatic/config.yaml", NEW)
    one = jobs(tmp_path)["borgmatic/config"]
    assert one["repositories"] == ["ssh://borg@nas.example/./dpi", "rest:https://nas.example/dpi"]
    assert one["covers"] == [
        "postgresql://db1.example:5433/dpi",
        "postgresql://srv-db1/*",
        "mariadb://srv-db1/planning",
        "sqlite://srv-db1/srv/labo/labo.sqlite3",
    ]
    assert one["paths"] == ["/etc", "/srv/dpi"]
    assert one["secrets"][:2] == [f"{file} line 5", f"{file} line 6"]


def test_borgmatic_before_1_8(tmp_path: Path) -> None:
    write(tmp_path / "etc/borgmatic.d/vieux.yml", OLD)
    write(tmp_path / "etc/borgmatic.d/notes.txt", "nothing: [")
    one = jobs(tmp_path)["borgmatic/vieux"]
    assert one["repositories"] == ["/mnt/borg"]
    assert one["covers"] == ["mariadb://localhost/ged"]
    assert one["paths"] == ["/home"]


def test_borgmatic_includes_other_files(tmp_path: Path) -> None:
    write(tmp_path / "etc/borgmatic/common.yaml", f"encryption_passphrase: {SECRET}\n")
    write(
        tmp_path / "etc/borgmatic/config.yaml",
        "<<: !include common.yaml\nrepositories: !include places.yaml\n",
    )
    write(tmp_path / "etc/borgmatic/places.yaml", "- path: /mnt/a\n")
    one = jobs(tmp_path)["borgmatic/config"]
    assert one["repositories"] == ["/mnt/a"]
    assert len(one["secrets"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"encryption_passphrase: [{SECRET}\n",
        f"a: &a [x]\nb: &b [*a,*a]\npassword: {SECRET}\n"
        + "".join(
            f"k{n}: &k{n} [{','.join([f'*k{n - 1}' if n else '*b'] * 9)}]\n" for n in range(9)
        ),
        "- just\n- a list\n",
        "[" * 5000,
        f"\x01{SECRET}",
    ],
    ids=["broken", "bomb", "list", "deep", "control"],
)
def test_a_hostile_yaml_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "etc/borgmatic/config.yaml", text)
    with structlog.testing.capture_logs() as logged:
        data = seen(tmp_path)
    assert [(one["what"], one["code"]) for one in data["lacking"]] == [(str(file), "unparsable")]
    assert not data["jobs"]
    assert SECRET not in repr(logged)


def test_a_file_that_may_not_be_read_is_a_lack_and_no_silence(tmp_path: Path) -> None:
    file = write(tmp_path / "etc/borgmatic/config.yaml", NEW)
    file.chmod(0)
    one = seen(tmp_path)["lacking"][0]
    assert one["need"] == f"read access to {file}"
    assert one["hides"] == "jobs"


def test_a_file_that_is_too_large_or_none_is_not_read(tmp_path: Path) -> None:
    import os

    write(tmp_path / "etc/crontab", "# x\n" * 400_000)
    (tmp_path / "etc/borgmatic").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/borgmatic/config.yaml")
    assert [one["code"] for one in seen(tmp_path)["lacking"]] == ["too_large"]


def test_cron_tables(tmp_path: Path) -> None:
    table = write(
        tmp_path / "etc/crontab",
        f"SHELL=/bin/sh\nRESTIC_PASSWORD={SECRET}\n"
        "0 2 * * * root restic -r rest:https://u:" + SECRET + "@nas/dpi backup /srv\n"
        "30 3 * * 1-5\troot\tnice -n 19 pg_dump -U ged -h localhost dpi > /srv/dpi.sql\n"
        "#0 4 * * * root mysqldump --databases planning\n"
        "17 * * * * root run-parts /etc/cron.hourly\n"
        "@daily root restic -r /mnt/r forget --keep-daily 7\n"
        f"5 5 * * * root PGPASSWORD={SECRET} /opt/sauvegarde-labo.sh\n"
        "# this backup is made at 5 5 by hand\n",
    )
    found = jobs(tmp_path)
    assert set(found) == {
        "cron/crontab:3 restic",
        "cron/crontab:4 pg_dump",
        "cron/crontab:5 mysqldump",
        "cron/crontab:8 script",
    }
    restic = found["cron/crontab:3 restic"]
    assert restic["repositories"] == ["rest:https://nas/dpi"]
    assert restic["schedule"] == "0 2 * * *"
    assert restic["secrets"] == [f"{table} line 2", f"{table} line 3"]
    assert not found["cron/crontab:5 mysqldump"]["enabled"]
    assert f"{table} line 8" in found["cron/crontab:8 script"]["secrets"]


def test_users_crontabs_and_scripts(tmp_path: Path) -> None:
    script = write(
        tmp_path / "opt/nightly.sh", "#!/bin/sh\n# borg\nexport X=1\n/usr/bin/restic backup /srv\n"
    )
    write(tmp_path / "crontabs/alice", f"0 1 * * * {script}\n")
    daily = write(tmp_path / "etc/cron.daily/dumps", "#!/bin/sh\npg_dumpall | gzip > /srv/all.gz\n")
    daily.chmod(0o755)
    write(tmp_path / "etc/cron.weekly/old-backup", "#!/bin/sh\ntrue\n")
    write(tmp_path / "etc/cron.daily/dpkg", "#!/bin/sh\n/usr/libexec/dpkg/dpkg-db-backup\n").chmod(
        0o755
    )
    found = jobs(tmp_path)
    assert found["cron/alice:1 restic"]["enabled"]
    assert found["cron/cron.daily/dumps"]["enabled"]
    assert not found["cron/cron.weekly/old-backup"]["enabled"], "run-parts starts no such file"
    assert len(found) == 3


def test_a_command_that_is_a_directory_is_no_script(tmp_path: Path) -> None:
    line = f"0 1 * * * root {tmp_path}\n5 1 * * * root restic backup /srv\n"
    write(tmp_path / "etc/crontab", line)
    assert set(jobs(tmp_path)) == {"cron/crontab:2 restic"}


def test_crontabs_that_may_not_be_listed_are_a_lack(tmp_path: Path) -> None:
    (tmp_path / "crontabs").mkdir()
    (tmp_path / "crontabs").chmod(0o300)
    try:
        assert [one["code"] for one in seen(tmp_path)["lacking"]] == ["permission"]
    finally:
        (tmp_path / "crontabs").chmod(0o700)


TIMERS = [
    {"next": 1, "left": 1, "last": last, "passed": 1, "unit": f"{name}.timer"}
    | {"activates": f"{name}.service"}
    for name, last in (("dpi", 1772600000000000), ("ged", 0))
]
FILES = [
    {"unit_file": "dpi.timer", "state": "enabled", "preset": "enabled"},
    {"unit_file": "ged.timer", "state": "enabled", "preset": "enabled"},
    {"unit_file": "labo.timer", "state": "disabled", "preset": "enabled"},
    {"unit_file": "dpkg-db-backup.timer", "state": "enabled", "preset": "enabled"},
    {"unit_file": "borg@.timer", "state": "enabled", "preset": "enabled"},
]
SHOWN = "\n\n".join(
    f"Id={name}.service\nExecStart={{ path=/x ; argv[]={argv} ; ignore_errors=no ; pid=0 }}\n"
    f"\nId={name}.timer\nActiveState={active}\nFragmentPath=/etc/systemd/system/{name}.timer"
    for name, argv, active in (
        ("dpi", f"/usr/bin/restic -r rest:https://u:{SECRET}@nas/x backup /srv", "active"),
        ("ged", "/usr/bin/borgmatic --verbosity -1", "active"),
        ("labo", "/usr/bin/pgbackrest --stanza=labo backup", "inactive"),
    )
)


def answers(**other: bytes | int) -> Answers:
    return Answers(
        {
            "list-unit-files": json.dumps(FILES).encode(),
            "list-timers": json.dumps(TIMERS).encode(),
            "show": SHOWN.encode(),
        }
        | {name.replace("_", "-"): value for name, value in other.items()}
    )


def test_systemd_timers(tmp_path: Path) -> None:
    (tmp_path / "systemd/system").mkdir(parents=True)
    found = jobs(tmp_path, tools=answers())
    states = {name: (one["enabled"], one["never_ran"]) for name, one in found.items()}
    assert states == {
        "systemd/dpi.timer": (True, False),
        "systemd/ged.timer": (True, True),
        "systemd/labo.timer": (False, True),
    }
    assert found["systemd/dpi.timer"]["last_run_at"] == 1772600000000000


@pytest.mark.parametrize("answer", [1, b"", b"Failed to connect", b"[1,", b'{"a":1}', b'[{"x":1}]'])
def test_a_systemd_that_does_not_answer_is_a_lack(tmp_path: Path, answer: bytes | int) -> None:
    (tmp_path / "systemd/system").mkdir(parents=True)
    lacking = seen(tmp_path, tools=answers(list_timers=answer))["lacking"]
    assert [(one["what"], one["hides"]) for one in lacking] == [("systemd", "jobs")]


def test_a_host_without_systemd_lacks_nothing(tmp_path: Path) -> None:
    assert not seen(tmp_path)["lacking"]


def test_stanzas_servers_and_directors(tmp_path: Path) -> None:
    write(
        tmp_path / "etc/pgbackrest/pgbackrest.conf",
        f"[global]\nrepo1-path=/srv/pgb\nrepo1-cipher-pass={SECRET}\n"
        "[dpi]\npg1-path=/var/lib/postgresql/15/main\n"
        "[far]\npg1-host=db2.example\npg1-port=5444\npg1-path=/x\n[dpi:archive-push]\ncompress=y\n",
    )
    write(tmp_path / "etc/barman.conf", "[barman]\nbarman_home = /srv/barman\n")
    write(
        tmp_path / "etc/barman.d/ged.conf",
        f"[ged]\nconninfo = host=db3 user=barman password={SECRET} dbname=postgres\nactive = false\n",
    )
    write(
        tmp_path / "etc/bareos/bareos-dir.d/job/dpi.conf",
        'Job {\n  Name = "dpi-files"\n  Client = srv\n  Schedule = "Weekly"\n  Run { Name = "no" }\n}\n'
        'JobDefs { Name = "defs" }\nJob { Name = restore; Type = Restore }\n'
        f'Director {{ Password = "{SECRET}" }}\nJob {{ Name = off; Enabled = no }}\n',
    )
    found = jobs(tmp_path)
    assert set(found) == {
        *("pgbackrest/dpi", "pgbackrest/far", "barman/ged", "bareos/dpi-files", "bareos/off"),
    }
    assert found["pgbackrest/far"]["covers"] == ["postgresql://db2.example:5444/*"]
    assert found["pgbackrest/dpi"]["repositories"] == ["/srv/pgb"]
    assert found["barman/ged"]["covers"] == ["postgresql://db3:5432/*"]
    assert not found["barman/ged"]["enabled"]
    assert found["barman/ged"]["secrets"] == [f"{tmp_path}/etc/barman.d/ged.conf line 2"]
    assert not found["bareos/off"]["enabled"]


def test_a_job_that_was_found_is_known_by_name_or_by_its_repository(tmp_path: Path) -> None:
    write(tmp_path / "etc/borgmatic/config.yaml", NEW)
    write(tmp_path / "etc/pgbackrest.conf", "[dpi]\npg1-path=/x\n[ged]\npg1-path=/y\n")
    plan = Plan(
        jobs=(
            ConfiguredJob(id="dpi.stanza", repository="p", type="pgbackrest", name="dpi"),
            ConfiguredJob(
                id="dpi.borg", repository="b", type="borg", addresses=("borg@nas.example:dpi",)
            ),
            ConfiguredJob(
                id="far.borg",
                repository="b",
                type="borg",
                addresses=("ssh://nas.example/dpi",),
                paths=("/home",),
            ),
        )
    )
    found = jobs(tmp_path, plan=plan)
    assert found["pgbackrest/dpi"]["configured_as"] == ["dpi.stanza"]
    assert found["pgbackrest/ged"]["configured_as"] == []
    assert found["borgmatic/config"]["configured_as"] == ["dpi.borg"]


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("rest:https://u:p/w@x@nas/dpi", "rest:https://nas/dpi"),
        ("https://TOKEN@nas/x?sig=abc", "https://nas/x"),
        ("ssh://borg@nas/./x", "ssh://borg@nas/./x"),
        ("ssh://borg:pw@nas/x", "ssh://nas/x"),
        ("s3:https://s3.example/bucket", "s3:https://s3.example/bucket"),
        ("/mnt/a", "/mnt/a"),
        ("borg@nas:x", "borg@nas:x"),
        ("u:pw@nas/x", "nas/x"),
    ],
)
def test_addresses_lose_their_passwords(address: str, plain: str) -> None:
    assert without_password(address)[0] == plain


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("pg_dump -U ged -Fc dpi", ["dpi"]),
        ("pg_dump --dbname=postgresql://u:x@h/dpi?y", ["dpi"]),
        ("pg_dumpall | gzip", ["*"]),
        ("mysqldump -u root -p planning stays", ["planning"]),
        ("mariadb-dump -B a b", ["a", "b"]),
        ("su - postgres -c 'pg_dump dpi | gzip > /x'", ["dpi"]),
    ],
)
def test_what_a_dump_program_saves(command: str, names: list[str]) -> None:
    known = discovery_commands.recognise(command, "srv-db1")
    assert known is not None
    assert [one.name for one in known.claims][: len(names)] == names


def test_a_name_on_a_command_line_is_shown_only_where_such_a_database_exists(
    tmp_path: Path,
) -> None:
    # what looks like a name may be a password in the wrong place
    write(tmp_path / "etc/crontab", f"0 1 * * * root mysqldump -u root -p {SECRET} planning\n")
    (one,) = jobs(tmp_path).values()
    assert one["covers"] == []


@pytest.mark.parametrize(
    "text",
    [
        "dpi",
        "postgresql://",
        "postgresql://h:0/x",
        "oracle://h/x",
        "postgresql://u@h/x",
        "postgresql://h/a\nb",
    ],
)
def test_what_names_no_database_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ENGINE"):
        parse_database_pattern(text)


def test_a_mistake_in_one_part_hides_neither_the_others_nor_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes import discovery_borgmatic

    def broken(*_arguments: object) -> None:
        raise ValueError(f"invalid literal: {SECRET}")

    monkeypatch.setattr(discovery_borgmatic, "look", broken)
    write(tmp_path / "etc/pgbackrest.conf", "[dpi]\npg1-path=/x\n")
    with structlog.testing.capture_logs() as logged:
        data = seen(tmp_path)
    assert [(one["what"], one["code"]) for one in data["lacking"]] == [("borgmatic", "bug")]
    assert [one["tool"] for one in data["jobs"]] == ["pgbackrest"]
    assert logged[0]["event"] == "discovery.bug"
    assert SECRET not in repr(logged)
