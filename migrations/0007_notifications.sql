-- What customers are told, by which channel, and whether they were: once per event and channel, whoever repeats what. Names,
-- addresses and texts are not here; they are put together when it is sent. DESIGN 5.
CREATE TABLE notifications
(
    position   bigint      NOT NULL,
    channel    text        NOT NULL CHECK (channel IN ('EMAIL', 'SMS')),
    occasion   text        NOT NULL,
    user_id    text        NOT NULL,
    order_id   text,
    message_id text        NOT NULL,
    state      text        NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING', 'SENT', 'SKIPPED', 'DEAD')),
    attempts   integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text,
    sent_at    timestamptz,
    PRIMARY KEY (position, channel)
);
-- Only what is still to be done is ever looked for; the rest is a record.
CREATE INDEX ON notifications (channel, due_at, position) WHERE state = 'WAITING';
CREATE INDEX ON notifications (position, channel) WHERE state = 'DEAD';

COMMENT ON TABLE notifications IS 'one message to a customer, about one event, on one channel';
COMMENT ON COLUMN notifications.position IS 'of the event it tells of';
COMMENT ON COLUMN notifications.message_id IS 'follows from log, position and channel, so that whoever gets a message twice can tell';
COMMENT ON COLUMN notifications.state IS 'SKIPPED: the customer does not want it any more, or cannot be reached there';
COMMENT ON COLUMN notifications.due_at IS 'when it is tried next, by the clock of the database';
COMMENT ON COLUMN notifications.last_error IS 'why it was not sent: codes and our own words, never a text of the provider';

-- Where customers want to be told, as far as the consumer has read; who never chose is not here. Its own, because the
-- view of users may be behind it.
CREATE TABLE notification_choices
(
    user_id  text    PRIMARY KEY,
    by_email boolean NOT NULL,
    by_sms   boolean NOT NULL
);

-- The same for the view of users. Until now nobody could choose, so the defaults are what the log says.
ALTER TABLE users
    ADD COLUMN by_email boolean NOT NULL DEFAULT true,
    ADD COLUMN by_sms   boolean NOT NULL DEFAULT false;

-- A shop that was open before there were notifications does not tell its customers of years past.
INSERT INTO checkpoints (consumer, position, incarnation)
SELECT 'notifications', coalesce((SELECT max(position) FROM events), 0), incarnation
FROM log;
