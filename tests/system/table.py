"""Prints what the cases of each release took and measured; usage: table.py RELEASE=RESULTS.json ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def lines(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the table of cases by release, seconds each, and the table of figures."""
    releases = list(results)
    cases: dict[str, dict[str, str]] = {}
    figures: dict[str, dict[str, str]] = {}
    for release, found in results.items():
        for one in found:
            passed = one["outcome"] == "passed"
            told = f"{one['seconds']:.1f}" if passed else one["outcome"].upper()
            cases.setdefault(one["case"], {})[release] = told
            for name, value in one["figures"].items():
                figures.setdefault(name, {})[release] = value
    made = [_row("case, seconds", releases)]
    made += [_row(name, [of.get(one, "-") for one in releases]) for name, of in cases.items()]
    made += ["", _row("figure", releases)]
    made += [_row(name, [of.get(one, "-") for one in releases]) for name, of in figures.items()]
    return made


def _row(name: str, cells: list[str]) -> str:
    return "  ".join([f"{name:<66}", *(f"{cell:>14}" for cell in cells)])


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    print("\n".join(lines({name: json.loads(Path(at).read_text()) for name, at in given.items()})))
