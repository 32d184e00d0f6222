//! Rows in Postgres' binary COPY format: how views are written, live and in a rebuild (V4).

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

/// Microseconds from the Unix epoch to 2000-01-01, where Postgres begins to count.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// Signature, flags, and no header extension.
const PREAMBLE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TEXT_OID: i32 = 25;
/// Bytes sent at a time.
const CHUNK: usize = 1 << 20;

/// Rows on their way into a table. Each row starts with [`Copy::row`] and then gives every column in order.
#[derive(Debug)]
pub struct Copy {
    bytes: Vec<u8>,
    rows: usize,
}

impl Default for Copy {
    fn default() -> Self {
        Self {
            bytes: PREAMBLE.to_vec(),
            rows: 0,
        }
    }
}

impl Copy {
    /// Begins a row of so many columns.
    pub fn row(&mut self, columns: i16) -> &mut Self {
        self.rows += 1;
        self.bytes.extend_from_slice(&columns.to_be_bytes());
        self
    }

    /// `text`.
    pub fn text(&mut self, value: impl AsRef<str>) -> &mut Self {
        self.field(value.as_ref().as_bytes())
    }

    /// `text`, nullable.
    pub fn optional_text(&mut self, value: Option<impl AsRef<str>>) -> &mut Self {
        if let Some(value) = value {
            return self.text(value);
        }
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        self
    }

    /// `bigint`.
    pub fn integer(&mut self, value: i64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    /// `boolean`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.field(&[u8::from(value)])
    }

    /// `timestamptz`, in whole microseconds.
    pub fn time(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.integer(value.timestamp_micros() - POSTGRES_EPOCH)
    }

    /// `json`.
    pub fn json(&mut self, value: &impl Serialize) -> &mut Self {
        self.measured(|bytes| {
            // Serialising plain data into memory does not fail; if it did, Postgres would refuse the empty field.
            let start = bytes.len();
            if serde_json::to_writer(&mut *bytes, value).is_err() {
                bytes.truncate(start);
            }
        })
    }

    /// `text[]`.
    pub fn texts(&mut self, values: &[String]) -> &mut Self {
        self.measured(|bytes| {
            let dimensions = i32::from(!values.is_empty());
            bytes.extend([dimensions, 0, TEXT_OID].into_iter().flat_map(i32::to_be_bytes));
            if !values.is_empty() {
                bytes.extend([length(values.len()), 1].into_iter().flat_map(i32::to_be_bytes));
            }
            for value in values {
                bytes.extend_from_slice(&length(value.len()).to_be_bytes());
                bytes.extend_from_slice(value.as_bytes());
            }
        })
    }

    fn field(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&length(value.len()).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Writes a field whose length is known only afterwards.
    fn measured(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let size = length(self.bytes.len() - start - 4);
        self.bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
        self
    }

    /// Sends the rows into `table`, all or none.
    ///
    /// # Errors
    /// When Postgres refuses them or is not there.
    pub async fn into_table(mut self, connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
        if self.rows == 0 {
            return Ok(());
        }
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        let mut target = connection
            .copy_in_raw(&format!("COPY {table} FROM STDIN (FORMAT binary)"))
            .await?;
        for chunk in self.bytes.chunks(CHUNK) {
            target.send(chunk).await?;
        }
        target.finish().await?;
        Ok(())
    }
}

/// Postgres refuses fields of a gigabyte and more, so a length that does not fit is refused there.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
