-- Every position that a destination committed, so that an operator can go back to one.
create table checkpoints (
    connection text collate "C" not null references connections (id) on delete cascade,
    seq bigint not null,
    position text not null,
    committed_at bigint not null,
    primary key (connection, seq)
);
