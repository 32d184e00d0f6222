-- What orders wait for that somebody has to be asked for: the gateway, or the customer. Which step it is follows from the
-- order's events (Order::pending); the rest is the diary of whoever asks. Written in the transaction that moves the order
-- process's checkpoint. DESIGN 5, decision 013.
CREATE TABLE pending_orders
(
    order_id       text        PRIMARY KEY,
    version        bigint      NOT NULL,
    step           text        NOT NULL CHECK (step IN ('AUTHORISE', 'CUSTOMER_ACTION', 'CAPTURE', 'VOID', 'REFUND')),
    refunds        integer     NOT NULL DEFAULT 0,
    since          timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts       integer     NOT NULL DEFAULT 0,
    due_at         timestamptz,
    expires_at     timestamptz,
    last_error     text,
    asked_at       timestamptz,
    asked_minor    bigint,
    reference      text,
    correlation_id text        NOT NULL,
    cause          text        NOT NULL,
    traceparent    text
);
-- Oldest first, whoever is due.
CREATE INDEX ON pending_orders (since, order_id) WHERE due_at IS NOT NULL;
CREATE INDEX ON pending_orders (expires_at) WHERE expires_at IS NOT NULL;

COMMENT ON COLUMN pending_orders.version IS 'of the order, when the step was worked out';
COMMENT ON COLUMN pending_orders.refunds IS 'refunds the order knew of by then: tells one refund from the next';
COMMENT ON COLUMN pending_orders.due_at IS 'when it is tried next, by the clock of the database; null: not before staff say so';
COMMENT ON COLUMN pending_orders.expires_at IS 'when an unpaid order is rejected, by the clock of the database';
COMMENT ON COLUMN pending_orders.last_error IS 'codes and our own words, never a text of the gateway that could name anybody';
COMMENT ON COLUMN pending_orders.asked_at IS 'when the gateway was first asked to hold the money, noted before it was asked';
COMMENT ON COLUMN pending_orders.asked_minor IS 'how much the gateway was asked to pay back: a repeat asks for the same';
COMMENT ON COLUMN pending_orders.reference IS 'of a payment of which the order knows nothing yet, as the gateway is still at it';
COMMENT ON COLUMN pending_orders.cause IS 'the event of the order that made it wait for this step';

-- A queue: rows come and go all day. Vacuumed by what has gone rather than by how many there are.
ALTER TABLE pending_orders SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
