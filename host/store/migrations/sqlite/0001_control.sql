-- The control database. All times are milliseconds since 1970-01-01T00:00:00Z. JSON stands in text columns.

create table plugins (
    name text not null primary key,
    version text not null,
    digest text not null,
    api_version text not null,
    title text not null,
    docs text not null,
    config_schema text not null,
    permissions text not null,
    installed_at integer not null
) strict;

create table grants (
    plugin text not null references plugins (name) on delete cascade,
    pattern text not null,
    granted_at integer not null,
    primary key (plugin, pattern)
) strict, without rowid;

create table connections (
    id text not null primary key,
    plugin text not null references plugins (name),
    config text not null,
    secrets blob not null,
    streams text not null,
    destination text,
    catalog text,
    created_at integer not null,
    updated_at integer not null
) strict;

create index connections_by_plugin on connections (plugin);

-- Runs outlive their connection: they are history.
create table runs (
    id text not null primary key,
    connection text,
    subject text,
    kind text not null,
    run_trigger text not null,
    status text not null,
    request text not null,
    holder text,
    expires_at integer,
    epoch integer,
    cancel_requested integer not null default 0,
    queued_at integer not null,
    started_at integer,
    finished_at integer,
    report text not null,
    failure text
) strict;

-- The database itself refuses a second unfinished sync of a connection.
create unique index one_sync_per_connection on runs (connection)
    where kind = 'sync' and status in ('queued', 'running');
create index runs_by_connection on runs (connection, id);
create index unfinished_runs on runs (status, id) where status in ('queued', 'running');

-- A lease outlives its connection, so that the epoch of a name never goes back.
create table leases (
    connection text not null primary key,
    epoch integer not null,
    holder text,
    acquired_at integer not null,
    expires_at integer not null
) strict;

create table batches (
    connection text not null references connections (id) on delete cascade,
    seq integer not null,
    epoch integer not null,
    manifest text not null,
    manifest_sha text not null,
    sealed_at integer not null,
    committed_at integer,
    outcome text,
    primary key (connection, seq)
) strict;

create table positions (
    connection text not null primary key references connections (id) on delete cascade,
    seq integer not null,
    position text not null,
    updated_at integer not null
) strict;

create table position_edits (
    id integer primary key autoincrement,
    connection text not null unique references connections (id) on delete cascade,
    position text not null,
    actor text not null,
    edited_at integer not null
) strict;

create table schemas (
    connection text not null references connections (id) on delete cascade,
    stream text not null,
    fields text not null,
    seq integer not null,
    updated_at integer not null,
    primary key (connection, stream)
) strict, without rowid;

create table logs (
    run text not null references runs (id) on delete cascade,
    seq integer not null,
    at integer not null,
    level text not null,
    source text not null,
    message text not null,
    primary key (run, seq)
) strict, without rowid;

create table audit (
    id integer primary key autoincrement,
    at integer not null,
    actor text not null,
    action text not null,
    subject text not null,
    detail text not null
) strict;
