/** A schema with an object of every kind that a logical copy carries. For tests. */
export const EVERYTHING = String.raw`
create schema app; create schema "Odd ""name"; create extension hstore; create extension pg_trgm;
create type app.mood as enum ('sad', 'it''s "fine"', 'happy'); create type app.pair as (a int, b app.mood);
create domain app.positive as int default 1 constraint above_zero check (value > 0); create type app.span as range (subtype = float8);
create function app.twice(n int) returns int language sql immutable as 'select n * 2';
create function app.lines() returns text language sql as $body$select '
\restrict abc
--
-- TOC entry 1 (class 2 OID 3)
-- Name: x; Type: TABLE; Schema: y; Owner: -
--
'::text$body$;
create function app.standard(n int) returns int language sql immutable begin atomic; select n + 1; end;
create procedure app.nothing() language plpgsql as 'begin null; end';
create aggregate app.total(int) (sfunc = int4pl, stype = int, initcond = '0');
create function app.stamp() returns trigger language plpgsql as 'begin new.note := coalesce(new.note, ''stamped''); return new; end';
create sequence app.free_numbers increment 5 start 100; select nextval('app.free_numbers');
create table app.owner (id serial primary key, name text not null unique, born date, constraint named check (length(name) > 0));
create table app.item (
  id bigint generated always as identity primary key, owner_id int references app.owner on delete cascade deferrable initially deferred,
  mood app.mood default 'sad', moods app.mood[], pairs app.pair[], pair app.pair, size app.positive, span app.span, tags hstore,
  kind regclass, kinds regtype[], number int default nextval('app.free_numbers'), doubled int generated always as (size * 2) stored,
  tripled numeric generated always as (amount * 3) virtual,
  note text collate "C", amount numeric(12, 4), price money, at timestamptz, during tstzrange, doc jsonb, path text[], ip inet, blob bytea, bits bit varying(12), x xml, f float8,
  exclude using gist (during with &&));
create table app."Strange ""table" ("select" int, "a.b" text, "new
line" int); comment on table app."Strange ""table" is E'says\n--\n-- TOC entry 7 (class 1 OID 1)\n--';
create table app.nothing_in_it ();
create table app.parent (a int); create table app.child (b int) inherits (app.parent);
create table app.event (at date not null, what text, n int default app.twice(4)) partition by range (at);
create table app.event_2024 partition of app.event for values from ('2024-01-01') to ('2025-01-01');
create table app.event_rest partition of app.event default partition by list (what);
create table app.event_rest_x partition of app.event_rest for values in ('x'); create table app.event_rest_other partition of app.event_rest default;
create index on app.event (at); create unlogged table app.quick (n int primary key);
create table "Odd ""name".deep (id uuid primary key default gen_random_uuid(), parent uuid references "Odd ""name".deep);
create index on app.item (app.twice(size)) where size > 2; create index on app.owner using gin (name gin_trgm_ops);
alter table app.item alter column doc set storage external; alter table app.owner replica identity full; alter table app.owner set (fillfactor = 70);
create statistics app.together (dependencies, mcv) on owner_id, size from app.item;
create view app.names as select name from app.owner with check option; create view app.counts as select o.id, o.name, count(*) from app.owner o join app.item i on i.owner_id = o.id group by o.id;
create materialized view app.sizes as select size, count(*) from app.item group by size; create unique index on app.sizes (size);
create materialized view app.larger as select * from app.sizes where size > 2; create materialized view app.unfilled as select 1 as one with no data;
create rule quiet as on delete to app.quick do instead nothing; create trigger stamped before insert or update on app.item for each row execute function app.stamp();
alter table app.item disable trigger stamped;
create table app.secret (who name, what text); insert into app.secret values ('somebody', 'else'); alter table app.secret enable row level security; create policy own on app.secret using (who = current_user);
alter table app.secret force row level security;
create operator app.=== (leftarg = int, rightarg = int, function = int4eq); create collation app.german (provider = icu, locale = 'de');
create text search dictionary app.plain (template = simple); create text search configuration app.search (copy = english);
create cast (app.pair as text) with inout as assignment; create publication chosen for table app.owner (id, name) where (id > 0);
comment on column app.owner.name is 'a name'; comment on type app.mood is 'how'; comment on index app.owner_pkey is 'key'; comment on schema app is 'all';
insert into app.owner (name, born) select 'owner ' || n, date '2000-01-01' + n from generate_series(1, 50) n; insert into app.owner (name, born) values ('late', 'infinity');
insert into app.item (owner_id, mood, moods, pairs, pair, size, span, tags, kind, kinds, note, amount, price, at, during, doc, path, ip, blob, bits, x, f)
  select 1 + n % 50, 'happy', '{sad,"it''s \"fine\""}', array[row(n, 'sad')::app.pair], row(n, null)::app.pair, 1 + n % 9, '[1.5,2)', hstore('k', n::text), 'app.owner', '{int4,app.mood}',
    case when n % 3 = 0 then null else E'line\n\\.\n' || n end, n / 7.0, n::text::money, timestamptz '2024-01-01' + n * interval '1 hour', tstzrange(timestamptz '2024-01-01' + n * interval '1 hour', timestamptz '2024-01-01' + (n + 1) * interval '1 hour'),
    jsonb_build_object('n', n), array['a', null, 'b'], '10.0.0.0/8', decode(md5(n::text), 'hex'), B'101', '<a/>', case n % 4 when 0 then 'NaN'::float8 when 1 then 'infinity' else 0.1 + n end from generate_series(1, 400) n;
insert into app.item (blob) select decode(string_agg(md5(n::text), ''), 'hex') from generate_series(1, 6000) n;
insert into app."Strange ""table" values (1, E'\t\\N', null); insert into app.nothing_in_it select from generate_series(1, 3);
insert into app.parent values (1); insert into app.child values (2, 3); insert into app.quick select generate_series(1, 10);
insert into app.event values ('2024-06-01', 'in'), ('2023-01-01', 'x'), ('2026-01-01', 'other');
refresh materialized view app.sizes; refresh materialized view app.larger;
select lo_create(4711); select lo_put(4711, 0, decode(repeat('ab', 700000), 'hex')); select lo_create(4712);
create table app.typed (mood app.mood); insert into app.typed values ('happy');
alter table app.owner add column later int default 7; alter table app.owner drop column born;
`;

/** Of every table the rows, by one order: to be equal in two databases. */
export const FINGERPRINT_OF_ROWS = `select table_schema || '.' || table_name as name, (xpath('/row/d/text()', query_to_xml(format(
  'select md5(string_agg(r::text, chr(10) order by r::text)) as d from only %I.%I r', table_schema, table_name), true, true, '')))[1]::text as digest
  from information_schema.tables where table_schema in ('app', 'Odd "name') and table_type = 'BASE TABLE'
  union all select 'lo', (select string_agg(oid || ':' || md5(lo_get(oid)), ',' order by oid) from pg_largeobject_metadata)
  union all select 'sequences', (select string_agg(schemaname || sequencename || coalesce(last_value, -1), ',' order by 1) from (select * from pg_sequences where schemaname = 'app' order by 1, 2) s)
  union all select 'matviews', (select count(*) from app.sizes) || ' ' || (select count(*) from app.larger) order by 1`;
