-- The operating theatre's planning, invented: installed one day by its department, and saved by no job.
\set ON_ERROR_STOP on
begin;
create table theatres (id smallint primary key, name text not null unique);
insert into theatres select i, 'Salle ' || i from generate_series(1, 8) as i;
create table operations (
    id integer primary key, theatre_id smallint not null references theatres, ipp text not null,
    planned_at timestamptz not null
);
insert into operations
    select i, 1 + i % 8, 'IPP' || lpad((i * 37 % 50000)::text, 8, '0'), now() + interval '1 hour' * i
    from generate_series(1, 400) as i;
commit;
analyze;
