-- When each schedule comes next, and the last slot that was decided upon. Follows from `connections`: a row is written anew
-- where the connection's version is not the one that its slots were made from.

alter table connections add column scheduled_version integer not null default 0;
create index connections_to_schedule on connections (id) where scheduled_version <> version;

create table slots (
    connection text not null references connections (id) on delete cascade,
    -- Empty: the connection's own schedule.
    stream text not null,
    schedule text not null,
    -- 1: a slot that comes while the connection is running waits for its end.
    queues integer not null,
    -- 1: the connection is paused.
    resting integer not null,
    -- Slots up to here passed while the connection was paused.
    rested_until integer not null default 0,
    -- Null: none comes by itself.
    next_at integer,
    last_slot integer not null,
    updated_at integer not null,
    primary key (connection, stream)
) strict, without rowid;
create index slots_by_time on slots (next_at) where resting = 0;

-- The database itself refuses a second run of a slot. `slot_key` stands for the streams.
alter table runs add column slot_key text;
create unique index one_run_per_slot on runs (connection, slot, slot_key) where run_trigger = 'schedule';

-- The longest duration that a run exceeded, after which it was stopped.
alter table runs add column overran_ms integer;
