from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import ValidationError

from backupguard import settings
from backupguard.contracts import EngineSettings
from backupguard.errors import ConfigurationError
from backupguard.model import Criticality
from backupguard.resources import shipped

SITE = '[site]\nname = "CH"\n'
APPLICATION = """
[repositories.nas]
type = "directory"
path = "/srv/exports"
[repositories.other]
type = "directory"
path = "/srv/other"
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.backups.nightly]
repository = "nas"
every = "24h"
select = { paths = ["/a"], host = "srv1", pattern = "x-%Y" }
[applications.dpi.backups.weekly]
repository = "other"
schedule = "0 1 * * 0"
"""


def load(directory: Path, text: str, **environ: str) -> settings.Settings:
    path = directory / "backupguard.toml"
    path.write_text(text)
    return settings.load(path, environ=environ)


def test_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE)

    assert loaded.site.timezone == "Europe/Paris"
    assert loaded.state_directory == Path("/var/lib/backupguard")
    assert loaded.runtime_directory == Path("/run/backupguard")
    assert loaded.runs_directory == Path("/var/lib/backupguard/runs")
    assert loaded.http.listen == "127.0.0.1:9789"
    assert loaded.daemon.cadences.inventory.of(Criticality.C1) == timedelta(minutes=15)
    assert loaded.files == (tmp_path / "backupguard.toml",)


def test_relative_paths_begin_at_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE + '[store]\ndirectory = "state"\n')

    assert loaded.state_directory == tmp_path / "state"
    assert loaded.runtime_directory == tmp_path / "state" / "run"
    assert loaded.runs_directory == tmp_path / "state" / "runs"


def test_settings_are_frozen(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE)

    with pytest.raises(ValidationError):
        loaded.site.name = "x"  # type: ignore[misc]


def test_selectors(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE + APPLICATION)

    selector = loaded.selector("dpi", "nightly")
    assert (selector.job, selector.application) == ("dpi.nightly", "dpi")
    assert (selector.paths, selector.host, selector.tags) == (("/a",), "srv1", ())
    assert selector.pattern == "x-%Y"
    assert loaded.jobs_in("nas") == (selector,)
    assert [job.job for job in loaded.jobs_in("other")] == ["dpi.weekly"]
    assert loaded.jobs_in("none") == ()
    assert loaded.criticality_of("nas") is Criticality.C1
    assert loaded.restore_test_schedule("dpi") == timedelta(days=31)


def test_one_cadence_leaves_the_others(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE + '[daemon.cadences]\ninventory = { C1 = "5m" }\n')

    cadence = loaded.daemon.cadences.inventory
    assert (cadence.c1, cadence.c2) == (timedelta(minutes=5), timedelta(hours=1))


# ---------------------------------------------------------------------------------- environment


def test_the_environment_sets_single_values(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        SITE + "[daemon]\nparallel-probes = 2\n",
        BACKUPGUARD_DAEMON_PARALLEL_PROBES="7",
        BACKUPGUARD_STORE_URL="postgresql+psycopg://db/backupguard",
        BACKUPGUARD_HTTP_LISTEN="[::1]:9000",
        BACKUPGUARD_TOOLS="/nowhere",
    )

    assert loaded.daemon.parallel_probes == 7
    assert loaded.store.url == "postgresql+psycopg://db/backupguard"
    assert loaded.http.listen == "[::1]:9000"


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, SITE, BACKUPGUARD_DAEMON_PARALEL_PROBES="7", BACKUPGUARD_HTTP_LISTEN="x")

    assert {(p.file, p.key, p.line) for p in caught.value.problems} == {
        ("BACKUPGUARD_DAEMON_PARALEL_PROBES", "daemon.paralel-probes", None),
        ("BACKUPGUARD_HTTP_LISTEN", "http.listen", None),
    }


def test_the_variable_names_the_file_and_the_option_wins(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('[site]\nname = "one"\n')
    other.write_text('[site]\nname = "other"\n')
    environ = {"BACKUPGUARD_CONFIG": str(one)}

    assert settings.load(environ=environ).site.name == "one"
    assert settings.load(other, environ=environ).site.name == "other"


# -------------------------------------------------------------------------------------- plug-ins

ENGINELESS = """
[applications.dpi]
name = "DPI"
criticality = "C1"
[applications.dpi.restore-test]
"""


def test_without_an_engine_the_one_that_knows_the_keys_reads_them(tmp_path: Path) -> None:
    check = '[[applications.dpi.restore-test.checks]]\nname = "n"\nequals = 1\n'
    for asked, kind in (
        ('sql = "select 1"\n', "MariadbSettings"),
        ('filter = "(uid=*)"\n', "OpenldapSettings"),
        ('files = "*.dcm"\n', "FilesSettings"),
    ):
        loaded = load(tmp_path, SITE + ENGINELESS + check + asked)
        test = loaded.applications["dpi"].restore_test
        assert type(test).__name__ == kind
        assert test is not None
        assert test.engine is None


def test_without_an_engine_shared_keys_need_none(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE + ENGINELESS + 'schedule = "0 1 * * *"\n')

    assert type(loaded.applications["dpi"].restore_test) is EngineSettings


def test_only_what_is_named_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_text(SITE + APPLICATION)
    code = (
        "import sys; from pathlib import Path; from backupguard.settings import load;"
        f"load(Path({str(path)!r}), environ={{}});"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('restore_tests', 'probes', 'tree_sitter', 'pydantic_settings', 'sqlalchemy', 'babel')"
        " or m.startswith('backupguard.repositories.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    imported = done.stdout.split()
    types = entry_points(group="backupguard.repositories")
    others = {entry.module for entry in types if entry.name != "directory"}
    assert "backupguard.repositories.restic" in others
    assert not others & set(imported)
    assert all(name.startswith("backupguard.repositories.") for name in imported)


def test_probe_settings_have_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, SITE + "[probes.integrity]\ndata-percent = 7\n")

    assert loaded.probe("integrity").model_dump()["data_percent"] == 7
    assert loaded.probe("inventory").every is None


# -------------------------------------------------------------------------------- dump and hash


@pytest.fixture
def reference(tmp_path: Path) -> settings.Settings:
    (tmp_path / "secrets").mkdir(mode=0o700)
    secret = tmp_path / "secrets" / "rest-server-nas"
    secret.write_text("user:hunter2\n")
    secret.chmod(0o600)
    credential = tmp_path / "credentials" / "restic-nas"
    credential.parent.mkdir()
    names = ("planning-reader", "vantage-bureautique", "siem-client-key", "smtp", "dead-man")
    for each in (credential, *map(credential.with_name, names)):
        each.write_text("correct horse\n")
        each.chmod(0o400)
    text = shipped("backupguard.toml").read_text(encoding="utf-8")
    return load(tmp_path, text, CREDENTIALS_DIRECTORY=str(credential.parent))


def test_the_reference_configuration_is_right_once_its_secrets_exist(
    reference: settings.Settings,
) -> None:
    assert set(reference.repositories) == {"nas", "exports", "netbackup", "scripts"}
    assert reference.applications["dpi"].declared_on == date(2026, 3, 2)


def test_the_reference_shows_the_defaults(reference: settings.Settings, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    defaults = load(bare, SITE)

    for name in ("cadences", "limits", "parallel_probes", "parallel_restore_tests"):
        assert getattr(reference.daemon, name) == getattr(defaults.daemon, name)
    assert (reference.store, reference.http) == (defaults.store, defaults.http)
    assert reference.scratch == defaults.scratch
    assert reference.probe("integrity") == defaults.probe("integrity")


def test_a_dump_is_read_back_as_it_was(reference: settings.Settings, tmp_path: Path) -> None:
    path = settings.write_file(reference, tmp_path / "runs")
    read = settings.from_file(path)

    assert path.name == f"settings-{reference.sha256}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert read.model_dump() == reference.model_dump()
    assert (read.sha256, read.files) == (reference.sha256, reference.files)
    assert type(read.repositories["nas"]) is type(reference.repositories["nas"])
    assert type(read.applications["dpi"].restore_test) is type(
        reference.applications["dpi"].restore_test
    )
    assert list(path.parent.iterdir()) == [path]


def test_a_dump_holds_references_and_no_secret(reference: settings.Settings) -> None:
    text = json.dumps(reference.dump())

    assert "restic-nas" in text
    assert "hunter2" not in text
    assert "horse" not in text


def test_a_changed_dump_is_refused(reference: settings.Settings, tmp_path: Path) -> None:
    path = settings.write_file(reference, tmp_path)
    path.write_text(path.read_text().replace("CH de Belle-Rive", "CH de Laide-Rive"))

    with pytest.raises(ConfigurationError):
        settings.from_file(path)
    with pytest.raises(ConfigurationError):
        settings.from_file(tmp_path / "none.json")


def test_the_hash_follows_what_counts(tmp_path: Path) -> None:
    first = load(tmp_path, SITE)
    spelled = load(tmp_path, '# moved\n[site]\nname="CH"\ntimezone="Europe/Paris"\n')
    other = load(tmp_path, SITE + "[daemon]\nparallel-probes = 5\n")

    assert first.sha256 == spelled.sha256
    assert first.sha256 != other.sha256


def test_the_schema_knows_every_plugin(reference: settings.Settings) -> None:
    model = settings.full_model()
    schema = json.dumps(model.model_json_schema(by_alias=True))

    assert '"data-percent"' in schema
    assert '"newer-than"' in schema
    assert model.model_validate(reference.dump()["settings"]).sha256 == reference.sha256
