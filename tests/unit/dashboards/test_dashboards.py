"""Dashboards: as the generator writes them, as Grafana reads them, and right in what they name."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from backupguard.metrics import STATUS_VALUES
from backupguard.resources import shipped
from dashboards.__main__ import built, text
from dashboards.showing import Say, controls, statuses

from .grafana_model import problems

BUILT = built()
each = pytest.mark.parametrize("name", sorted(BUILT))


def panels(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = BUILT[name]["panels"]
    return found


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


@each
def test_the_file_is_what_the_generator_writes(name: str) -> None:
    file = shipped("grafana") / name
    assert file.read_text(encoding="utf-8") == text(BUILT[name]), "run script/dashboards"


def test_no_other_file_lies_beside_them() -> None:
    kept = {
        f.relative_to(shipped("grafana")).as_posix() for f in shipped("grafana").rglob("*.json")
    }
    assert kept == set(BUILT)


@each
def test_grafana_knows_all_of_it(name: str) -> None:
    assert problems(BUILT[name]) == []


@each
def test_grafana_knows_what_single_columns_override(name: str) -> None:
    """Overrides have no model of their own: each is tried as if it held for the whole panel."""
    whole = copy.deepcopy(BUILT[name])
    for panel in whole["panels"]:
        for override in panel["fieldConfig"]["overrides"]:
            for given in override["properties"]:
                *outer, last = given["id"].split(".")
                place = panel["fieldConfig"]["defaults"]
                for part in outer:
                    place = place.setdefault(part, {})
                place[last] = given["value"]
    assert problems(whole) == []


def _broken(change: str) -> dict[str, Any]:
    made = copy.deepcopy(BUILT["en/estate.json"])
    panel = made["panels"][0]
    match change:
        case "an unknown option":
            panel["options"]["colourMode"] = "background"
        case "a word for a number":
            panel["gridPos"]["w"] = "wide"
        case "an unknown kind of variable":
            made["templating"]["list"][0]["type"] = "source"
        case "a colour mode that is none":
            panel["options"]["colorMode"] = "loud"
        case "an unknown name":
            made["colour"] = "red"
        case "a query of another tool":
            panel["targets"][0]["expression"] = "x"
    return made


@pytest.mark.parametrize(
    "change",
    [
        "an unknown option",
        "a word for a number",
        "an unknown kind of variable",
        "a colour mode that is none",
        "an unknown name",
        "a query of another tool",
    ],
)
def test_what_grafana_would_not_know_is_found(change: str) -> None:
    assert len(problems(_broken(change))) == 1


@each
def test_panels_have_their_places(name: str) -> None:
    places = [panel["gridPos"] for panel in panels(name)]
    for place in places:
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    numbers = [panel["id"] for panel in panels(name)]
    assert len(set(numbers)) == len(numbers)


def test_identifiers_and_titles_are_unique() -> None:
    for key in ("uid", "title"):
        values = [dashboard[key] for dashboard in BUILT.values()]
        assert len(set(values)) == len(values), key
    assert all(len(dashboard["uid"]) <= 40 for dashboard in BUILT.values())
    for name in BUILT:
        titles = [panel["title"] for panel in panels(name)]
        assert len(set(titles)) == len(titles), name


@each
def test_every_panel_says_what_it_shows(name: str) -> None:
    for panel in panels(name):
        assert len(panel["description"]) >= 15, panel["title"]


@pytest.mark.parametrize("name", sorted(n for n in BUILT if n.startswith("en/")))
def test_both_languages_show_the_same(name: str) -> None:
    french = BUILT[name.replace("en/", "fr/")]
    for one, other in zip(BUILT[name]["panels"], french["panels"], strict=True):
        assert [t["expr"] for t in one["targets"]] == [t["expr"] for t in other["targets"]]
        assert one["description"] != other["description"]
        assert (one["type"], one["gridPos"]) == (other["type"], other["gridPos"])


@pytest.mark.parametrize("name", sorted(n for n in BUILT if n.startswith("fr/")))
def test_french_signs_have_their_spaces(name: str) -> None:
    for panel in panels(name):
        for words in (panel["title"], panel["description"]):
            assert not re.search(r"\w [:;!?%»]|« |'", words), words


@each
def test_queries_are_of_the_chosen_source_and_sites(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            # `=~` and double quotes: the only form in which Grafana escapes names rightly
            assert re.search(r'site=~"\$site\|?"', target["expr"]), target["expr"]


@each
def test_every_variable_exists(name: str) -> None:
    known = {variable["name"] for variable in BUILT[name]["templating"]["list"]}
    known |= {"__range", "__value", "__all"}
    for one in strings(BUILT[name]):
        for used in re.findall(r"\$\{?([A-Za-z_]+)", one):
            assert used in known, (used, one)


def recorded() -> set[str]:
    rules = (shipped("prometheus") / f"{n}.rules.yml" for n in ("backupguard", "backupguard-ght"))
    return {
        name
        for file in rules
        for name in re.findall(r"record: (\S+)", file.read_text(encoding="utf-8"))
    }


def test_only_the_dashboard_of_several_sites_needs_their_rules() -> None:
    for name in BUILT:
        used = {
            metric
            for panel in panels(name)
            for target in panel["targets"]
            for metric in re.findall(r"\bbackupguard:[a-z_:]+", target["expr"])
        }
        assert used <= recorded()
        assert bool(used) == name.endswith("ght.json")


@each
def test_links_lead_somewhere(name: str) -> None:
    uids = {dashboard["uid"] for dashboard in BUILT.values()}
    language = name.split("/")[0]
    for one in strings(BUILT[name]):
        for uid in re.findall(r"^/d/([a-z-]+)\?", one):
            assert uid in uids
            assert uid.endswith("-fr") == (language == "fr")
        for alert in re.findall(r"/runbooks/(BackupGuard\w+)$", one):
            assert (shipped("runbooks") / f"{alert}.{language}.md").is_file()


@each
def test_transformations_are_grafanas(name: str) -> None:
    for panel in panels(name):
        for one in panel.get("transformations", ()):
            assert one["id"] in {"merge", "organize", "sortBy", "groupingToMatrix"}


@pytest.mark.parametrize("language", ["en", "fr"])
def test_states_are_told_apart_without_colour(language: str) -> None:
    shown = statuses(Say(language))
    assert {value for value, _, _ in shown} == set(STATUS_VALUES.values())
    assert len({words[0] for _, words, _ in shown}) == 6  # the sign alone
    assert len({colour for _, _, colour in shown}) == 6


def test_every_control_has_its_title_and_its_runbook_in_the_heat_map() -> None:
    heat_map = next(p for p in panels("en/estate.json") if p["title"].startswith("Applications"))
    columns = {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in heat_map["fieldConfig"]["overrides"]
    }
    for control, titles in controls().items():
        assert columns[control]["description"] == titles["en"]
        assert "/runbooks/BackupGuard" in columns[control]["links"][0]["url"]
