//! Reading the log in position order, at the speed of COPY (V4).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt;
use tokio::runtime::Handle;

use crate::keyring::KeyringError;
use crate::recorded::{Recorded, decode};

/// What may go wrong when reading the log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Postgres said no, or was not there.
    #[error("the log could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// What came was not a binary COPY of `events`.
    #[error("the log's COPY stream is malformed at byte {0} of a row")]
    Malformed(usize),
    /// An aggregate cannot be loaded: an event of its stream is not one this binary knows.
    #[error("an event of the aggregate cannot be decoded: {0}")]
    Undecodable(String),
}

impl From<KeyringError> for ReadError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Unavailable(reason) => Self::Database(sqlx::Error::Protocol(reason)),
            lasting => Self::Undecodable(lasting.to_string()),
        }
    }
}

impl From<ReadError> for sqlx::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error,
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// A row of `events` as it came, not yet decoded: cheap to hand to another thread.
#[derive(Debug, Clone)]
pub struct RawEvent {
    /// See [`Recorded::position`].
    pub position: u64,
    sequence: u64,
    time: DateTime<Utc>,
    /// As stored.
    pub aggregate_type: Bytes,
    /// As stored.
    pub aggregate_id: Bytes,
    event_type: Bytes,
    event_version: Bytes,
    /// JSON.
    pub payload: Bytes,
    /// JSON.
    pub metadata: Bytes,
}

impl RawEvent {
    /// The event it stands for.
    #[must_use]
    pub fn decode(self) -> Recorded {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let body = match (
            std::str::from_utf8(&self.aggregate_type),
            std::str::from_utf8(&self.aggregate_id),
            std::str::from_utf8(&self.event_type),
            std::str::from_utf8(&self.event_version),
        ) {
            (Ok(aggregate_type), Ok(id), Ok(event_type), Ok(version)) => {
                decode(aggregate_type, id, event_type, version, &self.payload)
            }
            // A Postgres database in another encoding than UTF-8; `decode` says that it knows no such aggregate.
            _ => decode(
                &text(&self.aggregate_type),
                &text(&self.aggregate_id),
                "",
                "",
                &[],
            ),
        };
        Recorded::new(self.position, self.sequence, self.time, body, self.metadata)
    }
}

/// The events after position `after` up to and including `to`, in order, in chunks of up to `chunk`.
pub fn read_raw(
    pool: &PgPool,
    after: u64,
    to: u64,
    chunk: usize,
) -> impl Stream<Item = Result<Vec<RawEvent>, ReadError>> + Send + 'static + use<> {
    // COPY takes no parameters; both are integers.
    let statement = format!(
        "COPY (SELECT position, sequence, timestamp, aggregate_type, aggregate_id, event_type, event_version, \
         payload, metadata FROM events WHERE position > {after} AND position <= {to} ORDER BY position) \
         TO STDOUT (FORMAT binary)"
    );
    rows_of(pool.clone(), statement)
        .ready_chunks(chunk)
        .map(|rows| rows.into_iter().collect())
}

/// The events after position `after`, decoded: at most `limit`, fewer only at the head of the log.
///
/// # Errors
/// See [`ReadError`].
pub async fn read(pool: &PgPool, after: u64, limit: u64) -> Result<Vec<Recorded>, ReadError> {
    // Positions have no gaps, so a range is a limit.
    read_raw(pool, after, after.saturating_add(limit), 256)
        .map_ok(|chunk| chunk.into_iter().map(RawEvent::decode).collect::<Vec<_>>())
        .try_concat()
        .await
}

/// A row of `events` as text.
pub(crate) struct Row {
    pub(crate) position: i64,
    pub(crate) sequence: i64,
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) event_version: String,
    pub(crate) payload: String,
    pub(crate) metadata: String,
}

impl From<Row> for Recorded {
    fn from(row: Row) -> Self {
        let body = decode(
            &row.aggregate_type,
            &row.aggregate_id,
            &row.event_type,
            &row.event_version,
            row.payload.as_bytes(),
        );
        Self::new(
            row.position.unsigned_abs(),
            row.sequence.unsigned_abs(),
            row.timestamp,
            body,
            Bytes::from(row.metadata),
        )
    }
}

/// The events at these positions, in order. Where the log has nothing, nothing is answered.
///
/// # Errors
/// See [`ReadError`].
pub(crate) async fn read_at(pool: &PgPool, positions: &[u64]) -> Result<Vec<Recorded>, ReadError> {
    let positions: Vec<i64> = positions.iter().map(|position| position.cast_signed()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position, sequence, timestamp, aggregate_type, aggregate_id, event_type, event_version,
                  payload::text AS "payload!", metadata::text AS "metadata!"
           FROM events WHERE position = ANY ($1) ORDER BY position"#,
        &positions
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Recorded::from).collect())
}

/// All events of one aggregate, in order.
///
/// # Errors
/// See [`ReadError`].
pub async fn read_stream(
    pool: &PgPool,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<Vec<Recorded>, ReadError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position, sequence, timestamp, aggregate_type, aggregate_id, event_type, event_version,
                  payload::text AS "payload!", metadata::text AS "metadata!"
           FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 ORDER BY sequence"#,
        aggregate_type,
        aggregate_id
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Recorded::from).collect())
}

/// The last position of the log; 0 when it is empty.
///
/// # Errors
/// When Postgres is not there.
pub async fn head(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let head = sqlx::query_scalar!("SELECT max(position) FROM events")
        .fetch_one(pool)
        .await?;
    Ok(head.unwrap_or(0).unsigned_abs())
}

fn rows_of(pool: PgPool, statement: String) -> impl Stream<Item = Result<RawEvent, ReadError>> + Send {
    let state = (pool, Some(statement), None, BytesMut::new(), true);
    // Unfolds message by message; a message may hold no row, one, or (with the header) part of the preamble.
    futures::stream::try_unfold(
        state,
        |(pool, statement, source, mut buffer, mut preamble)| async move {
            let mut source = match (source, statement) {
                (Some(source), _) => source,
                (None, Some(statement)) => Copying::begin(pool.clone(), statement).await?,
                (None, None) => return Ok(None),
            };
            loop {
                let Some(message) = source.try_next().await? else {
                    return Ok(None);
                };
                if buffer.is_empty() && !preamble {
                    // The usual case: one message, one row; its fields are slices of it, nothing is copied.
                    if let Some(row) = parse(&mut { message })? {
                        return Ok::<_, ReadError>(Some((row, (pool, None, Some(source), buffer, preamble))));
                    }
                    continue;
                }
                buffer.extend_from_slice(&message);
                if preamble && buffer.len() >= PREAMBLE {
                    buffer.advance(PREAMBLE);
                    preamble = false;
                }
                if !preamble && !buffer.is_empty() {
                    let mut row = buffer.split().freeze();
                    if let Some(row) = parse(&mut row)? {
                        return Ok(Some((row, (pool, None, Some(source), buffer, preamble))));
                    }
                }
            }
        },
    )
}

/// A COPY that is under way. Given up half-way, it is read to its end by nobody: sqlx (0.8) would give the connection back to
/// the pool with the rest unread, and whoever has it next would take that for their answer.
struct Copying(Option<BoxStream<'static, Result<Bytes, sqlx::Error>>>);

impl Copying {
    /// In a task of its own: whoever asked may have gone before the first answer.
    async fn begin(pool: PgPool, statement: String) -> Result<Self, sqlx::Error> {
        let begun = tokio::spawn(async move { Ok(Self(Some(pool.copy_out_raw(&statement).await?))) });
        begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

impl Stream for Copying {
    type Item = Result<Bytes, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(source) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let next = ready!(source.poll_next_unpin(context));
        if next.is_none() {
            self.0 = None;
        }
        Poll::Ready(next)
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(rest.for_each(|_| std::future::ready(())));
        }
    }
}

/// Signature (11 bytes), flags (4), length of the extension (4, and Postgres sends none).
const PREAMBLE: usize = 19;
/// 2000-01-01, from which Postgres counts microseconds, in Unix seconds.
const POSTGRES_EPOCH: i64 = 946_684_800;

/// One tuple of the binary format; `None` for the trailer.
fn parse(row: &mut Bytes) -> Result<Option<RawEvent>, ReadError> {
    let length = row.len();
    let fields = row.try_get_i16().map_err(|_| ReadError::Malformed(0))?;
    if fields == -1 {
        return Ok(None);
    }
    let mut field = || -> Result<Bytes, ReadError> {
        let malformed = ReadError::Malformed(length - row.len());
        let size = row.try_get_i32().ok().and_then(|size| usize::try_from(size).ok());
        match size {
            Some(size) if size <= row.len() => Ok(row.split_to(size)),
            _ => Err(malformed),
        }
    };
    let integer = |mut bytes: Bytes| bytes.try_get_i64().map_err(|_| ReadError::Malformed(2));
    let position = integer(field()?)?.unsigned_abs();
    let sequence = integer(field()?)?.unsigned_abs();
    let time = DateTime::from_timestamp(POSTGRES_EPOCH, 0)
        .and_then(|epoch| epoch.checked_add_signed(TimeDelta::microseconds(integer(field().ok()?).ok()?)))
        .ok_or(ReadError::Malformed(2))?;
    Ok(Some(RawEvent {
        position,
        sequence,
        time,
        aggregate_type: field()?,
        aggregate_id: field()?,
        event_type: field()?,
        event_version: field()?,
        payload: field()?,
        metadata: field()?,
    }))
}
