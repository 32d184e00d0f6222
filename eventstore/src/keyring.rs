//! The keys that people's data is sealed with: one for each person, made before anything is sealed with it, and destroyed
//! when the person is to be forgotten (decision 018).

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kontor_domain::{ClaimChange, ClaimKind, Personal, PersonalData, PersonalValue, Sealed, UserId};
use lru::LruCache;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

mod clerk;
mod index;
mod kek;
mod rotate;

pub use kek::{CipherError, KekError, KeyEncryption};

use clerk::Request;

/// Keys kept in memory. One takes about a kilobyte.
const CACHED: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// Why something could not be sealed or unsealed. Names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Postgres was not there, or the process is ending.
    #[error("the keys could not be read: {0}")]
    Unavailable(String),
    /// Wrapped with a key-encryption key that this process was not given.
    #[error(
        "a key is encrypted with the key-encryption key {id}, which this process does not have: give it as an older one"
    )]
    UnknownKek {
        /// Its id.
        id: String,
    },
    /// Another key, or damaged.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// Sealed once, but damaged since.
    #[error("a sealed value is damaged")]
    Damaged,
}

impl From<sqlx::Error> for KeyringError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The keyring of a process. Cheap to clone; does not print.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

struct Inner {
    pool: PgPool,
    keks: KeyEncryption,
    index: hmac::Key,
    clerk: mpsc::Sender<Request>,
    known: Mutex<LruCache<UserId, Known>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

/// What is known of a person's key.
#[derive(Clone)]
enum Known {
    Key(Arc<PersonKey>),
    /// There was one, and nobody uses it any more.
    Erased,
}

impl Known {
    fn key(self) -> Option<Arc<PersonKey>> {
        match self {
            Self::Key(key) => Some(key),
            Self::Erased => None,
        }
    }
}

/// One person's key.
pub(crate) struct PersonKey {
    person: String,
    key: RandomizedNonceKey,
}

impl PersonKey {
    fn new(person: String, bytes: &[u8]) -> Result<Self, CipherError> {
        let key = kek::cipher(bytes)?;
        Ok(Self { person, key })
    }

    /// Binds a ciphertext to whom and to what it belongs.
    fn aad(&self, kind: &str) -> String {
        format!("{}/{kind}", self.person)
    }

    fn seal(&self, person: UserId, kind: &str, plain: &[u8]) -> Result<Sealed, CipherError> {
        let ciphertext = kek::encrypt(&self.key, &self.aad(kind), plain)?;
        Ok(Sealed::new(person, &URL_SAFE_NO_PAD.encode(ciphertext)))
    }

    fn unseal(&self, kind: &str, ciphertext: &str) -> Result<Vec<u8>, CipherError> {
        let sealed = URL_SAFE_NO_PAD.decode(ciphertext).map_err(|_| CipherError)?;
        kek::decrypt(&self.key, &self.aad(kind), &sealed)
    }
}

impl Keyring {
    /// The keyring of the database behind `pool`, which `keks` open. Makes what every shop has one of, and puts hashes in
    /// the place of e-mail addresses that were claimed in the clear.
    ///
    /// # Errors
    /// When Postgres is not there, or the database's keys are encrypted with another key-encryption key.
    pub async fn open(pool: PgPool, keks: KeyEncryption) -> Result<Self, KeyringError> {
        let index = index::open(&pool, &keks).await?;
        let keyring = Self(Arc::new(Inner {
            clerk: clerk::spawn(pool.clone(), keks.clone()),
            known: Mutex::new(LruCache::new(CACHED)),
            pool,
            keks,
            index,
        }));
        index::hide_claims(&keyring.0.pool, &keyring.0.index).await?;
        Ok(keyring)
    }

    /// The value; `None` if the person was erased. Never log what comes out.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn reveal<T: PersonalData + Clone>(
        &self,
        value: &Personal<T>,
    ) -> Result<Option<T>, KeyringError> {
        let mut value = value.clone();
        self.unseal(vec![&mut value]).await?;
        Ok(value.into_inner())
    }

    /// Unseals values in place; those of somebody who was erased stay sealed.
    ///
    /// # Errors
    /// See [`KeyringError`]; some may be unsealed then.
    pub async fn unseal(&self, values: Vec<&mut dyn PersonalValue>) -> Result<(), KeyringError> {
        for value in values {
            let Some(sealed) = value.sealed() else { continue };
            let (person, ciphertext) = sealed.parts().ok_or(KeyringError::Damaged)?;
            if ciphertext.is_empty() {
                continue; // Nothing was kept: whoever has not heard yet that the person was erased still has their key.
            }
            let Some(key) = self.find(person).await? else {
                continue;
            };
            let (_, ciphertext) = value
                .sealed()
                .and_then(Sealed::parts)
                .ok_or(KeyringError::Damaged)?;
            let plain = key.unseal(value.kind(), ciphertext)?;
            value.unseal(&plain).map_err(|_| KeyringError::Damaged)?;
        }
        Ok(())
    }

    /// Seals values in place with the key of `person`, which is on the disk when this returns. False if the person was
    /// erased: then nothing can be kept of them.
    ///
    /// # Errors
    /// See [`KeyringError`]; some may be sealed then.
    pub async fn seal(
        &self,
        person: UserId,
        values: Vec<&mut dyn PersonalValue>,
    ) -> Result<bool, KeyringError> {
        if values.iter().all(|value| value.sealed().is_some()) {
            return Ok(true);
        }
        let Some(key) = self.find_or_make(person).await? else {
            return Ok(false);
        };
        for value in values {
            if let Some(plain) = value.plain().map_err(|_| KeyringError::Damaged)? {
                value.seal(key.seal(person, value.kind(), &plain)?);
            }
        }
        Ok(true)
    }

    /// What stands in the claims for a value: itself, or a keyed hash if it is personal.
    #[must_use]
    pub(crate) fn claimed(&self, kind: ClaimKind, value: &str) -> String {
        index::claimed(&self.0.index, kind, value)
    }

    /// [`Self::claimed`] for a change.
    pub(crate) fn hide(&self, change: ClaimChange) -> ClaimChange {
        match change {
            ClaimChange::Take { kind, value } => ClaimChange::Take {
                kind,
                value: self.claimed(kind, &value),
            },
            ClaimChange::Release { kind, value } => ClaimChange::Release {
                kind,
                value: self.claimed(kind, &value),
            },
        }
    }

    /// The id of the key-encryption key that encrypts.
    #[must_use]
    pub fn kek(&self) -> &str {
        self.0.keks.current()
    }

    /// Uses a person's key no more, whatever the database says.
    pub(crate) fn forget(&self, person: UserId) {
        self.known().put(person, Known::Erased);
    }

    fn known(&self) -> MutexGuard<'_, LruCache<UserId, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, person: UserId) -> Result<Option<Arc<PersonKey>>, KeyringError> {
        Ok(self.ask(person, false).await?.and_then(Known::key))
    }

    async fn find_or_make(&self, person: UserId) -> Result<Option<Arc<PersonKey>>, KeyringError> {
        Ok(self.ask(person, true).await?.and_then(Known::key))
    }

    async fn ask(&self, person: UserId, make: bool) -> Result<Option<Known>, KeyringError> {
        if let Some(known) = self.known().get(&person) {
            return Ok(Some(known.clone()));
        }
        let Some(found) = self.ask_afresh(person, make).await? else {
            return Ok(None);
        };
        // The person may have been forgotten while the key was on its way.
        Ok(Some(self.known().get_or_insert(person, || found).clone()))
    }

    /// What the database says, whatever is known.
    async fn ask_afresh(&self, person: UserId, make: bool) -> Result<Option<Known>, KeyringError> {
        let gone = || KeyringError::Unavailable("the process is ending".to_owned());
        let (reply, answer) = oneshot::channel();
        let request = Request { person, make, reply };
        self.0.clerk.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u128) -> UserId {
        UserId::from_ulid(ulid::Ulid::from_parts(1, number))
    }

    fn key(number: u128, bytes: [u8; 32]) -> PersonKey {
        PersonKey::new(person(number).to_string(), &bytes).unwrap()
    }

    #[test]
    fn a_ciphertext_is_one_persons_and_of_one_kind() {
        let one = key(1, [1; 32]);
        let sealed = one.seal(person(1), "name", b"Elbe").unwrap();
        let (whose, ciphertext) = sealed.parts().unwrap();
        assert_eq!(whose, person(1));
        assert_eq!(one.unseal("name", ciphertext).unwrap(), b"Elbe");
        assert!(one.unseal("phone", ciphertext).is_err());
        assert!(key(2, [1; 32]).unseal("name", ciphertext).is_err());
        assert!(key(1, [2; 32]).unseal("name", ciphertext).is_err());
        assert!(one.unseal("name", "?").is_err());
    }
}
