//! What the writer says to Postgres.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use kontor_domain::{ClaimChange, ClaimKind};
use sqlx::PgConnection;

use crate::group::{Answer, Facts, Proposal, Verdict};
use crate::writer::LOG_CHANNEL;

/// Asks, under the lock, for all that the verdicts depend on.
pub(crate) async fn ask(connection: &mut PgConnection, group: &[Proposal]) -> Result<Facts, sqlx::Error> {
    let streams: HashSet<(&'static str, &str)> = group
        .iter()
        .map(|p| (p.aggregate_type, p.aggregate_id.as_str()))
        .collect();
    let (types, ids): (Vec<&str>, Vec<&str>) = streams.iter().copied().unzip();
    let row = sqlx::query!(
        r#"SELECT coalesce((SELECT max(position) FROM events), 0) AS "head!",
                  ARRAY(SELECT coalesce((SELECT max(e.sequence) FROM events e
                                         WHERE e.aggregate_type = s.type AND e.aggregate_id = s.id), 0)
                        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS s(type, id, n) ORDER BY n) AS "versions!""#,
        &types as &[&str],
        &ids as &[&str]
    )
    .fetch_one(&mut *connection)
    .await?;
    let versions = streams
        .iter()
        .zip(row.versions)
        .map(|((aggregate_type, id), version)| ((*aggregate_type, (*id).to_owned()), version.unsigned_abs()))
        .collect();
    let holders = holders(connection, group).await?;
    let keys: Vec<&str> = group
        .iter()
        .filter_map(|p| Some(p.key.as_ref()?.key.as_str()))
        .collect();
    let answers = answers(connection, &keys).await?;
    Ok(Facts {
        head: row.head.unsigned_abs(),
        versions,
        holders,
        answers,
    })
}

async fn holders(
    connection: &mut PgConnection,
    group: &[Proposal],
) -> Result<HashMap<(ClaimKind, String), String>, sqlx::Error> {
    let mut holders = HashMap::new();
    let taken: Vec<(ClaimKind, &String)> = group
        .iter()
        .flat_map(|proposal| &proposal.claims)
        .filter_map(|change| match change {
            ClaimChange::Take { kind, value } => Some((*kind, value)),
            ClaimChange::Release { .. } => None,
        })
        .collect();
    if taken.is_empty() {
        return Ok(holders);
    }
    let kinds: Vec<&str> = taken.iter().map(|(kind, _)| kind.as_str()).collect();
    let values: Vec<&str> = taken.iter().map(|(_, value)| value.as_str()).collect();
    let rows = sqlx::query!(
        r#"SELECT n AS "n!", c.aggregate_id FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(kind, value, n)
           JOIN claims c ON c.kind = w.kind AND c.value = w.value"#,
        &kinds as &[&str],
        &values as &[&str]
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        // Ordinals start at 1.
        if let Some((kind, value)) = usize::try_from(row.n - 1).ok().and_then(|n| taken.get(n)) {
            holders.insert((*kind, (*value).clone()), row.aggregate_id);
        }
    }
    Ok(holders)
}

/// What was answered to those of the keys that have been.
pub(crate) async fn answers(
    connection: &mut PgConnection,
    keys: &[&str],
) -> Result<HashMap<String, Answer>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        "SELECT key, fingerprint, aggregate_type, aggregate_id, first_sequence, last_sequence, position
         FROM answers WHERE key = ANY($1::text[])",
        keys as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let answer = Answer {
                fingerprint: row.fingerprint,
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
                first_sequence: row.first_sequence.unsigned_abs(),
                last_sequence: row.last_sequence.unsigned_abs(),
                position: row.position.unsigned_abs(),
            };
            (row.key, answer)
        })
        .collect())
}

/// What the verdicts allow to be written, column by column.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    events: Events<'a>,
    /// A claim that changes hands within the group ends with its last holder, so only the outcome is written.
    claims: HashMap<(ClaimKind, &'a str), Option<(&'a str, &'a str)>>,
    releases: bool,
    answers: Answers<'a>,
}

#[derive(Default)]
struct Events<'a> {
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    sequences: Vec<i64>,
    event_types: Vec<&'a str>,
    versions: Vec<&'a str>,
    payloads: Vec<&'a str>,
    metadata: Vec<&'a str>,
    times: Vec<DateTime<Utc>>,
    positions: Vec<i64>,
}

#[derive(Default)]
struct Answers<'a> {
    keys: Vec<&'a str>,
    fingerprints: Vec<&'a [u8]>,
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    positions: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(group: &'a [Proposal], verdicts: &[Verdict]) -> Self {
        let mut columns = Self::default();
        for (proposal, verdict) in group.iter().zip(verdicts) {
            if let Verdict::Write { first_position } = verdict {
                columns.push(proposal, *first_position);
            }
        }
        columns
    }

    /// The position of the last event, if there is one.
    pub(crate) fn head(&self) -> Option<u64> {
        self.events
            .positions
            .last()
            .map(|position| position.unsigned_abs())
    }

    fn push(&mut self, proposal: &'a Proposal, first_position: u64) {
        let (mut position, mut sequence) =
            (first_position.cast_signed(), proposal.expected.cast_signed() + 1);
        let events = &mut self.events;
        for event in &proposal.events {
            events.types.push(proposal.aggregate_type);
            events.ids.push(&proposal.aggregate_id);
            events.sequences.push(sequence);
            events.event_types.push(&event.event_type);
            events.versions.push(&event.event_version);
            events.payloads.push(&event.payload);
            events.metadata.push(&proposal.metadata);
            events.times.push(proposal.time);
            events.positions.push(position);
            position += 1;
            sequence += 1;
        }
        for change in &proposal.claims {
            match change {
                ClaimChange::Take { kind, value } => {
                    self.claims.insert(
                        (*kind, value),
                        Some((proposal.aggregate_type, &proposal.aggregate_id)),
                    );
                }
                ClaimChange::Release { kind, value } => {
                    self.claims.insert((*kind, value), None);
                    self.releases = true;
                }
            }
        }
        if let Some(key) = &proposal.key {
            let answers = &mut self.answers;
            answers.keys.push(&key.key);
            answers.fingerprints.push(&key.fingerprint);
            answers.types.push(proposal.aggregate_type);
            answers.ids.push(&proposal.aggregate_id);
            answers.firsts.push(proposal.expected.cast_signed() + 1);
            answers
                .lasts
                .push((proposal.expected + proposal.events.len() as u64).cast_signed());
            answers
                .positions
                .push(proposal.last_position(first_position).cast_signed());
        }
    }

    /// Gives back what is released, or changes hands.
    pub(crate) async fn release(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if !self.releases {
            return Ok(());
        }
        let (kinds, values): (Vec<&str>, Vec<&str>) = self
            .claims
            .keys()
            .map(|(kind, value)| (kind.as_str(), *value))
            .unzip();
        sqlx::query!(
            "DELETE FROM claims c USING unnest($1::text[], $2::text[]) AS w(kind, value)
             WHERE c.kind = w.kind AND c.value = w.value",
            &kinds as &[&str],
            &values as &[&str]
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Writes everything in one statement, and announces the new head once (L12).
    pub(crate) async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Self {
            events,
            claims,
            answers,
            ..
        } = self;
        let taken: Vec<_> = claims
            .iter()
            .filter_map(|(claim, holder)| holder.map(|holder| (claim, holder)))
            .collect();
        if events.positions.is_empty() && taken.is_empty() && answers.keys.is_empty() {
            return Ok(());
        }
        let claim_kinds: Vec<&str> = taken.iter().map(|((kind, _), _)| kind.as_str()).collect();
        let claim_values: Vec<&str> = taken.iter().map(|((_, value), _)| *value).collect();
        let claim_types: Vec<&str> = taken
            .iter()
            .map(|(_, (aggregate_type, _))| *aggregate_type)
            .collect();
        let claim_ids: Vec<&str> = taken.iter().map(|(_, (_, id))| *id).collect();
        sqlx::query!(
            "WITH appended AS (
                 INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version,
                                     payload, metadata, timestamp, position)
                 SELECT type, id, sequence, event_type, version, payload::json, metadata::json, time, position
                 FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::text[],
                             $8::timestamptz[], $9::int8[])
                      AS e(type, id, sequence, event_type, version, payload, metadata, time, position)
             ), claimed AS (
                 INSERT INTO claims (kind, value, aggregate_type, aggregate_id)
                 SELECT * FROM unnest($10::text[], $11::text[], $12::text[], $13::text[])
             ), answered AS (
                 INSERT INTO answers (key, fingerprint, aggregate_type, aggregate_id,
                                      first_sequence, last_sequence, position)
                 SELECT * FROM unnest($14::text[], $15::bytea[], $16::text[], $17::text[],
                                      $18::int8[], $19::int8[], $20::int8[])
             )
             SELECT pg_notify($21, $22)",
            &events.types as &[&str],
            &events.ids as &[&str],
            &events.sequences,
            &events.event_types as &[&str],
            &events.versions as &[&str],
            &events.payloads as &[&str],
            &events.metadata as &[&str],
            &events.times,
            &events.positions,
            &claim_kinds as &[&str],
            &claim_values as &[&str],
            &claim_types as &[&str],
            &claim_ids as &[&str],
            &answers.keys as &[&str],
            &answers.fingerprints as &[&[u8]],
            &answers.types as &[&str],
            &answers.ids as &[&str],
            &answers.firsts,
            &answers.lasts,
            &answers.positions,
            LOG_CHANNEL,
            self.head().map(|head| head.to_string()).unwrap_or_default()
        )
        .fetch_one(connection)
        .await?;
        Ok(())
    }
}
