-- Tokens of the API. Of a token only a keyed digest is kept; revoked ones stay, so that the audit log can be read.
create table tokens (
    id text not null primary key,
    name text not null,
    -- Null: all workspaces.
    workspace text references workspaces (id),
    role text not null,
    digest text not null unique,
    created_at bigint not null,
    created_by text not null,
    expires_at bigint,
    last_used_at bigint,
    revoked_at bigint
);

create unique index live_tokens_by_name on tokens (name) where revoked_at is null;
