-- The processes that execute runs. Only shown: what a process may do hangs on leases and runs.
create table workers (
    holder text not null primary key,
    host text not null,
    version text not null,
    role text not null,
    capacity integer not null,
    started_at integer not null,
    heartbeat_at integer not null
) strict;
create index workers_by_heartbeat on workers (heartbeat_at);

-- What is true of the whole installation, by name. The first to write it decides.
create table meta (
    name text not null primary key,
    value text not null
) strict;
