"""Writes the dashboards: `python -m dashboards DIRECTORY`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dashboards import application, estate, ght, protection, restore_tests
from dashboards.showing import Json, Say

#: By the name of their file.
DASHBOARDS = {
    "estate": estate.build,
    "restore-tests": restore_tests.build,
    "protection": protection.build,
    "application": application.build,
    "ght": ght.build,
}
LANGUAGES = ("en", "fr")


def built() -> dict[str, Json]:
    """Return every dashboard by its path: "en/estate.json"."""
    return {
        f"{language}/{name}.json": build(Say(language))
        for language in LANGUAGES
        for name, build in DASHBOARDS.items()
    }


def text(dashboard: Json) -> str:
    """Return a dashboard as its file holds it."""
    return json.dumps(dashboard, ensure_ascii=False, indent=1) + "\n"


def main(directory: Path) -> None:
    """Write every dashboard below a directory."""
    for name, dashboard in built().items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text(dashboard), encoding="utf-8")
        print(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
