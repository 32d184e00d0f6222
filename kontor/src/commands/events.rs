//! `kontor events`.

use std::process::ExitCode;

use anyhow::Result;
use futures::TryStreamExt;
use kontor_eventstore::read::{RawEvent, head, read_raw};
use serde_json::json;
use serde_json::value::RawValue;

use crate::runtime::Runtime;
use crate::terminal::heard;

/// Prints the log behind `after`; with `follow`, for as long as somebody reads it.
///
/// # Errors
/// When the log cannot be read.
pub async fn events(runtime: &Runtime, mut after: u64, follow: bool, payload: bool) -> Result<ExitCode> {
    let mut news = runtime.store.head();
    loop {
        let to = if follow {
            *news.borrow_and_update()
        } else {
            head(runtime.pool()).await?
        };
        let mut events = std::pin::pin!(read_raw(runtime.pool(), after, to, 256));
        while let Some(chunk) = events.try_next().await? {
            for event in chunk {
                after = event.position;
                if !heard(line(event, payload)?) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted.map(|()| ExitCode::SUCCESS)?),
            _ = news.changed() => {}
        }
    }
}

fn line(event: RawEvent, payload: bool) -> Result<String> {
    let raw = |json: &[u8]| -> Result<Box<RawValue>> { Ok(serde_json::from_slice(json)?) };
    let content = if payload { Some(raw(&event.payload)?) } else { None };
    let metadata = raw(&event.metadata)?;
    let recorded = event.decode();
    let stream = recorded.stream();
    let mut line = json!({
        "position": recorded.position,
        "time": recorded.time,
        "aggregate": stream.aggregate_type,
        "id": stream.aggregate_id,
        "sequence": recorded.sequence,
        "event": recorded.event_type(),
        "metadata": metadata,
    });
    if let (Some(content), Some(fields)) = (content, line.as_object_mut()) {
        fields.insert("payload".to_owned(), serde_json::to_value(content)?);
    }
    Ok(line.to_string())
}
