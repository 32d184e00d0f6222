-- What the payment gateway told of its own accord, once per event of its. Written and flushed before the gateway is thanked,
-- dealt with afterwards; kept for longer than the gateway repeats itself. DESIGN 5, decision 014.
CREATE TABLE payment_webhooks
(
    event_id    text        PRIMARY KEY,
    kind        text        NOT NULL,
    reference   text        NOT NULL,
    order_id    text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts    integer     NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at     timestamptz,
    last_error  text
);
-- What is to be done, oldest first; empty but for moments.
CREATE INDEX ON payment_webhooks (received_at, event_id) WHERE done_at IS NULL;
-- What has been done, for whoever throws it away.
CREATE INDEX ON payment_webhooks (done_at) WHERE done_at IS NOT NULL;

COMMENT ON COLUMN payment_webhooks.event_id IS 'by the gateway''s name: what is here already is not taken again';
COMMENT ON COLUMN payment_webhooks.kind IS 'by the gateway''s name; only what the shop has a name for is here';
COMMENT ON COLUMN payment_webhooks.order_id IS 'as the gateway remembers it from when the payment was opened';
COMMENT ON COLUMN payment_webhooks.due_at IS 'when it is dealt with next, by the clock of the database';
COMMENT ON COLUMN payment_webhooks.done_at IS 'when it was dealt with, or given up: then last_error says why';
COMMENT ON COLUMN payment_webhooks.last_error IS 'codes and our own words, never a text of the gateway that could name anybody';

-- A queue that keeps what went through it: looked through by index, and vacuumed by what has changed.
ALTER TABLE payment_webhooks SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
