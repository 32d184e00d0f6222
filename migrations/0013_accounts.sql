-- Sessions and accounts.

-- Whose rights changed within the last minutes: read when a process starts. Few events are of these kinds, so the index
-- costs the log next to nothing.
CREATE INDEX events_of_rights ON events (timestamp)
    WHERE aggregate_type = 'user'
      AND event_type IN ('Deactivated', 'PasswordChanged', 'RoleGranted', 'RoleRevoked');

-- Sessions that were ended, for as long as an access token of theirs may live. Sessions themselves are in Redis.
CREATE TABLE ended_sessions
(
    session_id text        PRIMARY KEY,
    ended_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON ended_sessions (ended_at);

COMMENT ON TABLE ended_sessions IS 'sessions whose access tokens are good no more; forgotten when those have expired';
COMMENT ON COLUMN ended_sessions.ended_at IS 'by the clock of the database: every process polls for what is new';

-- Mails that are wanted about an account: to set a password that was forgotten, to verify an address.
CREATE TABLE account_mails
(
    id         bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    purpose    text        NOT NULL CHECK (purpose IN ('RESET_PASSWORD', 'VERIFY_EMAIL')),
    user_id    text,
    attempts   int         NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON account_mails (due_at, id);

COMMENT ON TABLE account_mails IS 'mails about accounts that are to be sent; gone when they are';
COMMENT ON COLUMN account_mails.user_id IS 'null: somebody typed an address that nobody has, and must not notice';

-- What such a mail proves. Only a hash, and not for long.
CREATE TABLE account_tokens
(
    hash       bytea       PRIMARY KEY,
    user_id    text        NOT NULL,
    purpose    text        NOT NULL CHECK (purpose IN ('RESET_PASSWORD', 'VERIFY_EMAIL')),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON account_tokens (user_id);
CREATE INDEX ON account_tokens (expires_at);

COMMENT ON TABLE account_tokens IS 'tokens in mails, each good once';
COMMENT ON COLUMN account_tokens.hash IS 'SHA-256 of the token, its purpose and the address it was sent to';

ALTER TABLE users ADD COLUMN email_verified boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN users.email_verified IS 'whether somebody has shown that they read mail sent there';
