"""Checks a dashboard against the models of Grafana that its makers publish (grafana-foundation-sdk).

The models read leniently: a name that they do not know is dropped, a wrong type is kept. So what was
read is written again and must hold everything that was given, and each value is held against its
declared type.
"""

from __future__ import annotations

import enum
import inspect
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()

_PLAIN = (int, float, str, bool, type(None))


def problems(dashboard: dict[str, Any]) -> list[str]:
    """Return what Grafana's models do not know or hold for wrong, each with its place."""
    return list(_read(Dashboard, dashboard, "dashboard"))


def _read(model: Any, given: dict[str, Any], place: str) -> Iterator[str]:
    """Yield the problems of a JSON object that is meant to be a `model`."""
    try:
        made = model.from_json(given)
        written = json.loads(json.dumps(made, cls=JSONEncoder))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield f"{place}: {error!r}"
        return
    yield from _lost(given, written, place)
    yield from _typed(made, place)


def _lost(given: Any, written: Any, place: str) -> Iterator[str]:
    """Yield what was given and is not in what was written."""
    if isinstance(given, dict) and isinstance(written, dict):
        for name, value in given.items():
            if name not in written:
                if value is not None:
                    yield f"{place}.{name}: unknown"
            else:
                yield from _lost(value, written[name], f"{place}.{name}")
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for number, (one, other) in enumerate(zip(given, written, strict=True)):
            yield from _lost(one, other, f"{place}[{number}]")
    elif given != written:
        yield f"{place}: {given!r} became {written!r}"


def _typed(made: Any, place: str) -> Iterator[str]:
    """Yield the attributes of a model's instance that are not of their declared types."""
    hints: dict[str, Any] = {}
    for base in reversed(type(made).__mro__):
        names = vars(inspect.getmodule(base) or inspect)
        hints |= typing.get_type_hints(base, globalns=dict(names)) if base is not object else {}
    for name, hint in hints.items():
        if hasattr(made, name):
            yield from _value(getattr(made, name), hint, f"{place}.{name}")


def _value(value: Any, hint: Any, place: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is not type(None) and not isinstance(value, dict) and hasattr(value, "to_json"):
        yield from _typed(value, place)  # options and queries: of a model that only reading names
    elif hint in (Any, object):
        return
    elif origin in (typing.Union, types.UnionType):
        tried = [list(_value(value, one, place)) for one in arguments]
        if all(tried):
            yield from min(tried, key=len)
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{place}: {value!r} is none of {arguments}"
    elif origin in (list, dict):
        yield from _inside(value, origin, arguments, place)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in [one.value for one in hint]:
            yield f"{place}: {value!r} is no {hint.__name__}"
    elif hasattr(hint, "from_json") and isinstance(value, dict):
        yield from _read(hint, value, place)
    elif hasattr(hint, "to_json") or hint in _PLAIN:
        yield from _instance(value, hint, place)


def _inside(value: Any, origin: Any, arguments: Any, place: str) -> Iterator[str]:
    if not isinstance(value, origin):
        yield f"{place}: {value!r} is no {origin.__name__}"
    elif origin is list:
        for number, one in enumerate(value):
            yield from _value(one, arguments[0], f"{place}[{number}]")
    else:
        for name, one in value.items():
            yield from _value(one, arguments[1], f"{place}.{name}")


def _instance(value: Any, hint: Any, place: str) -> Iterator[str]:
    wanted = int | float if hint is float else hint
    if not isinstance(value, wanted) or (hint in (int, float) and isinstance(value, bool)):
        yield f"{place}: {value!r} is no {hint.__name__}"
