"""Every kind of mistake: a file with it, and the same file without it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from backupguard import settings
from backupguard.errors import ConfigurationError, ConfigurationProblem
from backupguard.language import catalogue

CLEAN = """\
[site]
name = "CH de Belle-Rive"
timezone = "Europe/Paris"

[repositories.nas]
type = "restic"
url = "/srv/restic"
credentials.reader.file = "secrets/restic"
limits.windows = ["Mon-Fri 20:00-06:00"]
limits.bandwidth = "50MB/s"

[repositories.exports]
type = "directory"
path = "/srv/exports"

[applications.annuaire]
name = "Annuaire"
criticality = "C2"

[applications.dpi]
name = "Dossier patient"
criticality = "C1"
rpo = "24h"
rto = "4h"
declared-on = 2026-03-02
depends-on = ["annuaire"]

[applications.dpi.backups.nightly]
repository = "nas"
select.paths = ["/dpi.dump"]
schedule = "0 22 * * *"

[applications.dpi.restore-test]
engine = "postgresql"
schedule = "0 10 5 * *"
[[applications.dpi.restore-test.checks]]
name = "admissions"
sql = "select max(admitted_at) from stays"
newer-than = "26h"

[daemon]
parallel-probes = 4
windows = ["22:00-06:00"]

[http]
listen = "127.0.0.1:9789"

[probes.inventory]
every = "15m"
"""

TODAY = date(2026, 3, 5)

#: name: (what is replaced, by what, key, message id, id of the remedy or None)
MISTAKES = {
    "unknown key": ("timezone =", "timezon =", "site.timezon", "settings.unknown-key"),
    "unknown table": ("[daemon]", "[demon]", "demon", "settings.unknown-key"),
    "unknown key of a repository": (
        'path = "/srv/exports"',
        'path = "/srv/exports"\npaht = "x"',
        "repositories.exports.paht",
        "settings.unknown-key",
    ),
    "unknown key of a check": (
        "newer-than =",
        "newer-then =",
        "applications.dpi.restore-test.checks[0].newer-then",
        "settings.unknown-key",
    ),
    "unknown key of a probe": (
        "every =",
        "evry =",
        "probes.inventory.evry",
        "settings.unknown-key",
    ),
    "missing key": ('name = "CH de Belle-Rive"\n', "", "site.name", "settings.missing"),
    "missing key of a plug-in": (
        'url = "/srv/restic"\n',
        "",
        "repositories.nas.url",
        "settings.missing",
    ),
    "missing type": ('type = "restic"\n', "", "repositories.nas.type", "settings.missing"),
    "unknown type": (
        '"restic"\nurl',
        '"restik"\nurl',
        "repositories.nas.type",
        "settings.no-plugin",
    ),
    "unknown engine": (
        '"postgresql"',
        '"postgres"',
        "applications.dpi.restore-test.engine",
        "settings.no-plugin",
    ),
    "unknown probe": (
        "probes.inventory",
        "probes.inventori",
        "probes.inventori",
        "settings.no-plugin",
    ),
    "empty text": (
        'name = "Annuaire"',
        'name = ""',
        "applications.annuaire.name",
        "settings.empty",
    ),
    "wrong type": (
        "parallel-probes = 4",
        'parallel-probes = "few"',
        "daemon.parallel-probes",
        None,
    ),
    "text for a table": (
        "[probes.inventory]",
        "[probes]\ninventory = 3\n[probes.integrity]",
        "probes.inventory",
        "settings.wrong-type",
    ),
    "not a date": ("2026-03-02", '"soon"', "applications.dpi.declared-on", None),
    "unknown criticality": (
        '"C2"',
        '"C4"',
        "applications.annuaire.criticality",
        "settings.not-one-of",
    ),
    "unknown language": (
        'timezone = "Europe/Paris"',
        'language = "de"',
        "site.language",
        "settings.not-one-of",
    ),
    "too few": ("probes = 4", "probes = 0", "daemon.parallel-probes", "settings.below"),
    "too many": ("probes = 4", "probes = 100", "daemon.parallel-probes", "settings.above"),
    "no duration": ('rpo = "24h"', 'rpo = "a day"', "applications.dpi.rpo", "settings.duration"),
    "duration without a unit": (
        'rpo = "24h"',
        "rpo = 24",
        "applications.dpi.rpo",
        "settings.duration",
    ),
    "duration of nothing": (
        'rpo = "24h"',
        'rpo = "0h"',
        "applications.dpi.rpo",
        "settings.not-above",
    ),
    "negative duration": (
        'rpo = "24h"',
        'rpo = "-24h"',
        "applications.dpi.rpo",
        "settings.duration",
    ),
    "duration beyond centuries": (
        'rpo = "24h"',
        'rpo = "99999999999d"',
        "applications.dpi.rpo",
        "settings.duration",
    ),
    "cadence below a minute": ('every = "15m"', 'every = "0s"', "probes.inventory.every", None),
    "bad id": ("applications.annuaire]", "applications.Annuaire]", "applications.Annuaire", None),
    "dangling repository": (
        'repository = "nas"',
        'repository = "nass"',
        "applications.dpi.backups.nightly.repository",
        "settings.no-repository",
    ),
    "dangling dependency": (
        '["annuaire"]',
        '["anuaire"]',
        "applications.dpi.depends-on[0]",
        "settings.no-application",
    ),
    "dependency on itself": (
        '["annuaire"]',
        '["dpi"]',
        "applications.dpi.depends-on",
        "settings.circle",
    ),
    "dependency circle": (
        'name = "Annuaire"',
        'name = "Annuaire"\ndepends-on = ["dpi"]',
        "applications.annuaire.depends-on",
        "settings.circle",
    ),
    "bad schedule of a job": (
        "0 22 * * *",
        "0 25 * * *",
        "applications.dpi.backups.nightly.schedule",
        "settings.bad-schedule",
    ),
    "schedule that never comes": (
        "0 10 5 * *",
        "0 10 30 2 *",
        "applications.dpi.restore-test.schedule",
        "settings.bad-schedule",
    ),
    "bad schedule of reports": (
        "[http]",
        '[daemon.cadences]\nreport = "monthly"\n[http]',
        "daemon.cadences.report",
        "settings.bad-schedule",
    ),
    "no rhythm": (
        'schedule = "0 22 * * *"\n',
        "",
        "applications.dpi.backups.nightly",
        "settings.no-rhythm",
    ),
    "two rhythms": (
        'schedule = "0 22 * * *"\n',
        'schedule = "0 22 * * *"\nevery = "24h"\n',
        "applications.dpi.backups.nightly.every",
        "settings.two-rhythms",
    ),
    "bad window": ('"22:00-06:00"', '"22h-6h"', "daemon.windows[0]", "settings.bad-window"),
    "bad window of a repository": (
        "Mon-Fri 20",
        "Lun-Ven 20",
        "repositories.nas.limits.windows[0]",
        "settings.bad-window",
    ),
    "bad bandwidth": (
        '"50MB/s"',
        '"fast"',
        "repositories.nas.limits.bandwidth",
        "settings.bad-bandwidth",
    ),
    "bad size": (
        'limits.bandwidth = "50MB/s"',
        'limits.max-bytes-per-day = "much"',
        "repositories.nas.limits.max-bytes-per-day",
        "settings.size",
    ),
    "unknown time zone": ("Europe/Paris", "Europe/Pari", "site.timezone", "settings.bad-timezone"),
    "endless commissioning": (
        'timezone = "Europe/Paris"',
        "commissioning-until = 2026-06-04",
        "site.commissioning-until",
        "settings.commissioning-too-long",
    ),
    "bad address": ("127.0.0.1:9789", "127.0.0.1", "http.listen", "settings.bad-listen"),
    "password in an address": (
        "[http]",
        '[store]\nurl = "postgresql://u:hunter2@db/x"\n[http]',
        "store.url",
        "settings.secret-in-url",
    ),
    "null byte": (
        'path = "/srv/exports"',
        'path = "/srv\\u0000"',
        "repositories.exports.path",
        "settings.null-byte",
    ),
    "directory of nothing": (
        "[http]",
        '[store]\ndirectory = ""\n[http]',
        "store.directory",
        "settings.empty",
    ),
    "secret given twice": (
        'credentials.reader.file = "secrets/restic"',
        'credentials.reader = { file = "secrets/restic", credential = "x" }',
        "repositories.nas.credentials.reader",
        "settings.secret-reference",
    ),
    "secret itself": (
        'credentials.reader.file = "secrets/restic"',
        'credentials.reader = "hunter2"',
        "repositories.nas.credentials.reader",
        "settings.wrong-type",
    ),
    "missing secret": (
        "secrets/restic",
        "secrets/other",
        "repositories.nas.credentials.reader",
        "settings.secret-missing",
    ),
}


def write(directory: Path, text: str) -> Path:
    secret = directory / "secrets" / "restic"
    secret.parent.mkdir()
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    path = directory / "backupguard.toml"
    path.write_text(text)
    return path


def found(path: Path) -> tuple[ConfigurationProblem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(path, environ={}, today=TODAY)
    return caught.value.problems


def test_the_clean_file_is_accepted(tmp_path: Path) -> None:
    loaded = settings.load(write(tmp_path, CLEAN), environ={}, today=TODAY)

    assert set(loaded.applications) == {"annuaire", "dpi"}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found_where_it_stands(tmp_path: Path, name: str) -> None:
    old, new, key, message = MISTAKES[name]
    assert CLEAN.count(old) >= 1
    text = CLEAN.replace(old, new, 1)

    problems = found(write(tmp_path, text))

    mine = [problem for problem in problems if problem.key == key]
    assert len(mine) == 1, problems
    assert message is None or mine[0].message.id == message
    assert mine[0].file == str(tmp_path / "backupguard.toml")
    assert mine[0].line is not None
    assert mine[0].column is not None
    last = key.rsplit(".", 1)[-1].split("[")[0]
    line = text.splitlines()[mine[0].line - 1]
    if message not in {"settings.missing", "settings.no-rhythm"}:
        assert last in line
    assert "hunter2" not in str(problems)
    for language in ("fr", "en"):
        assert mine[0].message.id in catalogue(language)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = CLEAN
    chosen = ["unknown key of a check", "no duration", "dangling repository", "bad window"]
    for name in [*chosen, "dependency on itself", "missing secret", "unknown type"]:
        text = text.replace(MISTAKES[name][0], MISTAKES[name][1], 1)

    problems = found(write(tmp_path, text))

    keys = {problem.key for problem in problems}
    # The secret belongs to a repository of unknown type and is judged all the same.
    assert keys >= {MISTAKES[name][2] for name in [*chosen, "missing secret", "unknown type"]}
    assert [p.line for p in problems] == sorted(p.line or 0 for p in problems)


def test_what_was_meant_is_proposed(tmp_path: Path) -> None:
    [problem] = found(write(tmp_path, CLEAN.replace("newer-than", "newer-then")))[:1]

    assert problem.remedy is not None
    assert problem.remedy.values == {"meant": "newer-than"}


# ------------------------------------------------------------------------------------ files as such


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b'[site]\nname = "x\n', "settings.syntax", 2),
        (b'[site]\nname = "x"\nname = "y"\n', "settings.syntax", 3),
        (b'[site]\nname = "\xe9"\n', "settings.not-utf8", 2),
    ],
)
def test_a_file_that_cannot_be_parsed_names_its_line(
    tmp_path: Path, content: bytes, message: str, line: int
) -> None:
    path = tmp_path / "backupguard.toml"
    path.write_bytes(content)

    [problem] = found(path)

    assert (problem.message.id, problem.line) == (message, line)


def test_a_missing_file_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    [problem] = found(tmp_path / "none.toml")

    assert problem.message.id == "settings.no-file"
    assert problem.remedy is not None


def test_a_directory_in_its_place_is_a_problem(tmp_path: Path) -> None:
    assert found(tmp_path)[0].message.id == "settings.unreadable"


def test_conf_d_is_merged(tmp_path: Path) -> None:
    path = write(tmp_path, CLEAN)
    more = tmp_path / "conf.d" / "10-more.toml"
    more.parent.mkdir()
    more.write_text(
        '[applications.labo]\nname = "Labo"\ncriticality = "C3"\n[site]\nlanguage = "en"\n'
    )

    loaded = settings.load(path, environ={}, today=TODAY)

    assert "labo" in loaded.applications
    assert loaded.site.language == "en"
    assert loaded.files == (path, more)


def test_a_key_set_twice_names_both_places(tmp_path: Path) -> None:
    path = write(tmp_path, CLEAN)
    more = tmp_path / "conf.d" / "more.toml"
    more.parent.mkdir()
    more.write_text('# a comment\n[applications.dpi]\nrpo = "48h"\n')

    [problem] = found(path)

    assert (problem.file, problem.line, problem.key) == (str(more), 3, "applications.dpi.rpo")
    assert problem.message.id == "settings.twice"
    line = CLEAN.splitlines().index('rpo = "24h"') + 1
    assert problem.message.values["place"] == f"{path}:{line}"


def test_a_mistake_in_conf_d_is_placed_there(tmp_path: Path) -> None:
    path = write(tmp_path, CLEAN)
    more = tmp_path / "conf.d" / "more.toml"
    more.parent.mkdir()
    more.write_text('\n[applications.dpi]\nbia-referense = "x"\n')

    [problem] = found(path)

    assert (problem.file, problem.line, problem.column) == (str(more), 3, 1)


# ---------------------------------------------------------------------------------- secrets' files


def _group_readable(secret: Path) -> None:
    secret.chmod(0o640)


def _world_readable(secret: Path) -> None:
    secret.chmod(0o604)


def _emptied(secret: Path) -> None:
    secret.write_text("")


def _directory(secret: Path) -> None:
    secret.unlink()
    secret.mkdir(0o700)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_group_readable, "settings.secret-readable"),
        (_world_readable, "settings.secret-readable"),
        (_emptied, "settings.secret-empty"),
        (_directory, "settings.secret-no-file"),
    ],
)
def test_a_secret_that_cannot_be_trusted_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = write(tmp_path, CLEAN)
    spoil(tmp_path / "secrets" / "restic")

    [problem] = found(path)

    assert problem.message.id == message
    assert (
        problem.line == CLEAN.splitlines().index('credentials.reader.file = "secrets/restic"') + 1
    )
    # Whoever reads no secret need not see them.
    settings.load(path, environ={}, today=TODAY, check_secrets=False)


def test_a_credential_is_judged_inside_its_service_only(tmp_path: Path) -> None:
    text = CLEAN.replace('reader.file = "secrets/restic"', 'reader.credential = "restic-nas"')
    path = write(tmp_path, text)
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "given")}

    settings.load(path, environ={}, today=TODAY)
    with pytest.raises(ConfigurationError) as caught:
        settings.load(path, environ=given, today=TODAY)
    assert [p.message.id for p in caught.value.problems] == ["settings.secret-missing"]

    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "restic-nas").write_text("x")
    (tmp_path / "given" / "restic-nas").chmod(0o440)  # an access control list's mask shows so
    settings.load(path, environ=given, today=TODAY)


def test_a_credential_name_is_no_path(tmp_path: Path) -> None:
    text = CLEAN.replace('reader.file = "secrets/restic"', 'reader.credential = "../x"')

    [problem] = found(write(tmp_path, text))

    assert problem.message.id == "settings.bad-credential-name"


# --------------------------------------------------------------------------------- whatever happens

ODD = (
    "true",
    "-1",
    "3.5",
    "nan",
    "1" + "0" * 30,
    '""',
    '"\\u0000"',
    '"~nosuchuser/x"',
    f'"{"9" * 5000}h"',
    "[]",
    "[[]]",
    "[{}]",
    "{}",
    "{ a = 1 }",
    "2026-01-01T00:00:00",
    "01:02:03",
)


@pytest.mark.parametrize("turn", range(len(ODD)))
def test_odd_values_are_mistakes_with_a_place_and_never_a_crash(tmp_path: Path, turn: int) -> None:
    path = write(tmp_path, CLEAN)
    lines = CLEAN.splitlines()
    # Each turn takes every fourth key: all keys and all values meet many of the others.
    for number, line in list(enumerate(lines))[turn % 4 :: 4]:
        key, equals, _ = line.partition(" = ")
        if not equals:
            continue
        path.write_text("\n".join([*lines[:number], f"{key} = {ODD[turn]}", *lines[number + 1 :]]))
        problems: tuple[ConfigurationProblem, ...] = ()
        try:
            loaded = settings.load(path, environ={}, today=TODAY)
            settings.from_file(settings.write_file(loaded, tmp_path))
        except ConfigurationError as error:
            problems = error.problems or pytest.fail("refused without a reason")
        assert all(problem.line and problem.key for problem in problems), problems
