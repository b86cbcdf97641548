"""Every setting that names a secret, found in the types: a new one is in every test that asks here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from backupguard import plugins
from backupguard.contracts import SecretReference
from backupguard.settings import Settings


def _below(kind: Any, path: str) -> Iterator[str]:
    """Yield the path of every reference to a secret in a type; what has names of its own is `*`."""
    if kind is SecretReference:
        yield path
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, of in kind.model_fields.items():
            key = of.alias or name.replace("_", "-")
            yield from _below(of.annotation, f"{path}.{key}" if path else key)
    else:
        for part in get_args(kind):
            yield from _below(part, f"{path}.*" if _is_collection(kind) else path)


def _is_collection(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping | tuple | list)


def every_place() -> set[str]:
    """Return the path of every setting that names a secret, those of all shipped plug-ins included.

    A repository's stand below its type, the anchors' below `evidence.anchors.*`.
    """
    found = set(_below(Settings, ""))
    found -= {path for path in found if path.startswith("repositories.*")}
    for name in plugins.names(plugins.REPOSITORIES):
        found |= set(_below(plugins.repository_type(name).settings, f"repositories.{name}"))
    for group, table in ((plugins.RESTORE_TESTS, "restore-test"), (plugins.PROBES, "probes")):
        for name in plugins.names(group):
            found |= set(_below(plugins.load(group, name).settings, f"{table}.{name}"))
    return found


def _used(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, SecretReference):
        yield path
    elif isinstance(value, BaseModel):
        for name, of in type(value).model_fields.items():
            key = of.alias or name.replace("_", "-")
            yield from _used(getattr(value, name), f"{path}.{key}" if path else key)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            named = one.type if path == "repositories" else "*"
            yield from _used(one, f"{path}.{named}" if path else str(key))
    elif isinstance(value, tuple):
        for one in value:
            yield from _used(one, f"{path}.*")


def used_places(settings: Settings) -> set[str]:
    """Return the paths of the secrets that a configuration names, as `every_place` has them."""
    return set(_used(settings, ""))
