-- Every position that a destination committed, so that an operator can go back to one.
create table checkpoints (
    connection text not null references connections (id) on delete cascade,
    seq integer not null,
    position text not null,
    committed_at integer not null,
    primary key (connection, seq)
) strict, without rowid;
