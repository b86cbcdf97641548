-- The shape of the restored database, its newest times, and what is wrong with its objects: counts only.
-- Variables: limit, floor (times), zone, ignored (text of ignored columns, comma-separated), random.
set search_path = pg_catalog;
set timezone = :'zone';
set client_min_messages = error;
set bytea_output = hex;
create temporary table mine as
  select c.oid, n.nspname, c.relname, c.relrowsecurity, c.reltuples,
    -- One that was never filled has no rows to count; pg_dump keeps it that way.
    case when c.relkind = 'm' and not c.relispopulated then 'w' else c.relkind end as relkind
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and not exists (select 1 from pg_depend d
                    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e');
create temporary table space as
  select n.oid from pg_namespace n where n.nspname !~ '^pg_' and n.nspname <> 'information_schema';

select 'object', case relkind when 'r' then 'table' when 'p' then 'partitioned-table' when 'v' then 'view'
    when 'm' then 'materialized-view' when 'w' then 'materialized-view' when 'i' then 'index' when 'I' then 'index'
    when 'S' then 'sequence' when 'f' then 'foreign-table' else 'other' end, count(*)
  from mine where relkind <> 't' group by 2;
select 'object', 'routine', count(*) from pg_proc p where pronamespace in (select oid from space)
  and not exists (select 1 from pg_depend d
                  where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e');
select 'object', 'trigger', count(*) from pg_trigger where not tgisinternal;
select 'object', 'constraint', count(*) from pg_constraint where connamespace in (select oid from space);
select 'object', 'policy', count(*) from pg_policy;
select 'object', 'extension', count(*) from pg_extension where extname <> 'plpgsql';
select 'object', 'large-object', count(*) from pg_largeobject_metadata;
select 'object', 'type', count(*) from pg_type where typnamespace in (select oid from space) and typtype in ('e', 'd');
select 'object', 'grant', count(*) from pg_class c join mine m on m.oid = c.oid,
  aclexplode(c.relacl) a where a.grantee <> c.relowner;
select 'count', 'row-security', count(*) from mine where relrowsecurity;
select 'count', 'unlogged', count(*) from mine m join pg_class c on c.oid = m.oid
  where c.relpersistence = 'u' and c.relkind = 'r';
select 'count', 'invalid-index', count(*) from pg_index i join mine m on m.oid = i.indexrelid where not i.indisvalid;
select 'view', nspname, relname from mine where relkind in ('v', 'm', 'w', 'p', 'f');
select 'columns', m.nspname, m.relname, count(a.attnum)
  from mine m left join pg_attribute a on a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped
  where m.relkind in ('r', 'm') group by 2, 3;

-- One pass per table: its rows, and its newest time that can be true.
select format(
    'select ''rows'', %L, %L, count(*), trunc(extract(epoch from %s) * 1000000)::bigint from only %I.%I',
    m.nspname, m.relname,
    -- a table without any such column has one row here, whose attname is null
    coalesce('greatest(' || string_agg(case when a.attname is not null then format(
      'max(%1$I::timestamptz) filter (where %1$I <= %2$L::timestamptz and %1$I >= %3$L::timestamptz)',
      a.attname, :'limit', :'floor') end, ', ') || ')', 'null::timestamptz'),
    m.nspname, m.relname)
  from mine m left join pg_attribute a on a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped
    and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    and not (array[m.relname::text, m.nspname || '.' || m.relname, m.relname || '.' || a.attname,
                   m.nspname || '.' || m.relname || '.' || a.attname]
             && string_to_array(:'ignored', ','))
  where m.relkind in ('r', 'm')
  group by m.nspname, m.relname
\gexec

-- Large objects that rows point to and that are not there.
select format(
    'select ''pointer'', count(*), count(*) filter (where not exists '
    '(select from pg_largeobject_metadata l where l.oid = t.%1$I::oid)) from only %2$I.%3$I t where t.%1$I <> 0',
    a.attname, m.nspname, m.relname)
  from mine m join pg_attribute a on a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped
  join pg_type y on y.oid = a.atttypid
  where m.relkind = 'r' and (y.oid = 'oid'::regtype or (y.typname = 'lo' and y.typbasetype = 'oid'::regtype))
\gexec

-- Sequences that would hand out a key which is taken.
select format(
    'select ''sequence'', case when coalesce((select max(%I) from %I.%I), 0)::numeric > coalesce(pg_sequence_last_value(%s), 0) then 1 else 0 end',
    a.attname, t.nspname, t.relname, s.oid)
  from mine s join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid
    and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0
  join pg_sequence q on q.seqrelid = s.oid and q.seqincrement > 0 and not q.seqcycle
  join mine t on t.oid = d.refobjid
  join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
  where s.relkind = 'S' and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
\gexec

-- Text columns whose characters are as even as an encryption's: only a yes or no leaves this query.
select format($query$
  with sample as (select left(%1$I::text, 100) as v from only %2$I.%3$I %4$s
                  where length(%1$I::text) >= 16 limit 100),
       letters as (select ch, count(*)::float8 as n from sample, regexp_split_to_table(v, '') ch group by ch),
       total as (select sum(n) as t, bool_and(ch ~ '^[0-9A-Fa-f-]$') as hex from letters)
  select 'text', case when (select count(*) from sample) >= 50 and t >= 1000
      and (select count(distinct v) from sample) >= 0.9 * (select count(*) from sample)
      and (select -sum(n / t * ln(n / t)) / ln(2) from letters) >= case when hex then 3.8 else 5.5 end
    then 1 else 0 end from total$query$,
    a.attname, m.nspname, m.relname,
    case when m.reltuples > 100000 then 'tablesample system (1)' else '' end)
  from mine m join pg_attribute a on a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped
  where :random and m.relkind = 'r'
    and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
  order by m.reltuples desc, a.attnum limit 500
\gexec
