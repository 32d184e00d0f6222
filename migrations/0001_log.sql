-- The log: every fact of the shop, written once, in order. DESIGN L1, L3, L4, L11.

-- One row: which log this is. The identity changes when the database turns out to have been restored
-- (another cluster or another timeline), so that whatever lives outside Postgres notices.
CREATE TABLE log
(
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    incarnation text   NOT NULL DEFAULT gen_random_uuid()::text,
    cluster     bigint NOT NULL DEFAULT 0,
    timeline    bigint NOT NULL DEFAULT 0
);

-- As postgres-es lays it out, plus `timestamp` and the global `position`. The payload stays `json`:
-- it is only ever read whole, and `jsonb` replays at half the speed.
CREATE TABLE events
(
    aggregate_type text                         NOT NULL,
    aggregate_id   text                         NOT NULL,
    sequence       bigint CHECK (sequence >= 0) NOT NULL,
    event_type     text                         NOT NULL,
    event_version  text                         NOT NULL,
    payload        json                         NOT NULL,
    metadata       json                         NOT NULL,
    timestamp      timestamptz                  NOT NULL DEFAULT current_timestamp,
    position       bigint CHECK (position > 0)  NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
);
CREATE UNIQUE INDEX ON events (position);

-- Snapshots are a cache; deleting any of them loses nothing.
CREATE TABLE snapshots
(
    aggregate_type   text                                 NOT NULL,
    aggregate_id     text                                 NOT NULL,
    last_sequence    bigint CHECK (last_sequence >= 0)    NOT NULL,
    current_snapshot bigint CHECK (current_snapshot >= 0) NOT NULL,
    payload          json                                 NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
);

-- What may exist only once across all aggregates (e-mail, SKU), case-folded, and who holds it.
CREATE TABLE claims
(
    kind           text NOT NULL,
    value          text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    PRIMARY KEY (kind, value)
);

-- The answer each idempotency key was given, kept for ever. The events it appended are
-- `first_sequence..=last_sequence` of its stream (empty when first > last).
CREATE TABLE answers
(
    key            text   PRIMARY KEY,
    fingerprint    bytea  NOT NULL,
    aggregate_type text   NOT NULL,
    aggregate_id   text   NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence  bigint NOT NULL,
    position       bigint NOT NULL
);

INSERT INTO log DEFAULT VALUES;
