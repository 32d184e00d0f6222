//! Fetches and makes people's keys: what is wanted at the same time is one query.

use std::collections::{HashMap, HashSet};

use kontor_domain::UserId;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use super::kek::{KeyEncryption, random};
use super::{KeyringError, Known, PersonKey};

/// Requests answered together at most.
const TOGETHER: usize = 1_024;
/// Requests waiting at most; further ones wait to be asked.
const QUEUE: usize = 4_096;

/// Asks for one person's key. Answered with nothing if there is none.
pub(super) struct Request {
    pub(super) person: UserId,
    /// Whether to make a key if there is none.
    pub(super) make: bool,
    pub(super) reply: oneshot::Sender<Result<Option<Known>, KeyringError>>,
}

/// Ends when nobody can ask any more.
pub(super) fn spawn(pool: PgPool, keks: KeyEncryption) -> mpsc::Sender<Request> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let clerk = Clerk { pool, keks };
        let mut requests = Vec::new();
        while receiver.recv_many(&mut requests, TOGETHER).await > 0 {
            clerk.answer(std::mem::take(&mut requests)).await;
        }
    });
    sender
}

struct Clerk {
    pool: PgPool,
    keks: KeyEncryption,
}

impl Clerk {
    async fn answer(&self, requests: Vec<Request>) {
        let people: HashSet<UserId> = requests.iter().map(|it| it.person).collect();
        let make: HashSet<UserId> = requests.iter().filter(|it| it.make).map(|it| it.person).collect();
        match self.find_or_make(&people, &make).await {
            Ok(found) => {
                for request in requests {
                    let known = found.get(&request.person).cloned().transpose();
                    // Whoever asked may have gone.
                    let _ = request.reply.send(known);
                }
            }
            Err(error) => {
                let error = KeyringError::from(error);
                for request in requests {
                    let _ = request.reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn find_or_make(
        &self,
        people: &HashSet<UserId>,
        make: &HashSet<UserId>,
    ) -> Result<HashMap<UserId, Result<Known, KeyringError>>, sqlx::Error> {
        let mut found = self.find(people.iter()).await?;
        let missing: Vec<UserId> = make
            .iter()
            .filter(|id| !found.contains_key(id))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let mut made = self.make(&missing).await?;
        // Another process may have been faster.
        let elsewhere: Vec<&UserId> = missing.iter().filter(|id| !made.contains_key(id)).collect();
        if !elsewhere.is_empty() {
            made.extend(self.find(elsewhere.into_iter()).await?);
        }
        found.extend(made);
        Ok(found)
    }

    /// Whoever the log says is to be forgotten has no key any more, also while it is not yet destroyed.
    async fn find(
        &self,
        people: impl Iterator<Item = &UserId>,
    ) -> Result<HashMap<UserId, Result<Known, KeyringError>>, sqlx::Error> {
        let ids: Vec<String> = people.map(ToString::to_string).collect();
        let rows = sqlx::query!(
            r#"SELECT w.id AS "id!", k.wrapped AS "wrapped?", k.kek_id AS "kek_id?",
                      k.erased_at IS NOT NULL
                      OR EXISTS (SELECT FROM events e WHERE e.aggregate_type = 'user' AND e.aggregate_id = w.id
                                                        AND e.event_type = 'Erased') AS "erased!"
               FROM unnest($1::text[]) AS w(id) LEFT JOIN person_keys k ON k.user_id = w.id"#,
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        let known = |row: (bool, Option<Vec<u8>>, Option<String>), id: &str| match row {
            (true, ..) => Some(Ok(Known::Erased)),
            (false, Some(wrapped), Some(kek)) => Some(self.open(id, &kek, &wrapped)),
            _ => None,
        };
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let person = row.id.parse().ok()?;
                Some((person, known((row.erased, row.wrapped, row.kek_id), &row.id)?))
            })
            .collect())
    }

    fn open(&self, id: &str, kek: &str, wrapped: &[u8]) -> Result<Known, KeyringError> {
        let opened = self
            .keks
            .unwrap(&purpose(id), kek, wrapped)
            .ok_or_else(|| KeyringError::UnknownKek { id: kek.to_owned() })?;
        let key = PersonKey::new(id.to_owned(), &opened?)?;
        Ok(Known::Key(key.into()))
    }

    /// Makes keys, and returns when they are on the disk: what they seal may be written then. Those that are there
    /// already are left out.
    async fn make(
        &self,
        people: &[UserId],
    ) -> Result<HashMap<UserId, Result<Known, KeyringError>>, sqlx::Error> {
        let mut keys = HashMap::new();
        let (mut ids, mut wrapped) = (Vec::new(), Vec::new());
        for person in people {
            let id = person.to_string();
            let made = random().and_then(|key| {
                let sealed = self.keks.wrap(&purpose(&id), &key)?;
                Ok((sealed, PersonKey::new(id.clone(), &key)?))
            });
            match made {
                Ok((sealed, key)) => {
                    ids.push(id.clone());
                    wrapped.push(sealed);
                    keys.insert(id, (*person, Ok(Known::Key(key.into()))));
                }
                Err(error) => {
                    keys.insert(id, (*person, Err(error.into())));
                }
            }
        }
        let written: HashSet<String> = sqlx::query_scalar!(
            "INSERT INTO person_keys (user_id, wrapped, kek_id)
             SELECT id, wrapped, $3 FROM unnest($1::text[], $2::bytea[]) AS n(id, wrapped)
             ON CONFLICT DO NOTHING RETURNING user_id",
            &ids,
            &wrapped,
            self.keks.current()
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .collect();
        keys.retain(|id, (_, key)| key.is_err() || written.contains(id));
        Ok(keys.into_values().collect())
    }
}

/// What a person's key is wrapped for: no other person's can be put in its place.
pub(super) fn purpose(person: &str) -> String {
    format!("person key of {person}")
}
