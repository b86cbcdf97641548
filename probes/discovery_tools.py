"""Backup jobs in the configuration of pgBackRest, Barman, and Bareos or Bacula directors.

Sources: pgBackRest's "Configuration Reference" (stanza sections, pg-path, repo-path); barman(5)
(server sections, `conninfo`, `active`); the chapters "Director Configuration" of Bareos and Bacula.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from backupguard.databases import DatabasePattern
from probes.discovery_files import Line, entries, ini, is_secret_key, read_text, without_password
from probes.discovery_found import Catalogue, Found, FoundJob, clean

_PG_OPTION = re.compile(r"(?:pg|db)(\d*)-(path|host|port)")
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)")
_URI = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?(\[[^]]+\]|[^:/?,]*)(?::(\d+))?")


def pgbackrest_lines(etc: Path, found: Found) -> list[tuple[Path, Line]]:
    """Return what all files of pgBackRest's configuration say together."""
    files = [etc / "pgbackrest.conf", etc / "pgbackrest" / "pgbackrest.conf"]
    files += [p for p in entries(etc / "pgbackrest" / "conf.d", found) if p.suffix == ".conf"]
    return list(lines_of(files, found))


def pgbackrest(etc: Path, found: Found) -> None:
    """Add a job for each stanza."""
    lines = pgbackrest_lines(etc, found)
    shared = tuple(dict.fromkeys(_secrets(lines, {"global"})))
    repositories = tuple(
        dict.fromkeys(
            clean(line.value)
            for _, line in lines
            if line.section.startswith("global") and re.fullmatch(r"repo\d*-path", line.key)
        )
    )
    stanzas: dict[str, list[tuple[Path, Line]]] = {}
    for path, line in lines:
        name = line.section.partition(":")[0]
        if name and name != "global":
            stanzas.setdefault(name, []).append((path, line))
    for name, own in stanzas.items():
        clusters: dict[str, dict[str, str]] = {}
        for _, line in own:
            match = _PG_OPTION.fullmatch(line.key)
            if match:
                clusters.setdefault(match[1], {})[match[2]] = line.value
        found.jobs.append(
            FoundJob(
                tool="pgbackrest",
                name=clean(name),
                source=clean(f"{own[0][0]} line {own[0][1].number}"),
                repositories=repositories,
                covers=tuple(
                    DatabasePattern(
                        engine="postgresql",
                        host=clean(one["host"].lower()),
                        port=_port(one),
                        name="*",
                    )
                    for one in clusters.values()
                    if "host" in one
                ),
                clusters=tuple(
                    Catalogue(
                        engine="postgresql",
                        host=found.host,
                        port=_port(one),
                        directory=clean(one["path"].rstrip("/")),
                    )
                    for one in clusters.values()
                    if "path" in one and "host" not in one
                ),
                secrets=tuple(dict.fromkeys([*shared, *_secrets(own, {name})])),
            )
        )


def _port(options: Mapping[str, str]) -> int | None:
    port = options.get("port", "5432")
    return int(port) if port.isdigit() else None


def barman_lines(etc: Path, found: Found) -> list[tuple[Path, Line]]:
    """Return what all files of Barman's configuration say together."""
    main = etc / "barman.conf"
    lines = list(lines_of([main], found))
    if not lines:
        return []
    below = next(
        (line.value for _, line in lines if line.key == "configuration_files_directory"), ""
    )
    directory = Path(below) if below.startswith("/") and etc == Path("/etc") else etc / "barman.d"
    lines += lines_of([p for p in entries(directory, found) if p.suffix == ".conf"], found)
    return lines


def barman(etc: Path, found: Found) -> None:
    """Add a job for each server of Barman's."""
    lines = barman_lines(etc, found)
    servers: dict[str, list[tuple[Path, Line]]] = {}
    for path, line in lines:
        if line.section and line.section != "barman" and not line.section.endswith(":model"):
            servers.setdefault(line.section, []).append((path, line))
    for name, own in servers.items():
        values = {line.key: (line.value, path, line.number) for path, line in own}
        conninfo, path, number = values.get("conninfo", ("", own[0][0], own[0][1].number))
        secrets = _secrets(own, {name})
        if re.search(r"\bpassword\s*=", conninfo) or without_password(conninfo)[1]:
            secrets.append(f"{path} line {number}")
        host, port = host_of_conninfo(conninfo)
        active = values.get("active", ("true",))[0].lower()
        found.jobs.append(
            FoundJob(
                tool="barman",
                name=clean(name),
                source=clean(f"{own[0][0]} line {own[0][1].number}"),
                enabled=active not in {"false", "off", "no", "0"},
                covers=(
                    DatabasePattern(
                        engine="postgresql",
                        host=clean(host.lower()) or found.host,
                        port=port,
                        name="*",
                    ),
                )
                if conninfo
                else (),
                secrets=tuple(dict.fromkeys(map(clean, secrets))),
            )
        )


def host_of_conninfo(conninfo: str) -> tuple[str, int | None]:
    """Return host and port of a libpq connection string; "" for a Unix socket. Nothing else is kept."""
    uri = _URI.match(conninfo)
    if uri:
        return uri[1].strip("[]"), int(uri[2]) if uri[2] else 5432
    pairs = {key: value.strip("'") for key, value in _PAIR.findall(conninfo)}
    host, port = pairs.get("host", pairs.get("hostaddr", "")), pairs.get("port", "5432")
    return "" if host.startswith("/") else host, int(port) if port.isdigit() else None


def director(etc: Path, kind: str, found: Found) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the resources of a kind ("job", "pool") of Bareos or Bacula directors: place, directives.

    The names of directives are in small letters and without spaces.
    """
    for tool in ("bareos", "bacula"):
        base = etc / tool
        files = [base / f"{tool}-dir.conf"]
        files += [p for p in entries(base / f"{tool}-dir.d" / kind, found) if p.suffix == ".conf"]
        for path in files:
            text = read_text(path, found)
            for number, block in resources(text or "", kind):
                values = {key.lower().replace(" ", ""): value for key, value in block}
                if values.get("name"):
                    yield f"{path} line {number}", values


def bareos(etc: Path, found: Found) -> None:
    """Add the backup jobs of a Bareos or Bacula director's configuration."""
    for place, values in director(etc, "job", found):
        if values.get("type", "backup").lower() == "backup":
            found.jobs.append(
                FoundJob(
                    tool="bareos",
                    name=clean(values["name"]),
                    source=clean(place),
                    enabled=values.get("enabled", "yes").lower() not in {"no", "false", "0"},
                    schedule=clean(values.get("schedule", "")),
                )
            )


def resources(text: str, wanted: str) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Yield the resources of a kind: line of its beginning, and its own directives."""
    depth, start, kind, block = 0, 0, "", list[tuple[str, str]]()
    for number, raw in enumerate(text.splitlines(), 1):
        for part in re.split(r"([{};])", raw.split("#", 1)[0]):
            piece = part.strip()
            if piece == "{":
                depth += 1
            elif piece == "}":
                depth = max(0, depth - 1)
                if depth == 0 and kind == wanted:
                    yield start, block
                if depth == 0:
                    kind = ""
            elif depth == 0 and piece:
                start, kind, block = number, piece.lower(), []
            elif depth == 1 and "=" in piece:
                key, _, value = piece.partition("=")
                block.append((key.strip(), value.strip().strip('"')))


def lines_of(files: list[Path], found: Found) -> Iterator[tuple[Path, Line]]:
    """Yield the assignments of INI files that are read one after the other."""
    for path in files:
        text = read_text(path, found)
        for line in ini(text or ""):
            yield path, line


def _secrets(lines: list[tuple[Path, Line]], sections: set[str]) -> list[str]:
    return [
        clean(f"{path} line {line.number}")
        for path, line in lines
        if line.section.partition(":")[0] in sections and is_secret_key(line.key) and line.value
    ]
