-- Who reads the log, and how far each has come. DESIGN V1, V3, V5.

-- Moves in the transaction of what was applied.
CREATE TABLE checkpoints
(
    consumer    text        PRIMARY KEY,
    position    bigint      NOT NULL DEFAULT 0,
    incarnation text        NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One worker at a time per consumer. Apart from the checkpoint, so that renewing never waits for a batch.
-- `epoch` rises whenever the lease changes hands: whoever carries an older one can no longer write.
CREATE TABLE leases
(
    consumer   text        PRIMARY KEY,
    owner      text        NOT NULL,
    epoch      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Events a consumer could not apply, and everything of the same aggregate behind them.
CREATE TABLE dead_letters
(
    consumer       text        NOT NULL,
    position       bigint      NOT NULL,
    aggregate_type text        NOT NULL,
    aggregate_id   text        NOT NULL,
    error          text,
    parked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, position)
);
CREATE INDEX ON dead_letters (consumer, aggregate_type, aggregate_id);

COMMENT ON COLUMN dead_letters.error IS 'why it could not be applied; null for one that only waits behind another';
