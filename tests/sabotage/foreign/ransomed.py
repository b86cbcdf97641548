"""Campaigns that empty databases open to the network and leave a table with a demand."""

from __future__ import annotations

from tests.sabotage.corpus import mariadb, postgresql
from tests.sabotage.corpus.case import Case, Family

_DEMAND = "To recover your lost databases send 0.06 BTC"
_PG = Family(engine="postgresql", before=postgresql.yesterday, twin=postgresql.today)
_MY = Family(engine="mariadb", before=mariadb.yesterday, twin=mariadb.today)
_EMPTIED = (
    "drop schema clinic cascade",
    "drop table public.heartbeat, public.queue",
    f"create table public.readme_to_recover as select '{_DEMAND}'::text as text_field",
)
_WARNED = (
    "set foreign_key_checks = 0",
    "drop view current",
    "drop table patients, dispensations, drugs, audit",
    f"create table WARNING as select 1 id, '{_DEMAND}' warning",
)

CASES: tuple[Case, ...] = (
    _PG.case(
        "readme-to-recover",
        "PostgreSQL servers open to the network since 2020: tables dropped, a demand in one",
        postgresql.dump(*_EMPTIED),
        speaks="same-database:wrong_content",
        words="autre base",
    ),
    _MY.case(
        "please-read-me",
        "Guardicore on PLEASE_READ_ME, 2020: 85 000 MySQL servers, a table called WARNING",
        mariadb.dump(*_WARNED),
        speaks="same-database:wrong_content",
        words="autre base",
    ),
)
