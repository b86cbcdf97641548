"""A small hospital-like database, and ways in which a copy of it goes wrong."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres import Cluster

SCHEMA = """
create role app_owner; create role lecteur; create role "Rôle Soins";
create schema clinic authorization app_owner;
create type clinic.sexe as enum ('F', 'M', 'X');
create table clinic.patients (
  id bigint generated always as identity primary key, nom text not null, prenom text not null,
  ne date not null, sexe clinic.sexe not null, notes text, cree timestamptz not null,
  constraint ne_apres check (ne > '1900-01-01'));
create table clinic.stays (
  id bigint generated always as identity primary key,
  patient_id bigint not null references clinic.patients, admitted_at timestamptz not null,
  left_at timestamptz, planned_at timestamptz, service text not null);
create table clinic.observations (
  id bigint generated always as identity primary key,
  stay_id bigint not null references clinic.stays, at timestamptz not null,
  code varchar(12) not null, value numeric(10, 2), comment text);
create table clinic.letters (id int primary key, stay_id bigint, scan oid);
create table public.heartbeat (id int primary key, beat timestamptz not null);
create table public.queue (id int primary key);
create view clinic.present as select * from clinic.stays where left_at is null;
create materialized view clinic.per_service as
  select service, count(*) as n from clinic.stays group by service with no data;
create function clinic.age(d date) returns int language sql stable as
  $$ select extract(year from age(d))::int $$;
create function clinic.touch() returns trigger language plpgsql as
  $body$ begin new.notes := coalesce(new.notes, '$$ \\! COPY x FROM PROGRAM'); return new; end $body$;
create trigger touch before update on clinic.patients for each row execute function clinic.touch();
create index on clinic.observations (stay_id, at);
create index on clinic.patients (lower(nom));
alter table clinic.patients owner to app_owner;
grant select on all tables in schema clinic to lecteur;
grant usage on schema clinic to "Rôle Soins";
alter default privileges for role app_owner in schema clinic grant select on tables to lecteur;
"""

#: Times are relative to `now`, which the tests put four hours before the recovery point.
ROWS = """
insert into clinic.patients (nom, prenom, ne, sexe, notes, cree)
  select (array['Lefèvre','Moreau','Garnier','Chevalier','Rousseau'])[1 + i % 5] || ' ' || i,
         (array['Élodie','Jean','Zoé','Noël','Anaïs'])[1 + i % 5],
         '1930-01-01'::date + (i * 7) % 30000, (array['F','M','X'])[1 + i % 3]::clinic.sexe,
         'Suivi régulier, pas de traitement particulier, revoir dans ' || i % 9 || ' mois',
         timestamptz '{now}' - i * interval '1 hour'
  from generate_series(1, 2000) i;
insert into clinic.stays (patient_id, admitted_at, left_at, planned_at, service)
  select 1 + i % 2000, timestamptz '{now}' - i * interval '20 minutes',
         case when i > 500 then timestamptz '{now}' - i * interval '15 minutes' end,
         timestamptz '{now}' + interval '90 days', 'service ' || i % 12
  from generate_series(1, 4000) i;
insert into clinic.observations (stay_id, at, code, value, comment)
  select 1 + i % 4000, timestamptz '{now}' - i * interval '5 minutes', 'C' || i % 300, i % 100,
         'Constante numéro ' || i || ' relevée sans particularité'
  from generate_series(0, 19999) i;
insert into clinic.letters
  select i, i, lo_from_bytea(0, decode(repeat('ab', 500), 'hex')) from generate_series(1, 20) i;
insert into public.heartbeat values (1, '{now}');
insert into public.queue select i from generate_series(1, 30) i;
refresh materialized view clinic.per_service;
"""

FORMATS = {"custom": "c", "directory": "d", "tar": "t", "plain": "p"}


@dataclass
class Hospital:
    """A source server with databases and dumps, each made once."""

    cluster: Cluster
    directory: Path
    made: dict[str, Path] = field(default_factory=dict)

    def sql(self, database: str, *statements: str) -> str:
        arguments = [argument for text in statements for argument in ("-c", text)]
        done = self.cluster.run(
            "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments, text=True
        )
        return str(done.stdout)

    def variant(self, name: str, *statements: str, template: str = "dpi") -> str:
        """Make a database like the hospital's, then change it."""
        self.cluster.run("createdb", "-T", template, name)
        self.sql(name, *statements)
        return name

    def dump(self, database: str = "dpi", form: str = "custom", *options: str) -> Path:
        name = f"{database}-{form}{''.join(options)}".replace("/", "_")
        if name not in self.made:
            path = self.directory / name
            self.cluster.run("pg_dump", f"-F{FORMATS[form]}", "-f", str(path), *options, database)
            self.made[name] = path
        return self.made[name]

    def compressed(self, source: Path, how: str) -> Path:
        target = source.with_name(f"{source.name}.{how}")
        if not target.exists():
            if how == "gz":
                target.write_bytes(gzip.compress(source.read_bytes(), 1))
            elif how == "xz":
                target.write_bytes(lzma.compress(source.read_bytes(), preset=0))
            else:
                subprocess.run(["zstd", "-q", str(source), "-o", str(target)], check=True)
        return target
