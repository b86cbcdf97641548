"""Every query of every panel, asked of a real Prometheus that scrapes sites which are well and broken.

Each broken site first serves what a site that is well serves, under its own name; then it is broken.
A panel is proved when it shows the same as for the site that is well, and something else afterwards.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

import backupguard
from backupguard.evidence.records import parse_body
from backupguard.model import Observation
from backupguard.resources import shipped
from backupguard.store import open_store
from dashboards.__main__ import built
from dashboards.showing import controls
from tests.integration.soc.asking import PANELS, RULES, Sites, interpolated, serving
from tests.integration.soc.estates import BREAKS, broken, now, well
from tests.prometheus import Prometheus, prometheus

#: Names that French hospitals have: apostrophes and brackets are where dashboards break.
SITES = {name: f"CH de l'Estuaire ({number})" for number, name in enumerate(BREAKS)}
WELL = "CH de Belle-Rive"

Shown = dict[frozenset[tuple[str, str]], float]


@dataclass
class Seen:
    """A Prometheus that has seen all sites well (at `before`) and broken (at `after`)."""

    asked: Prometheus
    sites: Sites
    before: float
    after: float

    def shown(self, expression: str, site: str, at: float) -> Shown:
        """Return what a query shows for a site, without the site's own labels."""
        found = self.asked.query(interpolated(expression, site), at)
        shown = {
            frozenset(item for item in labels.items() if item[0] not in ("site", "instance")): value
            for labels, value in found
        }
        assert len(shown) == len(found), expression
        # Alerts of several sites begin a second apart.
        return dict.fromkeys(shown, 0) if "ALERTS" in expression else shown


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    place = tmp_path_factory.mktemp("sites")
    at = now()
    well(place / "base", at)
    count = len(BREAKS) + 1
    try:
        with (
            serving() as sites,
            prometheus(place / "prometheus", sites.scrapes(count), rules=RULES) as asked,
        ):
            yield _watch(asked, sites, place, at)
    finally:
        structlog.reset_defaults()


def _watch(asked: Prometheus, sites: Sites, place: Path, at: Any) -> Seen:
    names = [WELL, *SITES.values()]
    estate = broken(place / "base", place / "well", "nothing", at)
    for number, name in enumerate(names):
        sites.served[number] = estate.rendered(name)
    before = _settled(asked, len(names), int(at.timestamp()))
    later = at + timedelta(seconds=30)
    estate.pass_time(seconds=30)
    texts = {0: estate.rendered(WELL)}
    estate.store.close()
    for number, (name, site) in enumerate(SITES.items(), start=1):
        harmed = broken(place / "base", place / str(number), name, later)
        texts[number] = harmed.rendered(site)
        harmed.store.close()
    sites.served.update(texts)
    after = _settled(asked, len(names), int(later.timestamp()))
    return Seen(asked, sites, before, after)


def _settled(asked: Prometheus, sites: int, judged: int) -> float:
    """Wait until all sites show this judgement and every rule has been judged since; return when."""
    metric = "backupguard_findings_evaluated_timestamp_seconds"
    asked.until(f"count({metric} >= {judged})", lambda found: found == [({}, sites)])
    return asked.judged()


FAILS, SLOW, OLD, PART = (
    "a restore test fails",
    "a restore takes ten times as long",
    "restored data are old",
    "a tenth is restored",
)
GONE, SHRUNK, JOBS, AWAY = (
    "points vanish",
    "the newest point shrinks",
    "backups fail",
    "a repository is out of reach",
)
CANARIES, LOCKS, PLUGGED, ENDED = (
    "canaries are deleted",
    "locks are gone",
    "the disk stays plugged in",
    "the disk has locks that end",
)
STOPS, WAIVED, PROMISES = "judging stops", "an exception is accepted", "promises change"
MISSED, BROKEN, PAUSED = "the self-test is missed", "evidence is broken", "it is paused"

#: What breaks the subject of each panel: by dashboard and title. Each query must show one of them at
#: least, and each of them must be shown.
PROVED_BY: dict[tuple[str, str], tuple[str, ...]] = {
    ("estate", "Controls by state"): (FAILS, GONE, WAIVED, ENDED),
    ("estate", "What is wrong now"): (FAILS, CANARIES, BROKEN),
    ("estate", "Applications × controls: $site"): (FAILS, JOBS, WAIVED),
    ("estate", "Everything else × controls: $site"): (CANARIES, MISSED, BROKEN),
    ("estate", "Exceptions"): (WAIVED,),
    ("estate", "Last judged"): (STOPS,),
    ("estate", "Evidence"): (BROKEN,),
    ("estate", "Last anchor"): ("an anchor is set",),
    ("estate", "Self-test"): (MISSED,),
    ("estate", "Pause"): (PAUSED,),
    ("estate", "Version"): ("another version",),
    ("estate", "Controls by state over time"): (FAILS, GONE, WAIVED, ENDED),
    ("estate", "What was looked at"): (AWAY, PROMISES),
    ("restore-tests", "Tests in this period"): (FAILS, SLOW),
    ("restore-tests", "What was proved"): (FAILS, SLOW, SHRUNK, PROMISES),
    ("restore-tests", "Back to which point"): (SLOW, "restored data are encrypted"),
    ("restore-tests", "Forecast of a whole recovery against the RTO"): (SLOW, PROMISES),
    ("restore-tests", "Forecast as a share of the RTO"): (SLOW, PROMISES),
    ("restore-tests", "Duration of restore tests"): (SLOW,),
    ("restore-tests", "Worst loss of the last month against the RPO"): (SHRUNK, PROMISES),
    ("restore-tests", "Loss measured in restored data against the RPO"): (OLD, PROMISES),
    ("protection", "What an attacker can destroy: $site"): (CANARIES,),
    ("protection", "Controls of protection: $site"): (CANARIES, LOCKS),
    ("protection", "What production can reach: $site"): ("production reaches it",),
    ("protection", "Locks of the newest points"): (LOCKS,),
    ("protection", "Lock that is left"): (LOCKS,),
    ("protection", "Newest copy proved offline: $site"): (PLUGGED,),
    ("protection", "Age of the newest offline copy"): (PLUGGED,),
    ("protection", "Media attached to this host"): (PLUGGED,),
    ("application", "What is wrong now"): (FAILS, JOBS),
    ("application", "RTO"): (PROMISES,),
    ("application", "Forecast"): (SLOW,),
    ("application", "Forecast / RTO"): (SLOW, PROMISES),
    ("application", "RPO"): (PROMISES,),
    ("application", "Worst loss"): (SHRUNK,),
    ("application", "Worst loss / RPO"): (SHRUNK,),
    ("application", "Controls"): (FAILS, JOBS),
    ("application", "Backups"): (GONE, SHRUNK, JOBS, PROMISES),
    ("application", "Age of the newest point against the RPO"): (GONE, PROMISES),
    ("application", "Size of the newest point"): (SHRUNK,),
    ("application", "Restore tests"): (FAILS, SLOW, OLD, PART, PROMISES),
    ("application", "Tests in this period"): (FAILS,),
    ("application", "Where the time of a test goes"): (SLOW,),
    ("application", "Its repositories against attackers"): (CANARIES,),
    ("application", "Its offline copies"): (PLUGGED,),
    ("ght", "Sites that report"): (STOPS,),
    ("ght", "Silent sites"): (STOPS,),
    ("ght", "To do now, everywhere"): (FAILS, CANARIES),
    ("ght", "Sites"): (STOPS, FAILS, SLOW, PROMISES),
    ("ght", "What is wrong now"): (FAILS,),
    ("ght", "Sites × controls"): (FAILS, CANARIES),
    ("ght", "Time since a site last judged"): (STOPS,),
    ("ght", "Compliant, by site"): (FAILS,),
    ("ght", "Restores proved in time, by site"): (PROMISES,),
}


#: Nothing stands here while all is well.
EMPTY_WHEN_WELL = {("application", "What is wrong now")}
#: What is broken here is seen by a line that ends; the table beside it says "none".
VANISHES = {("protection", "Age of the newest offline copy")}


def test_every_panel_is_here_once() -> None:
    assert set(PROVED_BY) == set(PANELS)
    assert {way for ways in PROVED_BY.values() for way in ways} <= set(BREAKS)


@pytest.mark.parametrize("where", sorted(PROVED_BY), ids=": ".join)
def test_a_panel_shows_data_and_changes_when_its_subject_is_broken(
    seen: Seen, where: tuple[str, str]
) -> None:
    queries = [target["expr"] for target in PANELS[where]["targets"]]
    changing: dict[str, set[str]] = {query: set() for query in queries}
    for query in queries:
        well_before, well_after = (seen.shown(query, WELL, at) for at in (seen.before, seen.after))
        if where not in EMPTY_WHEN_WELL:
            assert well_before, query
            assert well_after, query
        for way in PROVED_BY[where]:
            assert seen.shown(query, SITES[way], seen.before) == well_before, (query, way)
            shown = seen.shown(query, SITES[way], seen.after)
            if shown != well_after and (shown or where in VANISHES):
                changing[query].add(way)
    for query, ways in changing.items():
        assert ways, query
    assert set().union(*changing.values()) == set(PROVED_BY[where])


@pytest.mark.parametrize("where", sorted(PROVED_BY), ids=": ".join)
def test_a_panel_stays_as_it_is_while_nothing_is_broken(seen: Seen, where: tuple[str, str]) -> None:
    for target in PANELS[where]["targets"]:
        shown = seen.shown(target["expr"], SITES["nothing"], seen.after)
        assert shown == seen.shown(target["expr"], WELL, seen.after), target["expr"]


@pytest.mark.parametrize(
    ("label", "dashboard", "expected"),
    [
        ("site", "estate", {WELL, *SITES.values()}),
        ("site", "ght", {WELL, *SITES.values()}),
        ("application", "application", {"dpi", "labo"}),
        ("control", "estate", set(controls())),
    ],
)
def test_the_values_to_choose_from(
    seen: Seen, label: str, dashboard: str, expected: set[str]
) -> None:
    (variable,) = [
        one for one in built()[f"en/{dashboard}.json"]["templating"]["list"] if one["name"] == label
    ]
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert asked is not None
    assert asked[2] == label
    found = seen.asked.query(f"group by ({label}) ({interpolated(asked[1], WELL)})", seen.after)
    assert {labels[label] for labels, _ in found} == expected


def test_every_series_carries_its_site(seen: Seen) -> None:
    """What is scraped and what rules make of it, alerts included."""
    made = '{__name__=~"backupguard.+|ALERTS|ALERTS_FOR_STATE"}'
    assert seen.asked.query(f"count({made})", seen.after)[0][1] > 1000
    assert seen.asked.query('count by (__name__) ({site="", __name__=~"backupguard.+"})') == []
    without = {labels["alertname"] for labels, _ in seen.asked.query('ALERTS{site=""}')}
    assert without == set()


def test_the_same_is_seen_by_federation(seen: Seen, tmp_path: Path) -> None:
    """As the shipped example federates: sites keep their labels, and their alerts are shown."""
    example = yaml.safe_load(shipped("prometheus/ght.example.yml").read_text(encoding="utf-8"))
    (job,) = [one for one in example["scrape_configs"] if one["job_name"] == "backupguard-sites"]
    job["static_configs"] = [{"targets": [seen.asked.url.removeprefix("http://")]}]
    site = SITES["a restore test fails"]
    chosen = interpolated('{site=~"$site"}', site)
    with prometheus(tmp_path / "group", [job], rules=example["rule_files"]) as group:
        metric = "backupguard:site_control:status"
        group.until(f'count({metric}{{control="RST-01"}})', bool)
        group.judged()
        for query in (
            f"backupguard_control_status{chosen}",
            f"{metric}{chosen}",
            f"backupguard:site:compliant:ratio{chosen}",
            f"backupguard:site:seen_timestamp_seconds{chosen}",
        ):
            here, there = group.query(query), seen.asked.query(query, seen.after)
            assert here, query
            assert sorted(map(str, here)) == sorted(map(str, there)), query
        assert group.query('ALERTS{alertname=~"BackupGuardRestoreTest.+"}')


def test_a_site_that_is_silent_is_remembered(seen: Seen) -> None:
    number = 1 + list(SITES).index("nothing")
    here = f'{{instance="site-{number}:9789"}}'
    del seen.sites.served[number]
    seen.asked.until(f"backupguard_last_cycle_timestamp_seconds{here}", lambda found: not found)
    seen.asked.judged()
    chosen = interpolated('{site=~"$site"}', SITES["nothing"])
    assert seen.asked.query(f"backupguard:site_control:status{chosen}") == []
    remembered = seen.asked.query(f"backupguard:site:seen_timestamp_seconds{chosen}")
    assert [labels["site"] for labels, _ in remembered] == [SITES["nothing"]]


def test_every_record_carries_its_site(tmp_path: Path) -> None:
    store = open_store(tmp_path, site="CH de l'Estuaire")
    said = Observation(
        kind="pause.started",
        subject="site",
        observed_at=now(),
        data={"until_at": None, "reason": "travaux"},
        key="pause",
    )
    store.append([said])
    bodies = [record.body for record in store.records()]
    store.close()
    assert len(bodies) >= 2  # what the store says of itself, too
    assert {parse_body(body)["site"] for body in bodies if body} == {"CH de l'Estuaire"}


def test_whoever_opens_a_store_names_its_site() -> None:
    place = Path(backupguard.__file__).parent
    opened = [
        (file.relative_to(place).as_posix(), {keyword.arg for keyword in node.keywords})
        for file in place.rglob("*.py")
        if "open_store(" in (text := file.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open_store"
    ]
    assert len(opened) >= 4
    assert [file for file, keywords in opened if "site" not in keywords] == []
