-- The audit: who did what to whom, when, from where. Every change is an event already; decision 019.

-- What one request set off. Ids of requests rise with time, so this grows at its end.
CREATE INDEX events_of_request ON events ((metadata ->> 'correlation_id'), position);
-- What a person did. Processes do most of it, and are not looked for.
CREATE INDEX events_of_person ON events ((metadata ->> 'actor'), position)
    WHERE metadata ->> 'actor' NOT LIKE 'system:%';
-- The log is written in order of time but for imports: a summary of each stretch is enough, and costs an append nothing.
CREATE INDEX events_by_time ON events USING brin (timestamp);

-- What changes nothing, and is to be known all the same: logging in, being refused, mending.
CREATE TABLE deeds
(
    position bigint                   NOT NULL,
    id       text COLLATE "C"         NOT NULL,
    kind     text                     NOT NULL,
    actor    text                     NOT NULL,
    subject  text,
    detail   text,
    request  text,
    address  text,
    time     timestamptz              NOT NULL,
    times    integer CHECK (times > 0) NOT NULL,
    PRIMARY KEY (position, id)
);
CREATE INDEX ON deeds (actor, position, id) WHERE actor <> 'anonymous';
CREATE INDEX ON deeds (subject, position, id) WHERE subject IS NOT NULL;
CREATE INDEX ON deeds (request) WHERE request IS NOT NULL;
CREATE INDEX ON deeds (time);

COMMENT ON TABLE deeds IS 'what people did that is no event; trimmed by age';
COMMENT ON COLUMN deeds.position IS 'where the log ended when it was done: its place among the events';
COMMENT ON COLUMN deeds.id IS 'a ULID, rising within one process';
COMMENT ON COLUMN deeds.actor IS 'as in the metadata of events';
COMMENT ON COLUMN deeds.subject IS 'the id of the account or session it was done to, if there is one';
COMMENT ON COLUMN deeds.detail IS 'our own words and names: never anything that was typed';
COMMENT ON COLUMN deeds.address IS 'of the client; personal data';
COMMENT ON COLUMN deeds.times IS 'how often, in a moment: refusals alike are written as one';
