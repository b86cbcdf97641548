-- The pharmacy's own database, invented: what was dispensed to whom, and when.
\set ON_ERROR_STOP on
select setseed(0.36);
begin;
create table medicines (id integer primary key, name text not null unique, stock integer not null check (stock >= 0));
insert into medicines
    select row_number() over (), name, 500 + (random() * 2000)::int
    from unnest(array['Paracétamol', 'Amoxicilline', 'Furosémide', 'Énoxaparine', 'Métoprolol', 'Oméprazole',
                      'Insuline glargine', 'Morphine', 'Ramipril', 'Atorvastatine', 'Salbutamol', 'Prednisolone']) as name;
create table dispensations (
    id bigint primary key, medicine_id integer not null references medicines, ipp text not null,
    quantity smallint not null check (quantity > 0), dispensed_at timestamptz not null
);
insert into dispensations
    select i, 1 + i % 12, 'IPP' || lpad((1 + random() * 49999)::int::text, 8, '0'), 1 + (random() * 5)::int,
           now() - interval '200 days' * (1 - i / (:dispensations)::float8)
    from generate_series(1, :dispensations) as i;
create index on dispensations (medicine_id, dispensed_at);
commit;
analyze;
