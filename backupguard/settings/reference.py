"""The reference page of all settings, made from the model: `python -m backupguard.settings.reference`.

What a table is for is its class' docstring; keys, what they take and their defaults are the JSON
Schema that `backupguard config schema` prints. script/reference writes docs/reference/settings.md.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from backupguard.contracts import format_duration
from backupguard.settings.loading import full_model

Node = Mapping[str, Any]

_HEAD = """\
# Settings

Made from the code by `script/reference`; a test fails when the two differ. `backupguard config
schema` prints the same as JSON Schema. Which keys to begin with, and why:
[configuration.md](../configuration.md); a commented example:
[`config/backupguard.toml`](../../config/backupguard.toml).

`ID` in a table's name is yours: small letters, digits and hyphens. A **duration** is `90m`,
`36h`, `31d`, `1d12h`; a **size** `500MB`, `2TB` (powers of ten); a **path** begins at the
directory of the file unless it is absolute; a **secret** is a table of `credential` (systemd's)
or `file` (0600). A key without a default that is not *needed* is off, or found out, as its table
says.
"""
_ISO = TypeAdapter(timedelta)


class _Page:
    """Walks the schema and writes a section for each table, each class once."""

    def __init__(self, schema: Node) -> None:
        self.defs: Mapping[str, Node] = schema["$defs"]
        self.schema = schema
        #: Where each class was written, and of which kind of a choice.
        self.written: dict[str, tuple[str, str]] = {}
        self.kind = ""

    def lines(self) -> Iterator[str]:
        yield _HEAD
        for key, node in sorted(self.schema["properties"].items(), key=self._order):
            yield from self._property(key, node, "", level=2)

    def _order(self, entry: tuple[str, Node]) -> tuple[int, str]:
        first = ["site", "repositories", "applications"]
        return (first.index(entry[0]) if entry[0] in first else len(first), entry[0])

    # -------------------------------------------------------------------------------- sections

    def _property(self, key: str, node: Node, below: str, *, level: int) -> Iterator[str]:
        """Yield the sections of what a key holds, where that is a table, or tables."""
        path = f"{below}.{key}" if below else key
        for inner, name, array in self._tables(node):
            where = f"{path}.{name}" if name else path
            choices = [self._name(one) for one in inner.get("oneOf", ())]
            if choices:
                yield from self._choice(where, choices, level=level)
            else:
                yield from self._table(self._name(inner), where, array=array, level=level)

    def _tables(self, node: Node) -> Iterator[tuple[Node, str, bool]]:
        """Yield each table that a property may hold: what it is, its own name, whether an array."""
        if "oneOf" in node or ("$ref" in node and self._has_keys(node)):
            yield node, "", False
        for one in node.get("anyOf", ()):
            yield from self._tables(one)
        if isinstance(node.get("additionalProperties"), Mapping):
            for inner, _, _ in self._tables(node["additionalProperties"]):
                yield inner, "ID", False
        if "items" in node:
            for inner, _, _ in self._tables(node["items"]):
                yield inner, "", True

    def _has_keys(self, node: Node) -> bool:
        name = self._name(node)
        return name != "SecretReference" and "properties" in self.defs[name]

    def _choice(self, path: str, names: list[str], *, level: int) -> Iterator[str]:
        """Yield the keys that all members of a choice share, then those of each."""
        properties = [self.defs[name].get("properties", {}) for name in names]
        shared = {
            key: node
            for key, node in properties[0].items()
            if all(each.get(key) == node for each in properties)
        }
        if shared:
            yield f"\n{'#' * level} `[{path}]`: every kind\n"
            yield from self._rows(shared, ())
        for key, node in shared.items():
            yield from self._property(key, node, path, level=level + 1)
        for name in sorted(names, key=str.lower):
            own = {
                k: v for k, v in self.defs[name].get("properties", {}).items() if k not in shared
            }
            if own:
                self.kind = str(own.get("type", {}).get("const") or _words(name))
                yield from self._table(name, path, level=level + 1, only=own)
        self.kind = ""

    def _table(
        self, name: str, path: str, *, level: int, array: bool = False, only: Node | None = None
    ) -> Iterator[str]:
        found = self.defs[name]
        properties: Node = found.get("properties", {}) if only is None else only
        head = f"`[[{path}]]`" if array else f"`[{path}]`"
        if only is not None:
            head += f": `{self.kind}`"
        yield f"\n{'#' * level} {head}\n"
        if name in self.written and only is None:
            where, kind = self.written[name]
            yield f"\nAs of `{kind}`.\n" if kind else f"\nAs `[{where}]`.\n"
            return
        self.written[name] = (path, self.kind)
        told = _told(found.get("description", ""), properties)
        if told:
            yield f"\n{told}\n"
        yield from self._rows(properties, found.get("required", ()))
        for key, node in properties.items():
            yield from self._property(key, node, path, level=min(level + 1, 5))

    # ------------------------------------------------------------------------------------ rows

    def _rows(self, properties: Node, required: Any) -> Iterator[str]:
        plain = {key: node for key, node in properties.items() if not list(self._tables(node))}
        if not plain:
            return
        yield "\n| key | takes | default |\n|---|---|---|\n"
        for key, node in plain.items():
            default = "*needed*" if key in required else self._default(node)
            yield f"| `{key}` | {self._takes(node)} | {default} |\n"

    def _takes(self, node: Node) -> str:
        if "const" in node:
            return f"`{node['const']}`"
        if "enum" in node:
            return " · ".join(f"`{one}`" for one in node["enum"])
        if "anyOf" in node:
            found = [self._takes(one) for one in node["anyOf"] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(found))
        if "$ref" in node:
            name = self._name(node)
            return "a secret" if name == "SecretReference" else self._takes(self.defs[name])
        if "items" in node:
            return f"list: {self._takes(node['items'])}"
        if isinstance(node.get("additionalProperties"), Mapping):
            return f"table: {self._takes(node['additionalProperties'])}"
        return _plain(node)

    def _default(self, node: Node) -> str:
        value = node.get("default")
        if value is None or value in ([], {}):
            return ""
        kinds = [node, *node.get("anyOf", ())]
        if any(one.get("format") == "duration" for one in kinds) and isinstance(value, str):
            value = format_duration(_ISO.validate_python(value)) if value[:1] == "P" else value
        if any(one.get("format") == "size" for one in kinds) and isinstance(value, int):
            return f"`{_size(value)}`"
        return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"

    def _name(self, node: Node) -> str:
        return str(node["$ref"]).rpartition("/")[2]


def _plain(node: Node) -> str:
    """Return the words for a single value."""
    kind = node.get("format") or node.get("type")
    word = {
        "string": "text", "boolean": "`true` · `false`", "integer": "a number", "number": "a number",
        "date": "a day", "date-time": "a time", "object": "a table",
    }.get(str(kind), f"a {kind}")  # fmt: skip
    least, most = node.get("minimum", node.get("ge")), node.get("maximum", node.get("le"))
    if kind in {"integer", "number"} and least is not None and most is not None:
        return f"{least} to {most}"
    return word


def _size(value: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


def _words(name: str) -> str:
    """Return a class' name as the kind of table that it is: `SambaAdSettings` is samba-ad."""
    short = re.sub(r"(?:Test)?Settings$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", short).lower()


def _told(text: str, properties: Node) -> str:
    """Return a docstring as Markdown: keys in it are written as the file writes them."""

    def key(found: re.Match[str]) -> str:
        kebab = found[1].replace("_", "-")
        return f"`{kebab}`" if kebab in properties else found[0]

    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(re.sub(r"`([a-z_]+)`", key, part) for part in paragraphs).strip()


def reference() -> str:
    """Return the page as Markdown."""
    return "".join(_Page(full_model().model_json_schema(by_alias=True)).lines())


if __name__ == "__main__":
    sys.stdout.write(reference())
