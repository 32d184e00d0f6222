-- Personal data rests sealed: in events, snapshots and views it is encrypted with a key of the person's own, and that key
-- with the key-encryption key, which is not in the database. Decision 018.

-- A row stays for ever, also when its key is gone, so that nobody who was erased gets a new one.
CREATE TABLE person_keys
(
    user_id    text        PRIMARY KEY,
    wrapped    bytea,
    kek_id     text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at  timestamptz,
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL) AND (wrapped IS NULL) = (kek_id IS NULL))
);

COMMENT ON TABLE person_keys IS 'the key each person''s data is sealed with, itself encrypted';
COMMENT ON COLUMN person_keys.kek_id IS 'names the key-encryption key it is encrypted with';
COMMENT ON COLUMN person_keys.erased_at IS 'when the key was destroyed; what it sealed cannot be read by anybody any more';

-- What is claimed and personal (e-mail addresses) stands in `claims` as a hash keyed with this.
CREATE TABLE index_keys
(
    purpose    text        PRIMARY KEY,
    wrapped    bytea       NOT NULL,
    kek_id     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Of somebody who was erased only the bones are left.
ALTER TABLE users
    ALTER COLUMN email DROP NOT NULL,
    ALTER COLUMN name DROP NOT NULL;

-- They hold personal data in the clear; the log has all that is in them.
DELETE FROM snapshots WHERE aggregate_type IN ('user', 'order');

-- Whoever is erased has no rights any more.
DROP INDEX events_of_rights;
CREATE INDEX events_of_rights ON events (timestamp)
    WHERE aggregate_type = 'user'
      AND event_type IN ('Deactivated', 'PasswordChanged', 'RoleGranted', 'RoleRevoked', 'Erased');

-- What was erased where: one row for each person who was. Nothing of theirs is in it.
CREATE TABLE erasures
(
    user_id     text        PRIMARY KEY,
    position    bigint      NOT NULL,
    erased_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    certificate json,
    sessions    bigint
);

COMMENT ON COLUMN erasures.position IS 'of the event that ended the account';
COMMENT ON COLUMN erasures.certificate IS 'what was erased; null as long as the key is not destroyed';
COMMENT ON COLUMN erasures.sessions IS 'how many were ended; null as long as that is not done';

-- Nobody has been erased so far, so nothing in the log needs to be read for it.
INSERT INTO checkpoints (consumer, position, incarnation)
SELECT consumer, coalesce((SELECT max(position) FROM events), 0), incarnation
FROM log, (VALUES ('erasure'), ('erased_sessions')) AS new (consumer);
