"""Backup jobs in borgmatic's configuration files, in the layouts before and since version 1.8.

Source: borgmatic's reference of its configuration, "config/schema.yaml", and the page "How to make
per-application backups" (where files lie, `!include`). The YAML is composed, never constructed, so
that no tag of it does anything, and every value has its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupguard.databases import DatabasePattern
from probes.discovery_files import entries, is_secret_key, read_text, without_password
from probes.discovery_found import Found, FoundJob, clean

if TYPE_CHECKING:
    import yaml

_HOOKS = {
    "postgresql_databases": ("postgresql", "postgres"),
    "mariadb_databases": ("mariadb", "mysql"),
    "mysql_databases": ("mariadb", "mysql"),
    "sqlite_databases": ("sqlite", ""),
}
_SECTIONS = ("location", "storage", "retention", "hooks")  # the tables of the old layout
_SUFFIXES = frozenset({".yaml", ".yml"})
_NODES_LIMIT = 50_000
_DEPTH_LIMIT = 40


def look(etc: Path, found: Found) -> None:
    """Add the job of each file of borgmatic's."""
    for path in files(etc, found):
        read = Read(path=path, found=found)
        flat = read.options()
        if flat is not None:
            found.jobs.append(_job(flat, read))


def files(etc: Path, found: Found) -> list[Path]:
    """Return the files in which borgmatic looks for configurations; the first need not exist."""
    below = [path for path in entries(etc / "borgmatic.d", found) if path.suffix in _SUFFIXES]
    return [etc / "borgmatic" / "config.yaml", *below]


@dataclass(slots=True, kw_only=True)
class Read:
    """One configuration being read: what it includes, and where its secrets stand."""

    path: Path
    found: Found
    secrets: list[str] = field(default_factory=list)
    nodes: int = 0

    def options(self) -> dict[str, Any] | None:
        """Return its options, of either layout, every value a text; None when it cannot be read."""
        text = read_text(self.path, self.found)
        tree = self.document(text, self.path) if text is not None else None
        if not isinstance(tree, dict):
            if tree is not None:
                self.found.lack(str(self.path), "unparsable", self.path, "jobs")
            return None
        flat = dict(tree)
        for section in _SECTIONS:
            if isinstance(tree.get(section), dict):
                flat = {**flat, **tree[section]}
        return flat

    def document(self, text: str, path: Path, depth: int = 0) -> Any:
        """Return a YAML text as plain tables, lists and texts; None when it is none.

        The parser's own error quotes the file, so it is dropped: the line is all that is told.
        """
        import yaml

        line = 0
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            return self._plain(node, path, depth) if node is not None else {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
        about = f"{path} line {line}" if line else str(path)
        self.found.lack(str(path), "unparsable", about, "jobs")
        return None

    def _plain(self, node: yaml.Node, path: Path, depth: int) -> Any:
        import yaml

        self.nodes += 1
        if self.nodes > _NODES_LIMIT or depth > _DEPTH_LIMIT:  # aliases unfold without end
            raise ValueError("too much")
        if isinstance(node, yaml.MappingNode):
            table: dict[str, Any] = {}
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
                inner = self._plain(value, path, depth + 1)
                if name == "<<" and isinstance(inner, dict):
                    table = {**inner, **table}
                    continue
                if is_secret_key(name) and isinstance(inner, str) and inner:
                    self._secret(path, value)
                table[name] = inner
            return table
        if isinstance(node, yaml.SequenceNode):
            items = [self._plain(item, path, depth + 1) for item in node.value]
            return self._included(items, path, depth) if node.tag == "!include" else items
        if node.tag == "!include":
            return self._included([str(node.value)], path, depth)
        plain, hidden = without_password(str(node.value))
        if hidden and "//" in plain:
            self._secret(path, node)
        return str(node.value)

    def _included(self, names: list[Any], path: Path, depth: int) -> Any:
        """Return what `!include` puts there: a file, or several tables merged."""
        merged: Any = None
        for name in names:
            file = path.parent / str(name)
            text = read_text(file, self.found)
            if text is None:
                self.found.lack(str(file), "not_found", file, "jobs")
                continue
            tree = self.document(text, file, depth + 5)
            both = isinstance(merged, dict) and isinstance(tree, dict)
            merged = {**tree, **merged} if both else tree
        return merged

    def _secret(self, path: Path, node: yaml.Node) -> None:
        place = f"{path} line {node.start_mark.line + 1}"
        if place not in self.secrets:
            self.secrets.append(place)


def _job(flat: dict[str, Any], read: Read) -> FoundJob:
    return FoundJob(
        tool="borgmatic",
        name=clean(read.path.stem if read.path.parent.name == "borgmatic.d" else "config"),
        source=clean(str(read.path)),
        repositories=tuple(dict.fromkeys(repositories(flat))),
        covers=tuple(dict.fromkeys(_databases(flat, read.found.host))),
        paths=tuple(clean(str(path)) for path in listed(flat, "source_directories")),
        secrets=tuple(read.secrets),
    )


def listed(flat: dict[str, Any], key: str) -> list[Any]:
    """Return the list that an option holds; nothing for any other value."""
    value = flat.get(key)
    return value if isinstance(value, list) else []


def repositories(flat: dict[str, Any]) -> Iterator[str]:
    """Yield where the copies go, without passwords."""
    for one in listed(flat, "repositories"):
        address = one.get("path") if isinstance(one, dict) else one
        if isinstance(address, str):
            yield clean(without_password(address)[0])


def _databases(flat: dict[str, Any], host: str) -> Iterator[DatabasePattern]:
    for key, (engine, _) in _HOOKS.items():
        for one in listed(flat, key):
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                continue
            name, place, port = one["name"], str(one.get("hostname") or ""), one.get("port")
            if engine == "sqlite":
                path = one.get("path")
                if isinstance(path, str):
                    yield DatabasePattern(engine=engine, host=host, port=None, name=clean(path))
                continue
            yield DatabasePattern(
                engine=engine,
                host=clean(place.lower()) or host,
                port=int(port) if isinstance(port, str) and port.isdecimal() else None,
                name="*" if name == "all" else clean(name),
            )
