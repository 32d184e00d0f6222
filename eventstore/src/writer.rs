//! The one way into the log: a writer task per process that writes together what arrives together (L2, L3).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontor_domain::{ClaimChange, ClaimKind};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::group::{Answer, AppendError, Appended, Facts, Proposal, Verdict, judge};
use crate::recorded::Recorded;
use crate::tail::Tail;

/// The channel on which a committed group announces the new head of the log (L12).
pub(crate) const LOG_CHANNEL: &str = "kontor_log";
/// `pg_advisory_xact_lock` key of the log's writers; any number, the same in every process.
const WRITER_LOCK: i64 = 0x4b6f_6e74_6f72;
/// Commands in one transaction at most: bounds how long the log's lock is held.
const GROUP_LIMIT: usize = 1_024;
/// Commands waiting at most; further senders wait.
const QUEUE: usize = 8_192;
/// How long commands wait for a database that is away before they are told so.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn spawn(pool: &PgPool, tail: Arc<Tail>) -> mpsc::Sender<Proposal> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let options = (*pool.connect_options())
        .clone()
        .application_name("kontor writer");
    tokio::spawn(
        Writer {
            options,
            connection: None,
            tail,
        }
        .run(receiver),
    );
    sender
}

struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    tail: Arc<Tail>,
}

/// How a try at writing a group ended, when it did not succeed.
enum Failure {
    /// Nothing was written.
    Nothing(sqlx::Error),
    /// The connection broke during COMMIT.
    Unknown(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Nothing(error)
    }
}

impl Writer {
    /// Ends when every [`crate::Store`] is gone.
    async fn run(mut self, mut receiver: mpsc::Receiver<Proposal>) {
        let mut group = Vec::new();
        // Never waits for more: while one group is being written, the next one gathers by itself.
        while receiver.recv_many(&mut group, GROUP_LIMIT).await > 0 {
            self.settle(std::mem::take(&mut group)).await;
        }
    }

    /// Writes the group and answers everyone in it, whatever it takes.
    async fn settle(&mut self, mut group: Vec<Proposal>) {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        let verdicts = loop {
            let error = match self.write(&group).await {
                Ok(verdicts) => break verdicts,
                Err(Failure::Nothing(error)) => error,
                Err(Failure::Unknown(error)) => match self.find_out(&group).await {
                    Some(verdicts) => break verdicts,
                    None => error,
                },
            };
            self.connection = None;
            let ours = error.as_database_error().is_some_and(|e| !is_outage(e));
            if ours && group.len() > 1 {
                // One command that Postgres will not store must not take its neighbours down.
                warn!(%error, group = group.len(), "group refused by postgres; writing its commands one by one");
                for proposal in group {
                    Box::pin(self.settle(vec![proposal])).await;
                }
                return;
            }
            if ours || started.elapsed() > PATIENCE {
                error!(%error, group = group.len(), "group not written");
                for proposal in group {
                    proposal.chain.break_off();
                    let _ = proposal
                        .reply
                        .send(Err(AppendError::Unavailable(error.to_string())));
                }
                return;
            }
            warn!(%error, "log not writable, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        };
        metrics::histogram!("kontor_append_seconds").record(started.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a group has at most 1,024 commands")]
        metrics::histogram!("kontor_append_group_size").record(group.len() as f64);
        self.publish(&mut group, &verdicts);
        for (proposal, verdict) in group.into_iter().zip(verdicts) {
            let answer = match verdict {
                Verdict::Write { first_position } => Ok(Appended::Written {
                    position: proposal.last_position(first_position),
                }),
                Verdict::Answer(answer) => answer,
            };
            // Whoever asked may have gone; the command is done all the same (L5).
            let _ = proposal.reply.send(answer);
        }
    }

    /// One transaction for the group.
    async fn write(&mut self, group: &[Proposal]) -> Result<Vec<Verdict>, Failure> {
        let connection = self.connect().await?;
        // The lock is a statement of its own: the next statement's snapshot is taken when it is held (L3).
        connection
            .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
            .await?;
        let facts = ask(connection, group).await?;
        let verdicts = judge(group, facts);
        let mut last = None;
        for (proposal, verdict) in group.iter().zip(&verdicts) {
            if let Verdict::Write { first_position } = verdict
                && !proposal.events.is_empty()
            {
                last = Some(proposal.last_position(*first_position));
            }
        }
        insert(connection, group, &verdicts).await?;
        let commit = last.map_or_else(
            || "COMMIT".to_owned(),
            |head| format!("NOTIFY {LOG_CHANNEL}, '{head}'; COMMIT"),
        );
        match connection.execute(commit.as_str()).await {
            Ok(_) => Ok(verdicts),
            Err(error @ sqlx::Error::Database(_)) if !is_outage_error(&error) => Err(Failure::Nothing(error)),
            Err(error) => Err(Failure::Unknown(error)),
        }
    }

    /// After a COMMIT nobody confirmed: was the group written? Its own connection is dead, so its transaction is
    /// over by the time the log's lock can be taken. `None`: not written (or still nobody to ask).
    async fn find_out(&mut self, group: &[Proposal]) -> Option<Vec<Verdict>> {
        let started = Instant::now();
        loop {
            self.connection = None;
            match self.written_before(group).await {
                Ok(verdicts) => return verdicts,
                Err(error) if started.elapsed() < PATIENCE * 3 => {
                    warn!(%error, "asking whether a group was committed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    error!(%error, "a group's commit is unknown: the log was away for too long");
                    return None;
                }
            }
        }
    }

    async fn written_before(&mut self, group: &[Proposal]) -> Result<Option<Vec<Verdict>>, sqlx::Error> {
        let connection = self.connect().await?;
        connection
            .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
            .await?;
        let mut verdicts = Vec::with_capacity(group.len());
        let mut any = false;
        for proposal in group {
            let row = sqlx::query!(
                "SELECT position, metadata->>'command_id' AS command_id FROM events
                 WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence = $3",
                proposal.aggregate_type,
                proposal.aggregate_id,
                proposal.expected.cast_signed() + 1
            )
            .fetch_optional(&mut *connection)
            .await?;
            verdicts.push(match row {
                Some(row)
                    if !proposal.events.is_empty()
                        && row.command_id.as_ref() == Some(&proposal.command_id) =>
                {
                    any = true;
                    Verdict::Write {
                        first_position: row.position.unsigned_abs(),
                    }
                }
                // It was refused, or had nothing to write: decide it again on what is there now.
                _ => {
                    proposal.chain.break_off();
                    Verdict::Answer(Err(AppendError::Stale))
                }
            });
        }
        connection.execute("COMMIT").await?;
        Ok(any.then_some(verdicts))
    }

    async fn connect(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.options.connect().await?;
                // A transaction that a broken network left behind must not hold the log's lock for long.
                connection
                    .execute("SET idle_in_transaction_session_timeout = '5s'")
                    .await?;
                connection.ping().await?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Hands what was written to the readers of this process, decoded as it is.
    fn publish(&self, group: &mut [Proposal], verdicts: &[Verdict]) {
        let mut recorded = Vec::new();
        for (proposal, verdict) in group.iter_mut().zip(verdicts) {
            let Verdict::Write { first_position } = verdict else {
                continue;
            };
            let (mut position, mut sequence) = (*first_position, proposal.expected + 1);
            let metadata = Bytes::from(std::mem::take(&mut proposal.metadata));
            // The count of events is still needed for the answer, so they stay, emptied of their bodies.
            for event in &mut proposal.events {
                recorded.push(Arc::new(Recorded::new(
                    position,
                    sequence,
                    proposal.time,
                    event.body.clone(),
                    metadata.clone(),
                )));
                position += 1;
                sequence += 1;
            }
        }
        self.tail.offer(recorded);
    }
}

/// Asks, under the lock, for all that the verdicts depend on.
async fn ask(connection: &mut PgConnection, group: &[Proposal]) -> Result<Facts, sqlx::Error> {
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
    let answers = answers(connection, group).await?;
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

async fn answers(
    connection: &mut PgConnection,
    group: &[Proposal],
) -> Result<HashMap<String, Answer>, sqlx::Error> {
    let keys: Vec<&str> = group
        .iter()
        .filter_map(|p| p.key.as_ref())
        .map(|k| k.key.as_str())
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        "SELECT key, fingerprint, aggregate_type, aggregate_id, first_sequence, last_sequence, position
         FROM answers WHERE key = ANY($1::text[])",
        &keys as &[&str]
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

/// Writes what the verdicts allow: events, claims and answers of the group, one statement each.
async fn insert(
    connection: &mut PgConnection,
    group: &[Proposal],
    verdicts: &[Verdict],
) -> Result<(), sqlx::Error> {
    let mut events = EventColumns::default();
    let mut claims = ClaimColumns::default();
    let mut answers = AnswerColumns::default();
    for (proposal, verdict) in group.iter().zip(verdicts) {
        let Verdict::Write { first_position } = verdict else {
            continue;
        };
        events.push(proposal, *first_position);
        claims.push(proposal);
        answers.push(proposal, *first_position);
    }
    claims.release(connection).await?;
    events.insert(connection).await?;
    claims.take(connection).await?;
    answers.insert(connection).await
}

#[derive(Default)]
struct EventColumns<'a> {
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    sequences: Vec<i64>,
    event_types: Vec<&'a str>,
    versions: Vec<&'a str>,
    payloads: Vec<&'a str>,
    metadata: Vec<&'a str>,
    times: Vec<chrono::DateTime<chrono::Utc>>,
    positions: Vec<i64>,
}

impl<'a> EventColumns<'a> {
    fn push(&mut self, proposal: &'a Proposal, first_position: u64) {
        let (mut position, mut sequence) =
            (first_position.cast_signed(), proposal.expected.cast_signed() + 1);
        for event in &proposal.events {
            self.types.push(proposal.aggregate_type);
            self.ids.push(&proposal.aggregate_id);
            self.sequences.push(sequence);
            self.event_types.push(&event.event_type);
            self.versions.push(&event.event_version);
            self.payloads.push(&event.payload);
            self.metadata.push(&proposal.metadata);
            self.times.push(proposal.time);
            self.positions.push(position);
            position += 1;
            sequence += 1;
        }
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.positions.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version,
                                 payload, metadata, timestamp, position)
             SELECT type, id, sequence, event_type, version, payload::json, metadata::json, time, position
             FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::timestamptz[], $9::int8[])
                  AS e(type, id, sequence, event_type, version, payload, metadata, time, position)",
            &self.types as &[&str],
            &self.ids as &[&str],
            &self.sequences,
            &self.event_types as &[&str],
            &self.versions as &[&str],
            &self.payloads as &[&str],
            &self.metadata as &[&str],
            &self.times,
            &self.positions
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// A claim that changes hands within the group ends with its last holder, so only the outcome is written.
#[derive(Default)]
struct ClaimColumns<'a>(HashMap<(ClaimKind, &'a str), Option<(&'a str, &'a str)>>);

impl<'a> ClaimColumns<'a> {
    fn push(&mut self, proposal: &'a Proposal) {
        for change in &proposal.claims {
            match change {
                ClaimChange::Take { kind, value } => self.0.insert(
                    (*kind, value),
                    Some((proposal.aggregate_type, &proposal.aggregate_id)),
                ),
                ClaimChange::Release { kind, value } => self.0.insert((*kind, value), None),
            };
        }
    }

    async fn release(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (kinds, values): (Vec<&str>, Vec<&str>) =
            self.0.keys().map(|(kind, value)| (kind.as_str(), *value)).unzip();
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

    async fn take(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let taken: Vec<_> = self
            .0
            .iter()
            .filter_map(|(claim, holder)| holder.map(|holder| (claim, holder)))
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        let kinds: Vec<&str> = taken.iter().map(|((kind, _), _)| kind.as_str()).collect();
        let values: Vec<&str> = taken.iter().map(|((_, value), _)| *value).collect();
        let types: Vec<&str> = taken
            .iter()
            .map(|(_, (aggregate_type, _))| *aggregate_type)
            .collect();
        let ids: Vec<&str> = taken.iter().map(|(_, (_, id))| *id).collect();
        sqlx::query!(
            "INSERT INTO claims (kind, value, aggregate_type, aggregate_id)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])",
            &kinds as &[&str],
            &values as &[&str],
            &types as &[&str],
            &ids as &[&str]
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

#[derive(Default)]
struct AnswerColumns<'a> {
    keys: Vec<&'a str>,
    fingerprints: Vec<&'a [u8]>,
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    positions: Vec<i64>,
}

impl<'a> AnswerColumns<'a> {
    fn push(&mut self, proposal: &'a Proposal, first_position: u64) {
        let Some(key) = &proposal.key else { return };
        self.keys.push(&key.key);
        self.fingerprints.push(&key.fingerprint);
        self.types.push(proposal.aggregate_type);
        self.ids.push(&proposal.aggregate_id);
        self.firsts.push(proposal.expected.cast_signed() + 1);
        self.lasts
            .push((proposal.expected + proposal.events.len() as u64).cast_signed());
        self.positions
            .push(proposal.last_position(first_position).cast_signed());
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "INSERT INTO answers (key, fingerprint, aggregate_type, aggregate_id, first_sequence, last_sequence, position)
             SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::int8[])",
            &self.keys as &[&str],
            &self.fingerprints as &[&[u8]],
            &self.types as &[&str],
            &self.ids as &[&str],
            &self.firsts,
            &self.lasts,
            &self.positions
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

fn is_outage_error(error: &sqlx::Error) -> bool {
    error.as_database_error().is_none_or(is_outage)
}

/// Classes 08 (connection), 53 (out of resources), 57 (shut down, starting up) and 25P03 (our own idle
/// time-out) pass by themselves, and so do serialisation failures and deadlocks (40).
fn is_outage(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| {
        code == "25P03"
            || ["08", "40", "53", "57"]
                .iter()
                .any(|class| code.starts_with(class))
    })
}
