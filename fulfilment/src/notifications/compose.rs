//! Puts a message together: who, what, and in which words.

use std::sync::Arc;

use kontor_domain::{Entity, Money, Order, OrderId, OrderItem};
use kontor_eventstore::read::ReadError;
use kontor_eventstore::{Body, Clock, Recorded, Store};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};

use super::config::Post;
use super::letter::{Facts, LetterError, OrderFacts};
use super::occasion::{Channel, Subject, occasion};
use super::people::{Addressee, Person};
use super::record::{Due, Verdict};
use super::transport::{Mail, Sms};

const NO_PHONE: &str = "the account has no phone number";
const ERASED: &str = "the customer was erased";

/// Writes the messages of one channel.
pub(super) struct Composer {
    pub(super) store: Store,
    pub(super) post: Arc<Post>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) channel: Channel,
}

/// What is to become of a notification, before anybody outside is asked.
pub(super) enum Composed {
    Mail(Box<Mail>),
    Sms(Sms),
    /// Nothing is sent.
    Settled(Verdict),
}

/// Why a message cannot be put together, now or ever. Names nobody.
#[derive(Debug, thiserror::Error)]
enum ComposeError {
    #[error("the e-mail address is none that mail can be sent to")]
    Address,
    #[error(transparent)]
    Letter(#[from] LetterError),
    #[error("the mail cannot be put together: {0}")]
    Mail(#[from] lettre::error::Error),
}

impl Composer {
    /// Puts a message together from what the log says now.
    ///
    /// # Errors
    /// When Postgres is not there; nothing is to be written down then.
    pub(super) async fn compose(
        &self,
        due: &Due,
        event: &Recorded,
        to: Option<&Addressee>,
    ) -> Result<Composed, ReadError> {
        let dead = |why: &str| Ok(Composed::Settled(Verdict::Dead(why.to_owned())));
        let skipped = |why| Ok(Composed::Settled(Verdict::Skipped(why)));
        let person = match to {
            Some(Addressee::Person(person)) => person,
            Some(Addressee::Erased) => return skipped(ERASED),
            None => return dead("the account cannot be read"),
        };
        if !self.channel.is_among(person.channels) {
            return skipped("the customer does not want it here");
        }
        if self.channel == Channel::Sms && person.phone.is_none() {
            return skipped(NO_PHONE);
        }
        let body = match self.readable(&event.body).await {
            Ok(body) => body,
            Err(ReadError::Undecodable(_)) => return dead("what is written in the event cannot be read"),
            Err(error) => return Err(error),
        };
        let Some((subject, occasion)) = occasion(&body) else {
            return dead("the event cannot be read, or is told to nobody");
        };
        let order = match self.order(subject).await {
            Ok(order) => order,
            Err(ReadError::Undecodable(_)) => return dead("the order cannot be read"),
            Err(error) => return Err(error),
        };
        let facts = Facts {
            shop: self.post.shop(),
            name: &person.name,
            occasion,
            order: order.as_ref().map(|(id, items, total)| OrderFacts {
                id: *id,
                items,
                total: *total,
            }),
        };
        match self.write(due, person, &facts) {
            Ok(written) => Ok(written),
            // Since they were looked up.
            Err(ComposeError::Letter(LetterError::Sealed)) => skipped(ERASED),
            Err(error) => dead(&error.to_string()),
        }
    }

    /// What happened to an order, as its customer may read it.
    async fn readable(&self, body: &Body) -> Result<Body, ReadError> {
        let mut body = body.clone();
        if let Body::Order(_, event) = &mut body {
            self.store.keyring().unseal(Order::personal_in(event)).await?;
        }
        Ok(body)
    }

    /// Items and total of the order, neither of which ever changes.
    async fn order(&self, subject: Subject) -> Result<Option<(OrderId, Vec<OrderItem>, Money)>, ReadError> {
        let Subject::Order(id) = subject else {
            return Ok(None);
        };
        let look = |order: &Order| order.total().map(|total| (id, order.items().to_vec(), total));
        self.store.recall(id, look).await
    }

    fn write(&self, due: &Due, person: &Person, facts: &Facts<'_>) -> Result<Composed, ComposeError> {
        let position = due.position.unsigned_abs();
        match (self.channel, &person.phone) {
            (Channel::Email, _) => Ok(Composed::Mail(Box::new(Mail {
                name: format!("{position:012}"),
                message: self.mail(due, person, facts)?,
            }))),
            (Channel::Sms, Some(phone)) => Ok(Composed::Sms(Sms {
                position,
                message_id: due.message_id.clone(),
                to: phone.reveal().ok_or(LetterError::Sealed)?.clone(),
                text: self.post.templates.sms(facts)?,
            })),
            (Channel::Sms, None) => Ok(Composed::Settled(Verdict::Skipped(NO_PHONE))),
        }
    }

    fn mail(&self, due: &Due, person: &Person, facts: &Facts<'_>) -> Result<Message, ComposeError> {
        let words = self.post.templates.mail(facts)?;
        let (email, name) = (person.email.reveal(), person.name.reveal());
        let (email, name) = email.zip(name).ok_or(LetterError::Sealed)?;
        let address: Address = email.as_str().parse().map_err(|_| ComposeError::Address)?;
        let message = Message::builder()
            .message_id(Some(format!(
                "<{}@{}>",
                due.message_id,
                self.post.from.email.domain()
            )))
            .date(self.clock.now().into())
            .from(self.post.from.clone())
            .to(Mailbox::new(Some(name.as_str().to_owned()), address))
            .subject(words.subject)
            // RFC 3834: nobody's "I am on holiday" comes back.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .multipart(MultiPart::alternative_plain_html(words.text, words.html))?;
        Ok(message)
    }
}
