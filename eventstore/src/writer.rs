//! The one way into the log: a writer task per process that writes together what arrives together (L2, L3).
//!
//! Positions have no gaps, and a writer gives out only positions behind the newest it has seen committed. Two writers
//! that take the same position meet in the unique index: one commits, the other begins again behind it. So position order
//! is commit order by construction (`docs/decisions/001-gapless-positions.md`).
//!
//! While nobody else writes, a group is therefore one statement and one round trip, its expectations left to the
//! unique indexes. When somebody does, or when something must be looked up, writers queue at the log's lock, ask
//! first, and then write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection, PgPool};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::group::{AppendError, Appended, Facts, Proposal, Verdict, all_guarded, judge};
use crate::recorded::Recorded;
use crate::statements::{Columns, ask};
use crate::tail::Tail;

/// The channel on which a committed group announces the new head of the log (L12).
pub(crate) const LOG_CHANNEL: &str = "kontor_log";
/// `pg_advisory_xact_lock` key of the log's writers; any number, the same in every process.
const WRITER_LOCK: i64 = 0x4b6f_6e74_6f72;
/// Commands in one transaction at most: bounds how long the log's lock is held.
const GROUP_LIMIT: usize = 1_024;
/// Commands waiting at most; further senders wait.
const QUEUE: usize = 8_192;
/// Groups that ask first, after another process was found writing.
const CAREFUL: u32 = 32;
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
            head: 0,
            careful: 1,
        }
        .run(receiver),
    );
    sender
}

struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    tail: Arc<Tail>,
    /// The newest position seen committed.
    head: u64,
    /// Groups still to ask first. Never 0 before the first answer, nor after a broken connection.
    careful: u32,
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
    async fn settle(&mut self, group: Vec<Proposal>) {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        // Whether an earlier try may yet turn out to have been committed.
        let mut uncertain = false;
        let verdicts = loop {
            let careful = self.careful > 0 || !all_guarded(&group);
            let written = if careful {
                self.write_asking(&group).await
            } else {
                self.write_at_once(&group).await
            };
            let error = match written {
                // An earlier try has gone through after all, behind the question whether it had: this one is stale
                // because of itself.
                Ok(verdicts) if uncertain && verdicts.contains(&Verdict::Answer(Err(AppendError::Stale))) => {
                    break self.find_out(&group).await.unwrap_or(verdicts);
                }
                Ok(verdicts) => break verdicts,
                Err(error) if is_collision(&error) && started.elapsed() < PATIENCE => {
                    // Another process was faster, or an expectation was wrong; asking tells which.
                    self.careful = CAREFUL;
                    if careful {
                        self.roll_back().await;
                    }
                    match if uncertain {
                        self.find_out(&group).await
                    } else {
                        None
                    } {
                        Some(verdicts) => break verdicts,
                        None => continue,
                    }
                }
                Err(error) if is_outage(&error) => {
                    if let Some(verdicts) = self.find_out(&group).await {
                        break verdicts;
                    }
                    uncertain = true;
                    error
                }
                Err(error) => error,
            };
            self.disconnect();
            let ours = !is_outage(&error);
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
        self.publish(group, verdicts);
    }

    /// One statement, on the expectation that all is as this process last saw it. A wrong one meets a unique index.
    async fn write_at_once(&mut self, group: &[Proposal]) -> Result<Vec<Verdict>, sqlx::Error> {
        let verdicts = judge(group, Facts::as_expected(self.head, group));
        let columns = Columns::of(group, &verdicts);
        let connection = self.connect().await?;
        columns.insert(connection).await?;
        self.head = columns.head().unwrap_or(self.head);
        Ok(verdicts)
    }

    /// One transaction under the log's lock: ask, judge, write.
    async fn write_asking(&mut self, group: &[Proposal]) -> Result<Vec<Verdict>, sqlx::Error> {
        let known = self.head;
        let connection = self.connect().await?;
        // The lock is a statement of its own: the next statement's snapshot is taken when it is held (L3).
        connection
            .execute(format!("BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})").as_str())
            .await?;
        let facts = ask(connection, group).await?;
        let head = facts.head;
        let verdicts = judge(group, facts);
        let columns = Columns::of(group, &verdicts);
        columns.release(connection).await?;
        columns.insert(connection).await?;
        connection.execute("COMMIT").await?;
        self.careful = if head == known {
            self.careful.saturating_sub(1)
        } else {
            CAREFUL.min(self.careful.max(1))
        };
        self.head = columns.head().unwrap_or(head);
        Ok(verdicts)
    }

    async fn roll_back(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.execute("ROLLBACK").await.is_err()
        {
            self.disconnect();
        }
    }

    /// What is on the other end next time may have another history, so it is asked first.
    fn disconnect(&mut self) {
        self.connection = None;
        self.careful = self.careful.max(1);
    }

    /// After a connection broke, perhaps during its commit: was the group written? Its own connection is dead, so its transaction is
    /// over by the time the log's lock can be taken. `None`: not written (or still nobody to ask).
    async fn find_out(&mut self, group: &[Proposal]) -> Option<Vec<Verdict>> {
        let started = Instant::now();
        loop {
            self.disconnect();
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
        let connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let mut connection = self.options.connect().await?;
            // A transaction that a broken network left behind must not hold the log's lock for long.
            connection
                .execute("SET idle_in_transaction_session_timeout = '5s'")
                .await?;
            connection
        };
        Ok(self.connection.insert(connection))
    }

    /// Hands what was written to the readers of this process, decoded as it is; then answers everyone in the group.
    fn publish(&self, group: Vec<Proposal>, verdicts: Vec<Verdict>) {
        let mut recorded = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for (proposal, verdict) in group.into_iter().zip(verdicts) {
            let answer = match verdict {
                Verdict::Write { first_position } => {
                    let position = proposal.last_position(first_position);
                    let metadata = Bytes::from(proposal.metadata);
                    let places = (first_position..).zip(proposal.expected + 1..);
                    recorded.extend(proposal.events.into_iter().zip(places).map(
                        |(event, (position, sequence))| {
                            let metadata = metadata.clone();
                            let event =
                                Recorded::new(position, sequence, proposal.time, event.body, metadata);
                            Arc::new(event)
                        },
                    ));
                    Ok(Appended::Written { position })
                }
                Verdict::Answer(answer) => answer,
            };
            answers.push((proposal.reply, answer));
        }
        self.tail.offer(recorded);
        for (reply, answer) in answers {
            // Whoever asked may have gone; the command is done all the same (L5).
            let _ = reply.send(answer);
        }
    }
}

/// Two writers took the same position, version, claim or key.
fn is_collision(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Whether the database is away or busy, rather than refusing what it was given. Classes 08 (connection), 53 (out of
/// resources), 57 (shut down, starting up) and 25P03 (our own idle time-out) pass by themselves, and so do serialisation
/// failures and deadlocks (40).
fn is_outage(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_none_or(|code| {
            code == "25P03"
                || ["08", "40", "53", "57"]
                    .iter()
                    .any(|class| code.starts_with(class))
        })
}

#[cfg(test)]
mod tests;
