//! Whom a message goes to, as the log has them at the moment it is sent.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use kontor_domain::{Channels, Email, PersonName, Personal, Phone, User, UserId};
use kontor_eventstore::Store;
use kontor_eventstore::read::ReadError;

/// Accounts read at the same time.
const CONCURRENCY: usize = 8;

/// Whom a message is for.
#[derive(Debug, Clone)]
pub(super) enum Addressee {
    /// A customer.
    Person(Person),
    /// Somebody who was one, and is to be left alone.
    Erased,
}

/// A customer, as far as writing to them goes.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: Personal<PersonName>,
    pub(super) email: Personal<Email>,
    pub(super) phone: Option<Personal<Phone>>,
    pub(super) channels: Channels,
}

impl Addressee {
    fn of(user: &User) -> Option<Self> {
        if user.is_erased() {
            return Some(Self::Erased);
        }
        Some(Self::Person(Person {
            name: user.name()?.clone(),
            email: user.email()?.clone(),
            phone: user.phone().cloned(),
            channels: user.channels(),
        }))
    }
}

/// The people with these ids; each is read once. Who cannot be read, or does not exist, is left out: sending to them fails,
/// and to nobody else.
pub(super) async fn look_up(
    store: &Store,
    ids: impl IntoIterator<Item = UserId>,
) -> Result<HashMap<UserId, Addressee>, ReadError> {
    let found: Vec<Option<(UserId, Addressee)>> = futures::stream::iter(ids)
        .map(|id| async move {
            match store.inspect(id, |user: &User, _| Addressee::of(user)).await {
                Ok(person) => Ok(person.map(|person| (id, person))),
                Err(ReadError::Undecodable(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}
