-- What was moved in all, conditions that last, who is told of them, and what is still to be told.

create table connection_totals (
    connection text not null primary key references connections (id) on delete cascade,
    -- When the extraction of the last complete load began: nothing in the destination is older.
    complete_at integer,
    succeeded integer not null default 0,
    failed integer not null default 0,
    cancelled integer not null default 0,
    interrupted integer not null default 0
) strict, without rowid;

create table stream_totals (
    connection text not null references connections (id) on delete cascade,
    stream text not null,
    records integer not null,
    bytes integer not null,
    rejected integer not null,
    loaded_at integer not null,
    complete_at integer,
    primary key (connection, stream)
) strict, without rowid;

-- By day of UTC, counted from 1970-01-01.
create table stream_days (
    connection text not null references connections (id) on delete cascade,
    stream text not null,
    day integer not null,
    records integer not null,
    bytes integer not null,
    rejected integer not null,
    primary key (connection, stream, day)
) strict, without rowid;

create table alerts (
    id integer primary key autoincrement,
    workspace text not null,
    -- Empty where it is about no single connection, and no single stream.
    connection text not null,
    stream text not null,
    kind text not null,
    opened_at integer not null,
    last_at integer not null,
    resolved_at integer,
    -- How often it was met since it opened.
    times integer not null,
    run text,
    detail text not null,
    acknowledged_by text,
    acknowledged_at integer
) strict;

create unique index one_open_alert on alerts (workspace, connection, stream, kind) where resolved_at is null;

create table hook_secrets (
    connection text not null primary key references connections (id) on delete cascade,
    workspace text not null,
    secrets blob not null
) strict, without rowid;

create table notifiers (
    name text not null primary key,
    workspace text not null references workspaces (id),
    kind text not null,
    config text not null,
    secrets blob not null,
    events text not null,
    connections text not null,
    delay_ms integer not null,
    paused integer not null,
    created_at integer not null,
    updated_at integer not null,
    version integer not null
) strict;

create table deliveries (
    id text not null primary key,
    workspace text not null,
    -- `notice` to a notifier, `hook` to a hook of a connection, `loads` to be divided into hooks.
    target text not null,
    notifier text references notifiers (name) on delete cascade,
    connection text not null,
    stream text not null,
    kind text not null,
    alert integer references alerts (id) on delete cascade,
    phase text not null,
    body text not null,
    status text not null,
    attempts integer not null,
    next_at integer not null,
    holder text,
    claimed_until integer,
    last_error text,
    created_at integer not null,
    ended_at integer
) strict, without rowid;

create index due_deliveries on deliveries (next_at) where status = 'pending';
create index deliveries_of_alerts on deliveries (alert) where alert is not null;
create index deliveries_of_notifiers on deliveries (notifier, id);
