-- What orders show of their payment, and users of the means of payment they keep. Until now the API took neither, so the
-- defaults are what the log says.
ALTER TABLE orders
    ADD COLUMN payment_status   text,
    ADD COLUMN authorised_minor bigint NOT NULL DEFAULT 0,
    ADD COLUMN captured_minor   bigint NOT NULL DEFAULT 0,
    ADD COLUMN paid_back_minor  bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN orders.refunded_minor IS 'promised back, for returned goods and without them';
COMMENT ON COLUMN orders.payment_status IS 'null: placed without a means of payment';
COMMENT ON COLUMN orders.paid_back_minor IS 'gone back by the payment gateway';

ALTER TABLE users
    ADD COLUMN payment_methods json NOT NULL DEFAULT '[]';

COMMENT ON COLUMN users.payment_methods IS 'ids and labels; what the gateway calls them stays in the log';
