-- The processes that execute runs. Only shown: what a process may do hangs on leases and runs.
create table workers (
    holder text collate "C" not null primary key,
    host text not null,
    version text not null,
    role text not null,
    capacity bigint not null,
    started_at bigint not null,
    heartbeat_at bigint not null
);
create index workers_by_heartbeat on workers (heartbeat_at);

-- What is true of the whole installation, by name. The first to write it decides.
create table meta (
    name text collate "C" not null primary key,
    value text not null
);
