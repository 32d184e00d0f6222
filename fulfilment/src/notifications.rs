//! Tells customers what happened to them, by e-mail and SMS.
//!
//! A consumer of the log notes what is to be told, in its checkpoint's transaction, once per event and channel. One sender
//! per channel, under a lease, puts each message together from the log, hands it to a provider outside any transaction, and
//! then notes that it did. So a provider may get a message twice, under the same id, when a worker dies in between; the
//! record has it once. Rebuilding views is none of this consumer's business, and sends nothing.
//!
//! In the same transaction it notes whose new address is to be proved; that mail has a sender of its own, [`crate::account_mail`].

mod account;
mod amount;
mod compose;
mod config;
mod letter;
mod occasion;
mod people;
mod proving;
mod record;
mod sender;
mod transport;

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use kontor_domain::{Channels, Order, UserEvent, UserId};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Body, Consumer, Parked, Recorded, Store, StreamKey};
use sqlx::PgConnection;

use crate::account_mail::{self, Purpose};

pub use config::{ConfigError, MailBy, NotificationsConfig, Post, Secret, SmsBy, outbox_in};
pub use letter::{Facts, LetterError, MailText, OrderFacts, Templates};
pub use occasion::{Channel, Occasion, Subject, UnknownChannel, occasion};
pub use record::{
    Counts, DeadNotification, NotAnId, NotificationId, Notified, Told, counts, dead, of_events, of_person,
    retry,
};
pub use sender::{lease_of, run};
pub use transport::{DeliveryError, Mail, MailTransport, Sms, SmsTransport};

pub(crate) use account::AccountLetter;
use record::News;
pub(crate) use transport::{account_files, outbox_files};

/// Orders whose customer is looked up at the same time.
const CONCURRENCY: usize = 64;
/// The types of aggregates that somebody is told of.
const TOLD: [&str; 2] = ["user", "order"];
/// What the consumer is called.
pub const NAME: &str = "notifications";

/// The consumer that notes what is to be told.
pub struct Notifications {
    store: Store,
}

/// An event that somebody is to be told of.
struct Telling<'a> {
    event: &'a Arc<Recorded>,
    occasion: &'static str,
    subject: Subject,
}

impl Consumer for Notifications {
    fn name(&self) -> &'static str {
        NAME
    }

    fn concerns(&self, event: &Recorded) -> bool {
        match &event.body {
            Body::Unreadable(it) => TOLD.contains(&it.aggregate_type.as_str()),
            Body::User(_, UserEvent::ChannelsChosen { .. }) => true,
            body => proving::is_of_an_address(body) || occasion(body).is_some(),
        }
    }

    fn handle<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        events: &'a [Arc<Recorded>],
    ) -> BoxFuture<'a, Result<Vec<Parked>, sqlx::Error>> {
        Box::pin(async move {
            // First, so that what is noted below goes where it is wanted by now.
            for event in events {
                if let Body::User(id, UserEvent::ChannelsChosen { email, sms }) = event.body {
                    record::choose(connection, id, Channels { email, sms }).await?;
                }
            }
            let (readable, mut parked) = sort(events);
            let proving = proving::to_prove(readable.iter().map(|event| &***event));
            account_mail::request_all(connection, Purpose::VerifyEmail, &proving).await?;
            let telling = worth_telling(&readable);
            let subjects: Vec<Subject> = telling.iter().map(|it| it.subject).collect();
            let customers: Vec<Result<UserId, ReadError>> = futures::stream::iter(subjects)
                .map(|subject| self.customer(subject))
                .buffered(CONCURRENCY)
                .collect()
                .await;
            let mut news = News::default();
            for (it, customer) in telling.iter().zip(customers) {
                match customer {
                    Ok(user_id) => news.push(it, user_id),
                    Err(error @ ReadError::Undecodable(_)) => {
                        parked.push(Parked::failed(it.event, error.to_string()));
                    }
                    Err(later) => return Err(later.into()),
                }
            }
            record::note(connection, self.store.incarnation(), &news).await?;
            Ok(parked)
        })
    }
}

impl Notifications {
    /// A consumer that looks customers up in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn customer(&self, subject: Subject) -> Result<UserId, ReadError> {
        match subject {
            Subject::User(id) => Ok(id),
            Subject::Order(id) => {
                let customer = self.store.recall(id, |order: &Order| order.customer_id()).await?;
                customer.ok_or_else(|| ReadError::Undecodable(format!("{id} was never placed")))
            }
        }
    }
}

/// What can be read. What cannot is parked, with what follows it in its stream.
fn sort(events: &[Arc<Recorded>]) -> (Vec<&Arc<Recorded>>, Vec<Parked>) {
    let (mut readable, mut parked) = (Vec::new(), Vec::new());
    let mut stuck: HashSet<StreamKey> = HashSet::new();
    for event in events {
        if !stuck.is_empty() && stuck.contains(&event.stream()) {
            parked.push(Parked::waiting(event));
            continue;
        }
        match &event.body {
            Body::Unreadable(it) if TOLD.contains(&it.aggregate_type.as_str()) => {
                stuck.insert(event.stream());
                parked.push(Parked::failed(event, it.error.clone()));
            }
            _ => readable.push(event),
        }
    }
    (readable, parked)
}

/// What is to be told.
fn worth_telling<'a>(events: &[&'a Arc<Recorded>]) -> Vec<Telling<'a>> {
    let told = events.iter().filter_map(|event| {
        let (subject, occasion) = occasion(&event.body)?;
        let occasion = occasion.name();
        (!is_history(event)).then_some(Telling {
            event,
            occasion,
            subject,
        })
    });
    told.collect()
}

/// Whether the event is history being written down: nobody wants to hear today what happened years ago elsewhere.
fn is_history(event: &Recorded) -> bool {
    event
        .metadata()
        .is_ok_and(|metadata| metadata.backdated.is_some())
}

impl News {
    fn push(&mut self, it: &Telling<'_>, user_id: UserId) {
        self.positions.push(it.event.position.cast_signed());
        self.occasions.push(it.occasion);
        self.user_ids.push(user_id.to_string());
        self.order_ids.push(match it.subject {
            Subject::User(_) => None,
            Subject::Order(id) => Some(id.to_string()),
        });
    }
}
