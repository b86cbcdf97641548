"""The copies of every application as they are declared and as they were found: rows of the report."""

from __future__ import annotations

from collections.abc import Iterable

from backupguard.assess.declared_estate import Estate
from backupguard.reports.model import CopyRow, RepositoryRow


def copy_rows(estate: Estate, repositories: Iterable[RepositoryRow]) -> tuple[CopyRow, ...]:
    """Return a row per application and repository that keeps copies of it."""
    found = {row.repository: row for row in repositories}
    rows = []
    for name, owner in sorted(estate.applications.items()):
        for identifier in owner.repositories:
            declared = estate.repositories[identifier]
            rows.append(
                CopyRow(
                    application=name,
                    name=owner.name,
                    production=owner.failure_domain,
                    repository=identifier,
                    kind=declared.copy_kind,
                    medium_kind=declared.medium_kind,
                    failure_domain=declared.failure_domain,
                    declared_by=declared.declared_by,
                    declared_on=declared.declared_on,
                    off_site=declared.off_site,
                    device=found[identifier].device if identifier in found else None,
                )
            )
    return tuple(rows)
