//! Whoever writes deeds down, and removes them when they are old.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use kontor_domain::Personal;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Deed, Message, Noted};
use crate::store::Store;

/// How long deeds are gathered before they are written.
const MOMENT: Duration = Duration::from_millis(500);
/// Deeds written at once, at most.
const TOGETHER: usize = 1_000;
/// How long to wait for Postgres before trying again.
const REST: Duration = Duration::from_secs(1);
/// How long the last ones may take when the process ends.
const GOODBYE: Duration = Duration::from_secs(3);
/// Rows removed at once when they are old.
const SWEPT: i64 = 1_000;
/// How often to look for old rows.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Writes deeds down.
pub(super) struct Scribe {
    pub(super) pool: PgPool,
    pub(super) lost: Arc<AtomicU64>,
    pub(super) closing: CancellationToken,
}

impl Scribe {
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Message>) {
        let mut page = Page::default();
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                message = waiting.recv() => match message {
                    Some(message) => page.add(message),
                    None => break,
                },
            }
            self.gather(&mut waiting, &mut page).await;
            while let Err(error) = page.write(&self.pool).await {
                warn!(%error, deeds = page.noted.len(), "deeds are not written down yet, trying again");
                tokio::select! {
                    () = self.closing.cancelled() => break,
                    () = tokio::time::sleep(REST) => {}
                }
            }
            self.tell_lost(0);
        }
        waiting.close();
        while let Some(message) = waiting.recv().await {
            page.add(message);
        }
        let written = tokio::time::timeout(GOODBYE, page.write(&self.pool)).await;
        self.tell_lost(if matches!(written, Ok(Ok(()))) {
            0
        } else {
            page.noted.len()
        });
    }

    /// What else comes in the same moment.
    async fn gather(&self, waiting: &mut mpsc::Receiver<Message>, page: &mut Page) {
        let moment = tokio::time::sleep(MOMENT);
        tokio::pin!(moment);
        while page.asking.is_empty() && page.noted.len() < TOGETHER {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = &mut moment => return,
                message = waiting.recv() => match message {
                    Some(message) => page.add(message),
                    None => return,
                },
            }
        }
    }

    fn tell_lost(&self, more: usize) {
        let lost = self.lost.swap(0, Ordering::Relaxed) + more as u64;
        if lost > 0 {
            metrics::counter!("kontor_deeds_lost_total").increment(lost);
            warn!(
                deeds = lost,
                "deeds are not in the audit: they could not be written down"
            );
        }
    }
}

/// Deeds of a moment.
#[derive(Debug, Default)]
struct Page {
    noted: Vec<Noted>,
    /// The cheap ones, by all that tells them apart.
    alike: HashMap<String, usize>,
    asking: Vec<oneshot::Sender<()>>,
}

impl Page {
    fn add(&mut self, message: Message) {
        match message {
            Message::Flush(done) => self.asking.push(done),
            Message::Note(noted) => {
                let deed = &noted.deed;
                if deed.kind.is_cheap() {
                    let alike = format!(
                        "{:?} {} {:?} {:?} {:?}",
                        deed.kind,
                        deed.actor,
                        deed.subject,
                        deed.detail,
                        address(deed)
                    );
                    let next = self.noted.len();
                    let at = *self.alike.entry(alike).or_insert(next);
                    if let Some(first) = self.noted.get_mut(at) {
                        first.times = first.times.saturating_add(1);
                        return;
                    }
                }
                self.noted.push(*noted);
            }
        }
    }

    /// Writes it and begins the next; changes nothing if it cannot.
    async fn write(&mut self, pool: &PgPool) -> Result<(), sqlx::Error> {
        insert(pool, &self.noted).await?;
        self.noted.clear();
        self.alike.clear();
        for asking in self.asking.drain(..) {
            // Whoever has stopped waiting need not be told.
            let _ = asking.send(());
        }
        Ok(())
    }
}

fn address(deed: &Deed) -> Option<String> {
    let address = deed.origin.as_ref()?.address.as_ref();
    address.and_then(Personal::reveal).map(ToString::to_string)
}

fn column<'a, T>(noted: &'a [Noted], of: impl Fn(&'a Noted) -> T) -> Vec<T> {
    noted.iter().map(of).collect()
}

async fn insert(pool: &PgPool, noted: &[Noted]) -> Result<(), sqlx::Error> {
    if noted.is_empty() {
        return Ok(());
    }
    let request = |it: &Noted| it.deed.origin.as_ref().map(|origin| origin.request.clone());
    sqlx::query!(
        "INSERT INTO deeds (position, id, kind, actor, subject, detail, request, address, time, times)
         SELECT position, id, kind, actor, subject, detail, request,
                -- Of who was erased, nobody is to know any more where they were.
                CASE WHEN NOT EXISTS (SELECT FROM person_keys
                                      WHERE user_id IN (actor, subject) AND erased_at IS NOT NULL) THEN address END,
                time, times
         FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::timestamptz[], $10::int4[])
              AS n (position, id, kind, actor, subject, detail, request, address, time, times)
         ON CONFLICT DO NOTHING",
        &column(noted, |it| it.position.cast_signed()),
        &column(noted, |it| it.id.clone()),
        &column(noted, |it| it.deed.kind.as_str()) as &[&str],
        &column(noted, |it| it.deed.actor.to_string()),
        &column(noted, |it| it.deed.subject.clone()) as &[Option<String>],
        &column(noted, |it| it.deed.detail.clone()) as &[Option<String>],
        &column(noted, request) as &[Option<String>],
        &column(noted, |it| address(&it.deed)) as &[Option<String>],
        &column(noted, |it| it.time),
        &column(noted, |it| it.times)
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Removes what was done before `limit`; how many rows that were.
///
/// # Errors
/// When Postgres is not there; what has been removed by then stays removed.
pub async fn trim(pool: &PgPool, limit: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    loop {
        let done = sqlx::query!(
            "DELETE FROM deeds WHERE (position, id) IN
                 (SELECT position, id FROM deeds WHERE time < $1 ORDER BY time LIMIT $2 FOR UPDATE SKIP LOCKED)",
            limit,
            SWEPT
        )
        .execute(pool)
        .await?
        .rows_affected();
        removed += done;
        if done < SWEPT.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// Removes what is older than `kept`, again and again until `stop`.
pub async fn keep_trimmed(store: Store, kept: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let limit = store.ids().now() - kept;
        if let Err(error) = trim(store.pool(), limit).await {
            warn!(%error, "old deeds are kept for now");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Actor, Origin};
    use crate::deeds::Kind;

    fn noted(kind: Kind, address: &str, detail: &str) -> Message {
        let origin = Origin {
            request: "r".to_owned(),
            address: Some(Personal::new(address.parse().unwrap())),
        };
        Message::Note(Box::new(Noted {
            deed: Deed::new(kind, Actor::Anonymous, Some(origin)).detail(detail),
            position: 1,
            id: String::new(),
            time: DateTime::UNIX_EPOCH,
            times: 1,
        }))
    }

    #[test]
    fn what_strangers_do_again_and_again_is_one_row() {
        let mut page = Page::default();
        for _ in 0..3 {
            page.add(noted(Kind::LogInFailed, "192.0.2.1", "wrong password"));
        }
        page.add(noted(Kind::LogInFailed, "192.0.2.2", "wrong password"));
        page.add(noted(Kind::WebhookRefused, "192.0.2.1", "wrong password"));
        for _ in 0..2 {
            page.add(noted(Kind::LoggedIn, "192.0.2.1", ""));
        }
        let times: Vec<i32> = page.noted.iter().map(|it| it.times).collect();
        assert_eq!(times, [3, 1, 1, 1, 1]);
    }
}
