"""Where each key stands in a TOML file: tree-sitter, imported only once something is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

#: A place in the settings: keys, and indices into arrays.
KeyPath = tuple[str | int, ...]
#: Line and column, both from 1, the column in characters.
Position = tuple[int, int]

_KEYS = {"bare_key", "quoted_key", "dotted_key"}


def positions(source: bytes) -> Mapping[KeyPath, Position]:
    """Given the bytes of a TOML file, return where each key and each array element first stands."""
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_toml.language())).parse(source)
    index = _Index(source)
    index.document(tree.root_node)
    return index.found


class _Index:
    def __init__(self, source: bytes) -> None:
        self.found: dict[KeyPath, Position] = {}
        self._lines = source.split(b"\n")
        self._lengths: dict[KeyPath, int] = {}  # of arrays of tables, so far

    def document(self, root: Node) -> None:
        for node in root.children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in {"table", "table_array_element"}:
                self._table(node)

    def _table(self, node: Node) -> None:
        key = next((child for child in node.children if child.type in _KEYS), None)
        if key is None:
            return
        parts = _parts(key)
        prefix = self._enter(parts, key, array=node.type == "table_array_element")
        for child in node.children:
            if child.type == "pair":
                self._pair(child, prefix)

    def _enter(self, parts: list[tuple[str, Node]], key: Node, *, array: bool) -> KeyPath:
        """Return the path a header opens: arrays of tables on its way mean their last element."""
        path: KeyPath = ()
        for depth, (name, node) in enumerate(parts):
            path = (*path, name)
            self._note(path, node)
            if array and depth == len(parts) - 1:
                index = self._lengths.get(path, 0)
                self._lengths[path] = index + 1
                path = (*path, index)
                self._note(path, key)
            elif path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _pair(self, node: Node, prefix: KeyPath) -> None:
        key = next((child for child in node.children if child.type in _KEYS), None)
        if key is None:
            return
        path = prefix
        for name, part in _parts(key):
            path = (*path, name)
            self._note(path, part)
        self._value([child for child in node.children if child.type != "comment"][-1], path)

    def _value(self, node: Node, path: KeyPath) -> None:
        if node.type == "inline_table":
            for child in node.children:
                if child.type == "pair":
                    self._pair(child, path)
        elif node.type == "array":
            values = [
                child for child in node.children if child.is_named and child.type != "comment"
            ]
            for number, child in enumerate(values):
                self._note((*path, number), child)
                self._value(child, (*path, number))

    def _note(self, path: KeyPath, node: Node) -> None:
        row, column = node.start_point
        before = self._lines[row][:column].decode("utf-8", "replace")
        self.found.setdefault(path, (row + 1, len(before) + 1))


def _parts(key: Node) -> list[tuple[str, Node]]:
    """Return the parts of a key, unquoted, each with its node."""
    if key.type == "dotted_key":
        return [part for child in key.children for part in _parts(child) if child.type in _KEYS]
    text = (key.text or b"").decode("utf-8", "replace")
    if key.type == "quoted_key":
        text = _unquoted(text)
    return [(text, key)] if key.type in _KEYS else []


def _unquoted(text: str) -> str:
    if text[:1] == "'":
        return text[1:-1]
    import tomllib

    return str(next(iter(tomllib.loads(f"{text} = 0"))))
