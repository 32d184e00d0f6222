-- The payment simulator's own books. A bank does not share tables or transactions with its customers, so nothing of the
-- shop refers to these, and they refer to nothing of the shop. In production, with a real gateway, they stay empty.
CREATE SCHEMA simulator;

-- One row for each payment that was ever opened, declined ones too. Half of its pages are kept free for the row that
-- replaces it when it is captured (HOT updates).
CREATE TABLE simulator.payments
(
    reference        text        PRIMARY KEY,
    key              text        NOT NULL UNIQUE,
    order_id         text        NOT NULL,
    method           text        NOT NULL,
    opened_as        text        NOT NULL CHECK (opened_as IN ('AUTHORISED', 'REQUIRES_ACTION', 'DECLINED')),
    status           text        NOT NULL
        CHECK (status IN ('AUTHORISED', 'REQUIRES_ACTION', 'DECLINED', 'CAPTURED', 'VOIDED')),
    decline_reason   text,
    currency         text        NOT NULL,
    amount_minor     bigint      NOT NULL CHECK (amount_minor > 0),
    authorised_minor bigint      NOT NULL CHECK (authorised_minor IN (0, amount_minor)),
    captured_minor   bigint      NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND authorised_minor),
    refunded_minor   bigint      NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    version          bigint      NOT NULL DEFAULT 1,
    webhook_due      boolean     NOT NULL,
    opened_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'DECLINED') = (decline_reason IS NOT NULL))
) WITH (fillfactor = 50);
-- Empty as long as every webhook is delivered.
CREATE INDEX ON simulator.payments (opened_at) WHERE webhook_due;

COMMENT ON COLUMN simulator.payments.key IS 'idempotency key of the request that opened it';
COMMENT ON COLUMN simulator.payments.opened_as IS 'what that request was answered, and is answered again when it is repeated';
COMMENT ON COLUMN simulator.payments.webhook_due IS 'somebody wants to be told of this version, and has not been';

-- Every movement of money, once. Like a bank statement, each entry also says what the balances were behind it: that is
-- what a repeated request is answered.
CREATE TABLE simulator.ledger
(
    kind           text        NOT NULL CHECK (kind IN ('AUTHORISE', 'CAPTURE', 'VOID', 'REFUND')),
    key            text        NOT NULL,
    reference      text        NOT NULL,
    order_id       text        NOT NULL,
    amount_minor   bigint      NOT NULL CHECK (amount_minor >= 0),
    currency       text        NOT NULL,
    captured_after bigint      NOT NULL,
    refunded_after bigint      NOT NULL,
    entered_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key, kind)
);
-- Either taken or let go, and once.
CREATE UNIQUE INDEX ON simulator.ledger (reference) WHERE kind IN ('CAPTURE', 'VOID');

-- How often a payment method that fails a number of times has failed, so that a restart does not begin again.
CREATE TABLE simulator.failures
(
    key    text   PRIMARY KEY,
    failed bigint NOT NULL
);
