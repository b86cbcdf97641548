-- A small electronic patient record, invented from end to end. `observations` is the number of rows
-- of the largest table; everything else follows from it. Times are relative to now, so that a
-- backup made right afterwards is fresh; the same seed gives the same people.
\set ON_ERROR_STOP on
\set patients :observations / 20
\set stays :observations / 12
\set prescriptions :observations / 6
select setseed(0.42);
begin;

create schema reference;

create table reference.services (
    id smallint primary key,
    code text not null unique,
    name text not null,
    beds smallint not null check (beds >= 0)
);
insert into reference.services values
    (1, 'URG', 'Urgences', 24), (2, 'MED', 'Médecine polyvalente', 60), (3, 'CHIR', 'Chirurgie', 48),
    (4, 'REA', 'Réanimation', 14), (5, 'CARD', 'Cardiologie', 30), (6, 'PNEU', 'Pneumologie', 28),
    (7, 'PED', 'Pédiatrie', 26), (8, 'MAT', 'Maternité', 32), (9, 'GERI', 'Gériatrie', 56),
    (10, 'NEUR', 'Neurologie', 26), (11, 'ONCO', 'Oncologie', 22), (12, 'SSR', 'Soins de suite', 70);

create table reference.measures (
    code text primary key,
    name text not null,
    unit text not null,
    low numeric not null,
    high numeric not null check (high > low)
);
insert into reference.measures values
    ('8867-4', 'Fréquence cardiaque', '/min', 45, 140), ('8480-6', 'Pression systolique', 'mmHg', 85, 190),
    ('8462-4', 'Pression diastolique', 'mmHg', 45, 115), ('8310-5', 'Température', '°C', 35, 41),
    ('9279-1', 'Fréquence respiratoire', '/min', 10, 34), ('59408-5', 'Saturation', '%', 84, 100),
    ('2339-0', 'Glycémie', 'mmol/L', 3, 18), ('2160-0', 'Créatinine', 'µmol/L', 40, 400),
    ('2823-3', 'Potassium', 'mmol/L', 2, 7), ('2951-2', 'Sodium', 'mmol/L', 120, 155),
    ('718-7', 'Hémoglobine', 'g/dL', 6, 18), ('1988-5', 'Protéine C réactive', 'mg/L', 0, 250);

create table reference.drugs (id smallint primary key, name text not null unique, form text not null);
insert into reference.drugs
    select row_number() over (), drug || ' ' || strength, form
    from unnest(array['Paracétamol', 'Amoxicilline', 'Furosémide', 'Énoxaparine', 'Métoprolol', 'Oméprazole',
                      'Insuline glargine', 'Morphine', 'Ramipril', 'Atorvastatine', 'Salbutamol', 'Prednisolone'])
             as drug,
         (values ('faible dose', 'comprimé'), ('forte dose', 'comprimé'), ('injectable', 'ampoule')) as s (strength, form);

create table practitioners (
    id integer primary key,
    rpps text not null unique,
    name text not null,
    service_id smallint not null references reference.services
);

create table patients (
    id integer primary key,
    ipp text not null unique,
    birth_name text not null,
    first_name text not null,
    sex char(1) not null check (sex in ('F', 'M')),
    born_on date not null,
    town text not null,
    created_at timestamptz not null
);

create table stays (
    id integer primary key,
    patient_id integer not null,
    service_id smallint not null,
    reason text not null,
    admitted_at timestamptz not null,
    discharged_at timestamptz,
    check (discharged_at >= admitted_at)
);

create table observations (
    id bigint not null,
    stay_id integer not null,
    code text not null,
    value numeric(8, 2) not null,
    observed_at timestamptz not null,
    practitioner_id integer not null
);

create table prescriptions (
    id bigint not null,
    stay_id integer not null,
    drug_id smallint not null,
    dose text not null,
    prescribed_at timestamptz not null,
    practitioner_id integer not null
);

create temporary table lists as select
    array['Camille', 'Louise', 'Jeanne', 'Chloé', 'Inès', 'Léa', 'Manon', 'Zoé', 'Agathe', 'Élise', 'Margaux', 'Solène',
          'Hélène', 'Odile', 'Yvette', 'Simone', 'Josiane', 'Françoise', 'Aïcha', 'Noémie'] as women,
    array['Gabriel', 'Jules', 'Hugo', 'Léo', 'Raphaël', 'Noé', 'Maël', 'Étienne', 'Bastien', 'Théo', 'Loïc', 'Yann',
          'André', 'Marcel', 'Roger', 'Lucien', 'Gérard', 'Michel', 'Karim', 'François'] as men,
    array['Martin', 'Bernard', 'Dubois', 'Moreau', 'Lefebvre', 'Garnier', 'Rousseau', 'Lemoine', 'Chevalier', 'Gauthier',
          'Perrin', 'Mercier', 'Blanchard', 'Fournier', 'Girard', 'Bonnet', 'Delmas', 'Lacroix', 'Fabre', 'Renaud',
          'Vasseur', 'Hamon', 'Le Goff', 'Kerbrat', 'd’Argent', 'Benali', 'Nguyen', 'Traoré', 'Da Silva', 'Lévêque'] as names,
    array['Belle-Rive', 'Saint-Aubin', 'Montfleury', 'La Roche-Verte', 'Villeneuve-le-Pont', 'Bourg-l’Étang'] as towns,
    array['douleur thoracique', 'dyspnée', 'chute', 'fièvre', 'bilan programmé', 'chirurgie programmée', 'malaise',
          'accouchement', 'traumatisme', 'altération de l’état général'] as reasons;

insert into practitioners
    select i, '10' || lpad((i * 7919 % 1000000000)::text, 9, '0'),
           'Dr ' || names[1 + (random() * 29)::int], 1 + i % 12
    from lists, generate_series(1, 240) as i;

insert into patients
    select i, 'IPP' || lpad(i::text, 8, '0'), names[1 + (random() * 29)::int],
           case when i % 2 = 0 then women[1 + (random() * 19)::int] else men[1 + (random() * 19)::int] end,
           case when i % 2 = 0 then 'F' else 'M' end,
           (now() - random() * interval '95 years')::date, towns[1 + (random() * 5)::int],
           now() - interval '900 days' * i / (:patients)::float8
    from lists, generate_series(1, :patients) as i;

-- The younger the stay, the higher its number; the last ones are still going on.
insert into stays
    select i, 1 + (random() * (:patients - 1))::int, 1 + (random() * 11)::int, reasons[1 + (random() * 9)::int], t,
           case when t + stay < now() then t + stay end
    from lists, generate_series(1, :stays) as i,
         lateral (select now() - interval '700 days' * (1 - i / (:stays)::float8) - random() * interval '4 minutes' as t,
                         (1 + random() * 9) * interval '1 day' as stay) as s;

insert into observations
    select i, stay, code, round((low + (high - low) * random())::numeric, 2),
           greatest(now() - interval '700 days' * (1 - i / (:observations)::float8), now() - interval '700 days'),
           1 + i % 240
    from (select i, 1 + ((i - 1) / 12)::int % :stays as stay, 1 + i % 12 as nth
          from generate_series(1, :observations) as i) as o
    join (select row_number() over (order by code) as nth, * from reference.measures) as m using (nth);

insert into prescriptions
    select i, 1 + (i / 2)::int % :stays, 1 + (random() * 35)::int, (1 + i % 3) || ' fois par jour',
           now() - interval '700 days' * (1 - i / (:prescriptions)::float8), 1 + i % 240
    from generate_series(1, :prescriptions) as i;

alter table stays add foreign key (patient_id) references patients,
                  add foreign key (service_id) references reference.services;
alter table observations add primary key (id),
                         add foreign key (stay_id) references stays,
                         add foreign key (code) references reference.measures,
                         add foreign key (practitioner_id) references practitioners;
alter table prescriptions add primary key (id),
                          add foreign key (stay_id) references stays,
                          add foreign key (drug_id) references reference.drugs,
                          add foreign key (practitioner_id) references practitioners;
create sequence stays_id_seq owned by stays.id;
select setval('stays_id_seq', (select max(id) from stays));
alter table stays alter column id set default nextval('stays_id_seq');
create index on patients (birth_name, first_name);
create index on stays (patient_id, admitted_at);
create index on observations (stay_id, observed_at);
create index on prescriptions (stay_id);

create function age_of(born_on date) returns integer
    language sql stable as $$ select extract(year from age(born_on))::integer $$;

create function check_stay() returns trigger language plpgsql as $$
begin
    if new.admitted_at > now() + interval '1 day' then
        raise exception 'admission in the future';
    end if;
    return new;
end $$;
create trigger check_stay before insert or update on stays for each row execute function check_stay();

create view current_stays as
    select s.id, s.admitted_at, p.ipp, p.birth_name, p.first_name, age_of(p.born_on) as age, v.name as service
    from stays s join patients p on p.id = s.patient_id join reference.services v on v.id = s.service_id
    where s.discharged_at is null;
create view occupancy as
    select v.code, v.beds, count(s.id) filter (where s.discharged_at is null) as taken
    from reference.services v left join stays s on s.service_id = v.id group by v.code, v.beds;

commit;
analyze;
