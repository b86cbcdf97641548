-- A small laboratory, invented as well. `results` is the number of rows of its largest table.
\set ON_ERROR_STOP on
\set samples :results / 6
select setseed(0.24);
begin;
create table analyses (code text primary key, name text not null, unit text not null);
insert into analyses values
    ('K', 'Potassium', 'mmol/L'), ('NA', 'Sodium', 'mmol/L'), ('HB', 'Hémoglobine', 'g/dL'),
    ('CRP', 'Protéine C réactive', 'mg/L'), ('CREA', 'Créatinine', 'µmol/L'), ('GLU', 'Glucose', 'mmol/L');
create table samples (
    id integer primary key, ipp text not null, tube text not null unique,
    drawn_at timestamptz not null, received_at timestamptz not null check (received_at >= drawn_at)
);
create table results (
    id bigint primary key, sample_id integer not null references samples, code text not null references analyses,
    value numeric(8, 2) not null, validated_at timestamptz not null
);
insert into samples
    select i, 'IPP' || lpad((1 + random() * 49999)::int::text, 8, '0'), 'T' || lpad(i::text, 9, '0'), t, t + interval '20 minutes'
    from generate_series(1, :samples) as i,
         lateral (select now() - interval '21 minutes' - interval '365 days' * (1 - i / (:samples)::float8) as t) as s;
insert into results
    select i, 1 + ((i - 1) / 6)::int % :samples, code, round((random() * 200)::numeric, 2),
           now() - interval '365 days' * (1 - i / (:results)::float8)
    from generate_series(1, :results) as i
    join (select row_number() over (order by code) - 1 as nth, code from analyses) as a on a.nth = i % 6;
create index on results (sample_id);
create view pending as select s.* from samples s where not exists (select from results r where r.sample_id = s.id);
commit;
analyze;
