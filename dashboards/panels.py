"""The kinds of panels: numbers, lines, tables, heat maps of words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.showing import COLOURED_CELL, Json, links_of, override, plain

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One PromQL expression. `name` is its legend, or the name of its column in a table."""

    expr: str
    name: str = ""
    table: bool = False
    instant: bool = False


def tidy(expression: str) -> str:
    """Return a PromQL expression on one line."""
    return re.sub(r"\s+", " ", expression).strip()


def _target(query: Query, ref: str) -> Json:
    now = query.table or query.instant
    return {
        "refId": ref,
        "datasource": dict(SOURCE),
        "editorMode": "code",
        "expr": tidy(query.expr),
        "format": "table" if query.table else "time_series",
        "instant": now,
        "range": not now,
        "legendFormat": query.name or "__auto",
    }


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    options: Json | None = None,
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (),
    repeat: str | None = None,
) -> Json:
    """Return a panel without its place, which `dashboard` gives; `size` is (width of 24, height)."""
    made: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": dict(SOURCE),
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        "targets": [_target(query, chr(ord("A") + n)) for n, query in enumerate(queries)],
        "options": options or {},
        "fieldConfig": {"defaults": defaults or {}, "overrides": list(overrides)},
    }
    if transformations:
        made["transformations"] = list(transformations)
    if repeat:
        made |= {"repeat": repeat, "repeatDirection": "v"}
    return made


def stat(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    defaults: Json,
    overrides: Sequence[Json] = (),
) -> Json:
    """Return numbers or words in large letters."""
    return panel(
        "stat",
        title,
        description,
        queries,
        size=size,
        defaults=defaults,
        overrides=overrides,
        options={
            "colorMode": "background_solid",
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
            "wideLayout": True,
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    unit: str,
    targets: str | None = None,
    stacked: bool = False,
    overrides: Sequence[Json] = (),
) -> Json:
    """Return lines over time; those whose name matches `targets` are dashed: what was promised."""
    drawn: Json = {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter",
        "lineWidth": 2,
        "fillOpacity": 20 if stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    style = ("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    dashed = [override(targets, style, regex=True)] if targets else []
    return panel(
        "timeseries",
        title,
        description,
        queries,
        size=size,
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True,
                       "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={"unit": unit, "min": 0, "custom": drawn},
        overrides=[*dashed, *overrides],
    )  # fmt: skip


def table(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    size: tuple[int, int],
    columns: Sequence[tuple[str, str]],
    overrides: Sequence[Json] = (),
    sort: str | None = None,
) -> Json:
    """Return a table: `columns` are (label, its name); each query adds a column of its own name."""
    several = len(queries) > 1
    values = {
        f"Value #{chr(ord('A') + n)}" if several else "Value": query.name
        for n, query in enumerate(queries)
    }
    names = dict(columns) | values
    organized = {
        "includeByName": dict.fromkeys(names, True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": names,
    }
    return panel(
        "table",
        title,
        description,
        queries,
        size=size,
        options=_table_options(sort),
        defaults={"custom": {"align": "auto", "filterable": True}, "thresholds": plain()},
        overrides=overrides,
        transformations=[
            *([{"id": "merge", "options": {}}] if several else ()),
            {"id": "organize", "options": organized},
        ],
    )


def _table_options(sort: str | None) -> Json:
    return {
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": sort, "desc": False}] if sort else [],
    }


def matrix(
    title: str,
    description: str,
    expr: str,
    *,
    row: str,
    row_name: str,
    column: str,
    size: tuple[int, int],
    words: list[Json],
    unit: str | None = None,
    overrides: Sequence[Json] = (),
    row_links: Sequence[Json] = (),
    repeat: str | None = None,
) -> Json:
    """Return a heat map of words: one row per value of `row`, one column per value of `column`."""
    corner = f"{row}\\{column}"
    first = [
        ("displayName", row_name),
        ("custom.cellOptions", {"type": "auto"}),
        ("custom.width", 200),
        ("mappings", []),
    ]
    if row_links:
        first.append(links_of(*row_links))
    defaults: Json = {
        "custom": {"align": "center", "cellOptions": dict(COLOURED_CELL), "minWidth": 70},
        "mappings": words,
        "thresholds": plain(),
        "color": {"mode": "thresholds"},
    }
    if unit:
        defaults["unit"] = unit
    return panel(
        "table",
        title,
        description,
        [Query(expr=expr, table=True)],
        size=size,
        options=_table_options(corner),
        defaults=defaults,
        overrides=[*overrides, override(corner, *first)],
        transformations=[
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": column}]}},
            {"id": "groupingToMatrix", "options": {
                "columnField": column, "rowField": row, "valueField": "Value", "emptyValue": "null",
            }},
        ],
        repeat=repeat,
    )  # fmt: skip
