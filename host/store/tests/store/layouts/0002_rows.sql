-- What an installation of the second layout held. The word SECRETS stands for the bytes 1, 2, 3, which each database spells
-- in its own way.
insert into plugins (name, version, digest, api_version, title, docs, config_schema, permissions, installed_at)
values ('files', '1.2.3', 'abab', '0.1.0', 'Files', '# Files', '{"type":"object"}', '{"hosts":[]}', 1700000000000);
insert into grants (plugin, pattern, granted_at) values ('files', 'example.org', 1700000000001);
insert into connections (id, plugin, config, secrets, streams, destination, catalog, created_at, updated_at)
values ('flights', 'files', '{"url":"https://example.org"}', SECRETS, '[]', null, null, 1700000000002, 1700000000003);
insert into runs (id, connection, subject, kind, run_trigger, status, request, holder, expires_at, epoch, cancel_requested,
  queued_at, started_at, finished_at, report, failure)
values ('01HF7YAT00', 'flights', null, 'sync', 'manual', 'succeeded', 'null', 'gone', null, 4, 0, 1700000000004,
  1700000000005, 1700000000006, '{"batches":1}', null);
insert into runs (id, connection, subject, kind, run_trigger, status, request, holder, expires_at, epoch, cancel_requested,
  queued_at, started_at, finished_at, report, failure)
values ('01HF7YAT01', 'flights', null, 'sync', 'api', 'queued', '{"full_refresh":false}', null, null, null, 0, 1700000000007,
  null, null, 'null', null);
insert into leases (connection, epoch, holder, acquired_at, expires_at) values ('flights', 4, null, 1, 2);
insert into positions (connection, seq, position, updated_at)
values ('flights', 7, '{"streams":{"flights":{"completed":"seven"}}}', 1700000000006);
insert into checkpoints (connection, seq, position, committed_at)
values ('flights', 7, '{"streams":{"flights":{"completed":"seven"}}}', 1700000000006);
insert into logs (run, seq, at, level, source, message) values ('01HF7YAT00', 1, 1700000000005, 'info', 'host', 'begun');
insert into audit (at, actor, action, subject, detail) values (1700000000001, 'cli', 'plugin.grant', 'files', '{}');
