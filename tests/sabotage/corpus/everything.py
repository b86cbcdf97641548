"""All cases of the corpus, ours and those that real incidents made."""

from __future__ import annotations

from tests.sabotage.corpus import files, mariadb, openldap, postgresql, repository, sqlite
from tests.sabotage.corpus.case import Case
from tests.sabotage.foreign import incidents

OURS: tuple[Case, ...] = tuple(
    case
    for module in (postgresql, mariadb, sqlite, openldap, files, repository)
    for case in module.CASES
)
FOREIGN: tuple[Case, ...] = tuple(incidents.CASES)
ALL = (*OURS, *FOREIGN)
