-- A ledger of schema version 3, as it was written: the same story as in ledger_v1.sql; the second file could not be read twice.
-- {serial} is the type of a column that counts by itself.
CREATE TABLE arrivals (
    seq {serial} NOT NULL, id VARCHAR NOT NULL, pipeline VARCHAR NOT NULL, name VARCHAR NOT NULL, uri VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL, size BIGINT NOT NULL, stamp VARCHAR NOT NULL, trusted BOOLEAN NOT NULL, state VARCHAR NOT
    NULL, superseded BOOLEAN NOT NULL, accepted BIGINT NOT NULL, rejected BIGINT NOT NULL, repeated BIGINT NOT NULL,
    reason VARCHAR, seen_at VARCHAR NOT NULL, cycle INTEGER, duplicate_of INTEGER, tries INTEGER NOT NULL, PRIMARY KEY
    (seq), UNIQUE (pipeline, id)
);
CREATE INDEX arrivals_by_content ON arrivals (pipeline, sha256);
CREATE INDEX arrivals_by_copied ON arrivals (pipeline, duplicate_of) WHERE duplicate_of IS NOT NULL;
CREATE INDEX arrivals_by_cycle ON arrivals (pipeline, cycle);
CREATE INDEX arrivals_by_order ON arrivals (pipeline, seq);
CREATE INDEX arrivals_by_outcome ON arrivals (pipeline, state, superseded);
CREATE INDEX arrivals_by_uri ON arrivals (pipeline, uri);
CREATE TABLE champions (
    id {serial} NOT NULL, pipeline VARCHAR NOT NULL, version INTEGER NOT NULL, since VARCHAR NOT NULL, until VARCHAR,
    record TEXT NOT NULL, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX one_champion ON champions (pipeline) WHERE until IS NULL;
CREATE TABLE cycles (
    pipeline VARCHAR NOT NULL, id INTEGER NOT NULL, "trigger" VARCHAR NOT NULL, token INTEGER NOT NULL, definition
    VARCHAR NOT NULL, started_at VARCHAR NOT NULL, ended_at VARCHAR, state VARCHAR NOT NULL, error TEXT, flow_run
    VARCHAR, PRIMARY KEY (pipeline, id)
);
CREATE TABLE decisions (
    pipeline VARCHAR NOT NULL, cycle INTEGER NOT NULL, verdict VARCHAR NOT NULL, trained_rows BIGINT, at VARCHAR NOT
    NULL, record TEXT NOT NULL, PRIMARY KEY (pipeline, cycle)
);
CREATE TABLE leases (
    pipeline VARCHAR NOT NULL, token INTEGER NOT NULL, holder VARCHAR, expires_at VARCHAR, PRIMARY KEY (pipeline)
);
CREATE TABLE letters (
    id {serial} NOT NULL, pipeline VARCHAR NOT NULL, queue VARCHAR NOT NULL, message VARCHAR NOT NULL, body TEXT NOT
    NULL, reason TEXT NOT NULL, at VARCHAR NOT NULL, PRIMARY KEY (id), UNIQUE (queue, message)
);
CREATE TABLE meta (
    name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (name)
);
CREATE TABLE outbox (
    id {serial} NOT NULL, pipeline VARCHAR NOT NULL, cycle INTEGER NOT NULL, effect VARCHAR NOT NULL, payload TEXT NOT
    NULL, done_at VARCHAR, PRIMARY KEY (id)
);
CREATE TABLE proposals (
    pipeline VARCHAR NOT NULL, cycle INTEGER NOT NULL, state VARCHAR NOT NULL, expected INTEGER, record TEXT NOT NULL, at
    VARCHAR NOT NULL, decided_at VARCHAR, who VARCHAR, why TEXT, PRIMARY KEY (pipeline, cycle)
);
CREATE TABLE receipts (
    id {serial} NOT NULL, pipeline VARCHAR NOT NULL, outcome VARCHAR NOT NULL, rule VARCHAR NOT NULL, why TEXT NOT NULL,
    "trigger" VARCHAR NOT NULL, outstanding INTEGER NOT NULL, cycle INTEGER, first_at VARCHAR NOT NULL, last_at VARCHAR
    NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX receipts_by_pipeline ON receipts (pipeline, id);
CREATE TABLE spendings (
    pipeline VARCHAR NOT NULL, cycle INTEGER NOT NULL, evidence VARCHAR NOT NULL, level FLOAT NOT NULL, moment VARCHAR NOT
    NULL, PRIMARY KEY (pipeline, cycle)
);
INSERT INTO meta VALUES ('schema', '3');
INSERT INTO arrivals (id, pipeline, name, uri, sha256, size, stamp, trusted, state, superseded, accepted, rejected, repeated, seen_at, cycle, tries)
VALUES ('i1', 'p', 'a', '/a', 'one', 1, 'one-stamp', true, 'ingested', false, 3, 0, 0, '2026-01-01T00:00:00.000000+00:00', 1, 0);
INSERT INTO arrivals (id, pipeline, name, uri, sha256, size, stamp, trusted, state, superseded, accepted, rejected, repeated, seen_at, tries)
VALUES ('i2', 'p', 'b', '/b', 'two', 1, 'two-stamp', true, 'pending', false, 0, 0, 0, '2026-01-02T00:00:00.000000+00:00', 2);
INSERT INTO champions (pipeline, version, since, record) VALUES ('p', 7, '2026-01-01T00:01:00.000000+00:00',
    '{"pipeline": "p", "version": 7, "model_uri": "models:/m-7", "sha256": "sha", "cycle": 1, "candidate": "c", "params": {}, "trained_until": null, "trained_version": 1, "since": "2026-01-01T00:01:00.000000+00:00", "until": null, "reason": null}');
INSERT INTO cycles VALUES ('p', 1, 'manual', 1, 'd', '2026-01-01T00:00:00.000000+00:00', '2026-01-01T00:01:00.000000+00:00', 'done', NULL, NULL);
INSERT INTO cycles VALUES ('p', 2, 'manual', 2, 'd', '2026-01-02T00:00:00.000000+00:00', NULL, 'running', NULL, NULL);
INSERT INTO leases VALUES ('p', 2, 'elsewhere/1/1', '2026-01-02T00:01:00.000000+00:00');
