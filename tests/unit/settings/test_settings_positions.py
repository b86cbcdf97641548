from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from backupguard.settings.positions import KeyPath, positions

SOURCE = """\
a = 1
"quoted key".'x.y' = 2
[t.u]
d.e = { f = [1, { g = 2 }] }   # a comment
"é" = 3
[[t.l]]
n = 1
[[t.l]]
n = [ # comment
  1,
  2,
]
m = \"\"\"
n = 5
\"\"\"
[t.l.sub]
k = true
[[t.l.deep]]
z = 2026-03-02
"""


def paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*path, number))


def test_every_key_and_element_has_a_position() -> None:
    assert set(positions(SOURCE.encode())) == set(paths(tomllib.loads(SOURCE)))


@pytest.mark.parametrize(
    ("path", "position"),
    [
        (("a",), (1, 1)),
        (("quoted key", "x.y"), (2, 14)),
        (("t", "u", "d", "e", "f", 1, "g"), (4, 19)),
        (("t", "u", "é"), (5, 1)),
        (("t", "l", 0, "n"), (7, 1)),
        (("t", "l", 1, "n", 1), (11, 3)),
        (("t", "l", 1, "m"), (13, 1)),
        (("t", "l", 1, "sub", "k"), (17, 1)),
        (("t", "l", 1, "deep", 0, "z"), (19, 1)),
    ],
)
def test_positions(path: KeyPath, position: tuple[int, int]) -> None:
    assert positions(SOURCE.encode())[path] == position


def test_columns_count_characters() -> None:
    assert positions("x = { é1 = 1 }\n".encode()).get(("x",)) == (1, 1)
    found = positions('x = { "éé" = 1, b = 2 }\n'.encode())
    assert found[("x", "b")] == (1, 17)
