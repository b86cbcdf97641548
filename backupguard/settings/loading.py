"""Loads the configuration: reads, merges, validates, and reports everything wrong at once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backupguard import plugins
from backupguard.contracts import EngineSettings, ProbeSettings, RepositorySettings
from backupguard.errors import ConfigurationError, ConfigurationProblem, MissingMeans
from backupguard.model import Message
from backupguard.settings import (
    anchors,
    controls,
    files,
    host,
    http,
    isolation,
    media,
    people,
    problems,
    rules,
    secrets,
)
from backupguard.settings.files import Merged, Trouble
from backupguard.settings.model import STATE_DIRECTORY, Settings, settings_type

#: Where the configuration is unless `--config` or `BACKUPGUARD_CONFIG` says otherwise.
DEFAULT_PATH = Path("/etc/backupguard/backupguard.toml")
CONFIG_VARIABLE = "BACKUPGUARD_CONFIG"

_SHARED_ENGINE_KEYS = {"engine", "schedule"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, the files they came from, and where each key stands in them."""

    settings: Settings
    merged: Merged


def config_path(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the main file: the option, else BACKUPGUARD_CONFIG, else the usual place."""
    return path or Path(environ.get(CONFIG_VARIABLE) or DEFAULT_PATH)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    check_secrets: bool = True,
    today: date | None = None,
) -> Settings:
    """Return the effective settings.

    `check_secrets` looks at the files of secrets too: the daemon and `config check` do, commands
    that read no secret need not, for whoever calls them may not be allowed to see those files.
    Raises ConfigurationError with every problem found.
    """
    return load_located(path, environ=environ, check_secrets=check_secrets, today=today).settings


def load_located(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    check_secrets: bool = True,
    today: date | None = None,
) -> Loaded:
    """As `load`, with the places of all keys, for problems that are found later (the plan)."""
    environ = os.environ if environ is None else environ
    merged = files.read(config_path(path, environ).absolute())
    if merged.broken:  # what a broken file does not say cannot be judged
        raise ConfigurationError(merged.problems)
    files.apply_environment(merged, environ)
    _absolute(merged.data, merged.files[0].parent)
    found = list(_rule_troubles(merged.data, today or datetime.now(UTC).date()))
    if check_secrets:
        found += rules.secret_files(merged.data, environ, _owners(merged.data))
        of_the_port, in_its_file = http.access(merged.data)
        found += of_the_port
        merged.problems += in_its_file
    media.expand(merged.data)
    found += controls.expand(merged.data)
    settings, by_type = _validated(merged.data)
    reported = {trouble.path for trouble in found}
    found += [trouble for trouble in by_type if trouble.path not in reported]
    if found or merged.problems or settings is None:
        raise ConfigurationError(_sorted([*merged.problems, *map(merged.located, found)]))
    return Loaded(settings=settings.with_files(tuple(merged.files)), merged=merged)


def _rule_troubles(data: Mapping[str, Any], today: date) -> Iterator[Trouble]:
    yield from rules.ids(data)
    yield from rules.references(data)
    yield from rules.selections(data)
    yield from rules.circles(data)
    yield from rules.times(data)
    yield from rules.report_mail(data)
    yield from rules.site(data, today)
    yield from rules.listen(data)
    yield from http.rules(data)
    yield from rules.plugin_names(data)
    yield from rules.instance_accounts(data)
    yield from rules.texts(data)
    yield from rules.empty_paths(data)
    yield from people.rules(data)
    yield from isolation.rules(data)
    yield from host.rules(data, today)
    yield from media.rules(data)
    yield from anchors.rules(data)


def _sorted(found: list[ConfigurationProblem]) -> list[ConfigurationProblem]:
    return sorted(found, key=lambda p: (p.file, p.line or 0, p.column or 0, p.key))


def _absolute(data: dict[str, Any], base: Path) -> None:
    """Make the paths that are ours relative to the main file's directory, wherever we run."""
    places = [
        ("store", "directory"),
        ("scratch", "directory"),
        ("daemon", "runtime-directory"),
        ("plan", "directory"),
        ("controls", "directory"),
        ("http", "web-config"),
    ]
    places.append(("reference", "file"))
    tables = [(rules.table(data, name), key) for name, key in places]
    tables += [(table, "file") for _, table in secrets.named_in(data)]
    notify = rules.table(data, "notify")
    tables += [(rules.table(notify, use), "ca") for use in ("mail", "dead-man")]
    collectors = [rules.table(data, "soc", "syslog")]
    for name in rules.table(data, "evidence", "anchors"):
        anchor = rules.table(data, "evidence", "anchors", name)
        keys = ("certificates", "chain", "ca", "ca-certificate", "directory")
        tables += [(anchor, key) for key in keys]
        collectors.append(rules.table(anchor, "collector"))
    tables += [(collector, key) for collector in collectors for key in ("ca", "certificate")]
    for table, key in tables:
        value = table.get(key)
        if isinstance(table, dict) and isinstance(value, str) and value and "\0" not in value:
            table[key] = str(base / value)


def _owners(data: Mapping[str, Any]) -> frozenset[int]:
    """Return who may own a secret's file: root, ourselves, and the service that we check for.

    Started as root, a command becomes the owner of the state directory before it works, so that
    owner is "ourselves" for a check made by root.
    """
    owners = {0, os.geteuid()}
    if os.geteuid() == 0:
        state = rules.table(data, "store").get("directory", str(STATE_DIRECTORY))
        with contextlib.suppress(OSError, ValueError):
            owners.add(Path(str(state)).stat().st_uid)
    return frozenset(owners)


# -------------------------------------------------------------------------------------- validation


def _importable(group: str, name: object) -> Any:
    """Return the plug-in of that name, or None: the rules have reported why not."""
    if not isinstance(name, str) or name not in plugins.names(group):
        return None
    try:
        return plugins.load(group, name)
    except MissingMeans:
        return None


def _without_unknown_plugins(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables without the parts whose plug-in does not exist: nobody can judge them."""
    kept = dict(data)
    for key, group, chosen_by in (
        ("repositories", plugins.REPOSITORIES, "type"),
        ("probes", plugins.PROBES, None),
    ):
        if isinstance(kept.get(key), Mapping):
            kept[key] = {
                name: value
                for name, value in kept[key].items()
                if not isinstance(value, Mapping)
                or _importable(group, value.get(chosen_by) if chosen_by else name)
            }
    if isinstance(kept.get("applications"), Mapping):
        kept["applications"] = {
            name: _without_unknown_engine(value) for name, value in kept["applications"].items()
        }
    return kept


def _without_unknown_engine(application: Any) -> Any:
    test = rules.table(application, "restore-test")
    if "engine" in test and _importable(plugins.RESTORE_TESTS, test["engine"]) is None:
        return {key: value for key, value in application.items() if key != "restore-test"}
    return application


def model_for(data: Mapping[str, Any]) -> type[Settings]:
    """Return the settings class for these tables; only the plug-ins named in them are imported.

    A `restore-test` table without `engine` that holds more than every engine knows needs the
    engines that might read it: all of them but those that say otherwise.
    """
    repositories: dict[str, type[RepositorySettings]] = {}
    engines: dict[str, type[EngineSettings]] = {}
    probes: dict[str, type[ProbeSettings]] = {}
    for name in rules.table(data, "repositories"):
        type_name = rules.table(data, "repositories", name).get("type")
        plugin = _importable(plugins.REPOSITORIES, type_name)
        if plugin is not None:
            repositories[str(type_name)] = plugin.settings
    wanted: set[str] = set()
    guessed: set[str] = set()
    for name in rules.table(data, "applications"):
        test = rules.table(data, "applications", name, "restore-test")
        if "engine" in test:
            wanted.add(str(test["engine"]))
        elif set(test) - _SHARED_ENGINE_KEYS:
            guessed.update(plugins.names(plugins.RESTORE_TESTS))
    for name in sorted(wanted | guessed):
        plugin = _importable(plugins.RESTORE_TESTS, name)
        if plugin is not None and (name in wanted or plugin.settings.read_unnamed):
            engines[name] = plugin.settings
    for name in rules.table(data, "probes"):
        plugin = _importable(plugins.PROBES, name)
        if plugin is not None:
            probes[name] = plugin.settings
    return settings_type(repositories, engines, probes)


def _validated(data: Mapping[str, Any]) -> tuple[Settings | None, list[Trouble]]:
    kept = _without_unknown_plugins(data)
    model = model_for(kept)
    try:
        return model.model_validate(kept), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, problems.troubles(found, kept, model)


# ----------------------------------------------------------------------------- what runners are given


def from_file(path: Path) -> Settings:
    """Return the settings that `Settings.dump` wrote as JSON: what a runner is started with.

    Raises ConfigurationError when the file is missing, is no dump, or was changed since.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        data = document["settings"]
        settings = model_for(data).model_validate(data)
        if settings.sha256 != document["sha256"]:
            raise ValueError("sha256")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = Message(id="settings.bad-dump")
        problem = ConfigurationProblem(
            file=str(path), line=None, column=None, key="", message=message
        )
        raise ConfigurationError([problem]) from error
    return settings.with_files(tuple(Path(file) for file in document.get("files", ())))


def write_file(settings: Settings, directory: Path) -> Path:
    """Write `settings-SHA.json` (0600, whole or not at all) for `from_file`; return its path."""
    path = directory / f"settings-{settings.sha256}.json"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(settings.dump(), file, ensure_ascii=True, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    return path


def full_model() -> type[Settings]:
    """Return the settings class with every plug-in there is: for `config schema`."""
    return settings_type(
        {
            name: plugins.repository_type(name).settings
            for name in plugins.names(plugins.REPOSITORIES)
        },
        {name: plugins.engine(name).settings for name in plugins.names(plugins.RESTORE_TESTS)},
        {name: plugins.probe(name).settings for name in plugins.names(plugins.PROBES)},
    )
