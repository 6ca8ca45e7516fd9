-- Workspaces, named sources and destinations, versions of plugins, events, and what one request answered.

create table workspaces (
    id text not null primary key,
    title text not null,
    created_at integer not null
) strict;

insert into workspaces (id, title, created_at) values ('default', 'Default', 0);

create table sources (
    name text not null primary key,
    workspace text not null references workspaces (id),
    plugin text not null references plugins (name),
    config text not null,
    secrets blob not null,
    catalog text,
    created_at integer not null,
    updated_at integer not null,
    version integer not null
) strict;

create table destinations (
    name text not null primary key,
    workspace text not null references workspaces (id),
    kind text not null,
    config text not null,
    secrets blob not null,
    created_at integer not null,
    updated_at integer not null,
    version integer not null
) strict;

-- SQLite adds no column that has a default and refers to another table where the table has rows.
alter table connections add column workspace text not null default 'default';
-- A named source instead of a plugin and a configuration of the connection's own.
alter table connections add column source text references sources (name);
alter table connections add column schedule text;
alter table connections add column stream_schedules text not null default '{}';
alter table connections add column paused integer not null default 0;
alter table connections add column paused_why text;
alter table connections add column freshness_ms integer;
alter table connections add column hooks text not null default '[]';
alter table connections add column retry text;
alter table connections add column max_duration_ms integer;
alter table connections add column version integer not null default 1;
create index connections_by_source on connections (source);

alter table runs add column workspace text;
-- The time of the schedule's slot, the number of the try, and when a queued run may begin.
alter table runs add column slot integer;
alter table runs add column attempt integer not null default 1;
alter table runs add column retry_of text;
alter table runs add column not_before integer;

alter table audit add column workspace text;

alter table plugins add column pinned integer not null default 0;
alter table plugins add column revision integer not null default 1;

-- Every version that was ever installed, so that one can be gone back to.
create table plugin_versions (
    name text not null,
    digest text not null,
    version text not null,
    api_version text not null,
    title text not null,
    docs text not null,
    config_schema text not null,
    permissions text not null,
    installed_at integer not null,
    -- When it last became the one that runs use; null where it never did.
    activated_at integer,
    primary key (name, digest)
) strict;

insert into plugin_versions (name, digest, version, api_version, title, docs, config_schema, permissions, installed_at, activated_at)
select name, digest, version, api_version, title, docs, config_schema, permissions, installed_at, installed_at from plugins;

create table events (
    id integer primary key autoincrement,
    at integer not null,
    kind text not null,
    workspace text,
    connection text,
    stream text,
    run text,
    detail text not null
) strict;
create index events_by_connection on events (connection, id);

create table answers (
    actor text not null,
    idempotency_key text not null,
    request_sha text not null,
    status integer not null,
    headers text not null,
    body blob not null,
    at integer not null,
    primary key (actor, idempotency_key)
) strict, without rowid;
create index answers_by_age on answers (at);
