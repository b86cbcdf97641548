"""Puts panels into a dashboard: places, variables, links.

The JSON is Grafana's classic dashboard model, schema version 41 (Grafana 11.6; newer ones migrate it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.panels import SOURCE
from dashboards.showing import DAEMON, Json, Say

SCHEMA_VERSION = 41
WIDTH = 24


def variable(name: str, label: str, query: str, **changed: Any) -> Json:
    """Return a variable whose values Prometheus knows."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": dict(SOURCE),
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    } | changed  # fmt: skip


def _variables(say: Say, more: Sequence[Json]) -> list[Json]:
    daemon = "http://127.0.0.1:9789"
    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Prometheus",
            "query": "prometheus",
            "refresh": 1,
            "multi": False,
            "includeAll": False,
            "current": {},
        },
        # Several values may be chosen, if only because Grafana then escapes them for `=~`: a name
        # with an apostrophe or brackets is matched by no other kind of variable.
        variable("site", say("Site", "Site"), "label_values(backupguard_build_info, site)"),
        *more,
        {
            "type": "textbox",
            "name": "daemon",
            "label": say("Address of BackupGuard", "Adresse de BackupGuard"),
            "query": daemon,
            "current": {"text": daemon, "value": daemon},
            "options": [{"text": daemon, "value": daemon, "selected": True}],
        },
    ]


def _placed(panels: Sequence[Json]) -> list[Json]:
    """Give each panel its number and its place: from left to right, then the next line."""
    x = y = height = 0
    placed = []
    for number, one in enumerate(panels, start=1):
        grid = one["gridPos"]
        if x + grid["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        placed.append({"id": number} | one | {"gridPos": grid | {"x": x, "y": y}})
        x, height = x + grid["w"], max(height, grid["h"])
    return placed


def dashboard(
    say: Say,
    name: str,
    title: str,
    description: str,
    panels: Sequence[Json],
    *,
    variables: Sequence[Json] = (),
    period: str = "now-7d",
) -> Json:
    """Return a whole dashboard."""
    return {
        "uid": say.uid(name),
        "title": title,
        "description": description,
        "tags": ["backupguard", say.language],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": period, "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": _variables(say, variables)},
        "links": [
            {
                "type": "dashboards",
                "title": "BackupGuard",
                "tags": ["backupguard", say.language],
                "icon": "external link",
                "tooltip": "",
                "asDropdown": True,
                "targetBlank": False,
                "includeVars": True,
                "keepTime": True,
            },
            {
                "type": "link",
                "title": say("Status page", "Page d’état"),
                "url": f"{DAEMON}/",
                "tags": [],
                "icon": "info",
                "tooltip": say("What BackupGuard itself says", "Ce que BackupGuard dit lui-même"),
                "asDropdown": False,
                "targetBlank": True,
                "includeVars": False,
                "keepTime": False,
            },
        ],
        "panels": _placed(panels),
    }
