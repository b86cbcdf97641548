"""Turns what pydantic found wrong into troubles: key, what was found, what was expected, remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from backupguard.model import Message
from backupguard.settings.files import Trouble
from backupguard.settings.positions import KeyPath

_SECRETIVE = re.compile(r"secret|passw|token|credential|escrow|private|api-?key", re.IGNORECASE)
_LONGEST = 60

#: What a value of a pydantic error type should have been: ids of the catalogue.
_EXPECTED = {
    "bool": "boolean",
    "date": "date",
    "dict": "table",
    "float": "number",
    "int": "integer",
    "list": "list",
    "mapping": "table",
    "model": "table",
    "path": "text",
    "string": "text",
    "time": "duration",
    "tuple": "list",
}


def shown(value: Any, path: KeyPath) -> str:
    """Return a value as the file has it, short; what might be a secret is masked."""
    if any(isinstance(part, str) and _SECRETIVE.search(part) for part in path):
        return "****"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = re.sub(r"(://[^/@\s]*:)[^/@\s]+@", r"\1****@", value)
        return f'"{text}"' if len(text) <= _LONGEST else f'"{text[:_LONGEST]}…"'
    if isinstance(value, Mapping):
        return "{…}"
    if isinstance(value, list | tuple):
        return "[…]" if value else "[]"
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)[:_LONGEST]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, or None."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def unknown(path: KeyPath, known: Iterable[str]) -> Trouble:
    """Return the trouble of a key that nothing knows."""
    choices = sorted(known)
    meant = nearest(str(path[-1]), choices)
    remedy = (
        Message(id="remedy.meant", values={"meant": meant})
        if meant
        else Message(id="remedy.known", values={"known": ", ".join(choices)})
        if choices
        else None
    )
    message = Message(id="settings.unknown-key", values={"key": str(path[-1])})
    return Trouble(path=path, message=message, remedy=remedy)


class Schema:
    """Walks the JSON Schema of a settings class, to know which keys a place could hold."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._schema = model.model_json_schema(by_alias=True)

    def keys(self, path: KeyPath) -> set[str]:
        """Return the keys that the table at `path` may hold."""
        return {key for node in self._at(path) for key in node.get("properties", {})}

    def _at(self, path: KeyPath) -> list[dict[str, Any]]:
        nodes = self._unfold(self._schema)
        for part in path:
            below: list[dict[str, Any]] = []
            for node in nodes:
                if isinstance(part, int):
                    child = node.get("items")
                else:
                    child = node.get("properties", {}).get(part, node.get("additionalProperties"))
                if isinstance(child, dict):
                    below += self._unfold(child)
            nodes = below
        return nodes

    def _unfold(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[1]
            return self._unfold(self._schema["$defs"][name])
        several = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
        return [node] if not several else [leaf for one in several for leaf in self._unfold(one)]


def troubles(
    errors: Iterable[ErrorDetails], data: Mapping[str, Any], model: type[BaseModel]
) -> list[Trouble]:
    """Given what pydantic found in `data`, return it as troubles, each key once."""
    schema = Schema(model)
    found: dict[tuple[KeyPath, str], Trouble] = {}
    for error in errors:
        path = real_path(error["loc"], data, missing=error["type"] == "missing")
        trouble = _trouble(error, path, schema)
        found.setdefault((trouble.path, trouble.message.id), trouble)
    return list(found.values())


def real_path(loc: tuple[str | int, ...], data: Any, *, missing: bool = True) -> KeyPath:
    """Return the keys of an error's location that really stand in the file.

    Pydantic names the member of a union on its way; such a name is no key, and only the last part
    may be missing from the data, where it is said that a key is `missing`.
    """
    path: list[str | int] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(data, Mapping) and isinstance(part, str):
            if part in data:
                data = data[part]
            elif not (last and missing):
                continue
            path.append(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
            path.append(part)
    return tuple(path)


def _trouble(error: ErrorDetails, path: KeyPath, schema: Schema) -> Trouble:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(path, schema.keys(path[:-1]))
    if kind == "missing":
        message = Message(id="settings.missing", values={"key": str(path[-1])})
        return Trouble(path=path, message=message, remedy=Message(id="remedy.add-key"))
    if kind == "refused_setting":
        key = tuple(part for part in context["key"].split(".") if part)
        sentence = f"settings.refuses.{context['sentence']}"
        return Trouble(path=path + key, message=Message(id=sentence, values=context["values"]))
    found = shown(error["input"], path)
    build = _BY_TYPE.get(kind)
    if build is not None:
        message, remedy = build(found, context)
        return Trouble(path=path, message=message, remedy=remedy)
    stem = kind.split("_")[0]
    if stem in _EXPECTED and (kind.endswith(("_type", "_parsing")) or "from" in kind):
        values = {"found": found, "expected": f"@settings.expected.{_EXPECTED[stem]}"}
        return Trouble(path=path, message=Message(id="settings.wrong-type", values=values))
    why = _explained(error, path)
    if isinstance(error["input"], Mapping):  # a table as a whole: there is nothing to quote
        message = Message(id="settings.refused", values={"why": why})
    else:
        message = Message(id="settings.invalid", values={"found": found, "why": why})
    return Trouble(path=path, message=message)


def _explained(error: ErrorDetails, path: KeyPath) -> str:
    """Return pydantic's own words; they may quote the value, so not where that is secret."""
    if shown("", path) == "****":
        return error["type"]
    return error["msg"].removeprefix("Value error, ")


_Built = tuple[Message, Message | None]


def _duration(found: str, _: Mapping[str, Any]) -> _Built:
    message = Message(id="settings.duration", values={"found": found})
    return message, Message(id="remedy.duration")


def _size(found: str, _: Mapping[str, Any]) -> _Built:
    return Message(id="settings.size", values={"found": found}), Message(id="remedy.size")


def _reference(_found: str, _: Mapping[str, Any]) -> _Built:
    return Message(id="settings.secret-reference"), Message(id="remedy.secret_reference")


def _choice(found: str, context: Mapping[str, Any]) -> _Built:
    expected = str(context.get("expected", "")).replace(" or ", ", ").replace("'", '"')
    values = {"found": found, "expected": expected}
    return Message(id="settings.not-one-of", values=values), None


def _pattern(found: str, context: Mapping[str, Any]) -> _Built:
    options = re.fullmatch(r"\^?\(([a-z0-9|_-]+)\)\$?", str(context.get("pattern", "")))
    if options:
        return _choice(found, {"expected": options[1].replace("|", ", ")})
    values = {"found": found, "expected": str(context.get("pattern", ""))}
    return Message(id="settings.not-one-of", values=values), None


def _bound(word: str) -> Callable[[str, Mapping[str, Any]], _Built]:
    def build(found: str, context: Mapping[str, Any]) -> _Built:
        limit = str(next(iter(context.values()), ""))
        duration = re.search(r"timedelta\((?:seconds=)?(\d+)\)", limit)
        if duration:
            limit = f"{duration[1]}s"
        values = {"found": found, "limit": limit}
        return Message(id=f"settings.{word}", values=values), None

    return build


def _empty(_found: str, _: Mapping[str, Any]) -> _Built:
    return Message(id="settings.empty"), None


def _table(found: str, _: Mapping[str, Any]) -> _Built:
    """A union whose member nobody could tell was handed something that is no table."""
    values = {"found": found, "expected": "@settings.expected.table"}
    return Message(id="settings.wrong-type", values=values), None


_BY_TYPE: Mapping[str, Callable[[str, Mapping[str, Any]], _Built]] = {
    "duration": _duration,
    "time_delta_type": _duration,
    "time_delta_parsing": _duration,
    "size": _size,
    "secret_reference": _reference,
    "literal_error": _choice,
    "enum": _choice,
    "string_pattern_mismatch": _pattern,
    "greater_than": _bound("not-above"),
    "greater_than_equal": _bound("below"),
    "less_than": _bound("not-under"),
    "less_than_equal": _bound("above"),
    "string_too_short": _empty,
    "union_tag_not_found": _table,
    "union_tag_invalid": _table,
}
