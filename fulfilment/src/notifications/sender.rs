//! Sends what the record says is due.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kontor_domain::UserId;
use kontor_eventstore::lease::Lease;
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Clock, Recorded, Worker, crash};
use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::compose::{Composed, Composer};
use super::config::Post;
use super::occasion::Channel;
use super::people::{self, Addressee};
use super::record::{self, Due, NotificationId, Verdict};
use super::transport::{DeliveryError, outbox_files};
use crate::breaker::Refusal;

/// Notifications taken at once: a quarter of a second's worth, but no more than this.
const LARGEST_BATCH: u32 = 256;
/// Verdicts written at once, if that many are there.
const TOGETHER: usize = 64;
/// How often to look for what has become due; what is new is announced.
const POLL: Duration = Duration::from_millis(500);
/// How long to leave Postgres alone after it failed.
const REST: Duration = Duration::from_secs(1);

/// The name of the lease under which a channel is served.
#[must_use]
pub const fn lease_of(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "notifications.email",
        Channel::Sms => "notifications.sms",
    }
}

/// Serves one channel whenever its lease can be had, until `stop`. Each channel has its own, so that a provider that is
/// slow or away holds up nobody else's messages.
pub async fn run(
    worker: Worker,
    post: Arc<Post>,
    clock: Arc<dyn Clock>,
    channel: Channel,
    stop: CancellationToken,
) {
    let sender = Sender {
        worker: &worker,
        composer: Composer {
            store: worker.store().clone(),
            post: Arc::clone(&post),
            clock,
            channel,
        },
        post,
        channel,
    };
    worker
        .hold_lease(lease_of(channel), &stop, |lease| sender.work(lease, &stop))
        .await;
}

struct Sender<'a> {
    worker: &'a Worker,
    post: Arc<Post>,
    composer: Composer,
    channel: Channel,
}

/// How a round ended.
enum Round {
    /// There may be more, after so many were handed to the provider.
    Busy(u32),
    /// Nothing is due.
    Idle,
    /// Somebody else has the lease now.
    Lost,
}

impl Sender<'_> {
    async fn work(&self, lease: Lease, stop: &CancellationToken) {
        let mut noted = self.worker.progress().watch(super::NAME);
        while !stop.is_cancelled() {
            noted.mark_unchanged();
            let begun = Instant::now();
            let pause = match self.round(&lease, stop).await {
                Ok(Round::Busy(sent)) => {
                    let due = begun + Duration::from_secs(1) * sent / self.post.rate;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep_until(due) => continue,
                    }
                }
                Ok(Round::Idle) => POLL,
                Ok(Round::Lost) => return,
                Err(error) => {
                    warn!(channel = %self.channel, %error, "notifications held up, trying again");
                    REST
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = noted.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what is due and sends it, so many at a time; writes down what came of it as it comes.
    async fn round(&self, lease: &Lease, stop: &CancellationToken) -> Result<Round, ReadError> {
        if self.post.holds_back(self.channel) {
            return Ok(Round::Idle);
        }
        let pool = self.worker.store().pool();
        let due = record::due(
            pool,
            self.channel,
            (self.post.rate / 4).clamp(1, LARGEST_BATCH).into(),
        )
        .await?;
        if due.is_empty() {
            return Ok(Round::Idle);
        }
        crash::point("notifications.taken");
        let ids: HashSet<UserId> = due.iter().filter_map(|it| it.user_id.parse().ok()).collect();
        let people = people::look_up(self.worker.store(), ids).await?;
        let positions: Vec<u64> = due.iter().map(|it| it.position.unsigned_abs()).collect();
        let events = self.worker.store().at(&positions).await?;
        let events = events.into_iter().map(|event| (event.position, event)).collect();
        let verdicts = futures::stream::iter(due)
            .take_until(stop.cancelled())
            .map(|it| self.attend(it, &events, &people))
            .buffer_unordered(self.post.concurrency)
            .ready_chunks(TOGETHER);
        let mut verdicts = pin!(verdicts);
        let (mut settled, mut sent) = (0, 0);
        while let Some(chunk) = verdicts.next().await {
            let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
            let chunk: Vec<(Due, Verdict)> = chunk.into_iter().flatten().collect();
            if chunk.is_empty() {
                continue;
            }
            crash::point("notifications.delivered");
            let written = record::settle(pool, lease, self.channel, &chunk).await?;
            crash::point("notifications.settled");
            if written < chunk.len() as u64 {
                warn!(channel = %self.channel, lease.epoch, "somebody else sends notifications; what was sent last may be sent again");
                return Ok(Round::Lost);
            }
            for (due, verdict) in &chunk {
                self.tell(due, verdict);
                sent += u32::from(!matches!(verdict, Verdict::Skipped(_)));
            }
            settled += chunk.len();
        }
        Ok(if settled > 0 {
            Round::Busy(sent)
        } else {
            Round::Idle
        })
    }

    /// One notification: put together and handed over. `None` if its event is not there, or nobody would answer.
    async fn attend(
        &self,
        due: Due,
        events: &HashMap<u64, Arc<Recorded>>,
        people: &HashMap<UserId, Addressee>,
    ) -> Result<Option<(Due, Verdict)>, ReadError> {
        let Some(event) = events.get(&due.position.unsigned_abs()) else {
            return Ok(None);
        };
        let person = due.user_id.parse().ok().and_then(|id: UserId| people.get(&id));
        let handed_over = match self.composer.compose(&due, event, person).await? {
            Composed::Settled(verdict) => return Ok(Some((due, verdict))),
            Composed::Mail(mail) => self.post.mail.call(*mail).await,
            Composed::Sms(sms) => self.post.sms.call(sms).await,
        };
        if let Some(Addressee::Person(_)) = person {
            self.take_back(&due).await?;
        }
        let outcome = match handed_over {
            Ok(()) => Ok(()),
            Err(Refusal::Out(error)) => Err(error),
            // Not tried, and so not counted: it stays due.
            Err(Refusal::Open) => return Ok(None),
        };
        let verdict = self.judge(&due, outcome);
        Ok(Some((due, verdict)))
    }

    /// Removes what was just put into the outbox if its addressee was erased meanwhile: whoever removed all that was there
    /// may have come a moment too early. What a provider has is out of reach.
    async fn take_back(&self, due: &Due) -> Result<(), ReadError> {
        let position = due.position.unsigned_abs();
        let mut files = outbox_files(&self.post.outbox, position)
            .into_iter()
            .filter(|file| file.exists())
            .peekable();
        let Some(person) = files.peek().and_then(|_| due.user_id.parse().ok()) else {
            return Ok(());
        };
        if self.worker.store().keyring().is_erased(person).await? {
            // One that is gone is what is wanted.
            files.for_each(|file| drop(std::fs::remove_file(file)));
        }
        Ok(())
    }

    fn judge(&self, due: &Due, outcome: Result<(), DeliveryError>) -> Verdict {
        let failures = due.attempts.unsigned_abs().saturating_add(1);
        match outcome {
            Ok(()) => Verdict::Sent,
            Err(DeliveryError::Silent(error) | DeliveryError::Transient(error))
                if failures < self.post.attempts =>
            {
                Verdict::Again {
                    error,
                    pause: self.post.pause(failures),
                }
            }
            Err(error) => Verdict::Dead(error.to_string()),
        }
    }

    /// Says what became of a notification, to whoever watches the house.
    fn tell(&self, due: &Due, verdict: &Verdict) {
        let id = NotificationId {
            position: due.position.unsigned_abs(),
            channel: self.channel,
        };
        let (occasion, attempts) = (due.occasion.as_str(), due.attempts + 1);
        let outcome = match verdict {
            Verdict::Sent => "sent",
            Verdict::Skipped(_) => "skipped",
            Verdict::Again { error, .. } => {
                info!(notification = %id, occasion, attempts, error, "notification not sent, trying again later");
                "failed"
            }
            Verdict::Dead(error) => {
                error!(notification = %id, occasion, attempts, error,
                       "notification given up; `kontor notifications retry` sends it again");
                "dead"
            }
        };
        counter!("kontor_notifications_total", "channel" => self.channel.as_str(), "outcome" => outcome)
            .increment(1);
    }
}
