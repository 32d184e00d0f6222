//! Passwords: argon2id, off the async threads, a few at a time.

use std::sync::Arc;

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use kontor_domain::PasswordHash;
use tokio::sync::Semaphore;

/// OWASP Password Storage Cheat Sheet, argon2id, first of the recommended settings for servers: 19 MiB, 2, 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// At once, each with its 19 MiB and a core of its own; the rest wait their turn.
const AT_ONCE: usize = 2;
/// RFC 9106, section 4: 16 bytes suffice for passwords.
const SALT_BYTES: usize = 16;
/// What is hashed with when there is no such account; anything will do.
const NOBODYS_SALT: &[u8; SALT_BYTES] = b"nobody's salt...";

mod strength;

pub use strength::Weakness;

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The machine gave no random bytes.
    #[error("no random bytes for a salt")]
    Random,
    /// Argon2 refused: a password of more than 4 GiB, or a bug.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    argon: Argon2<'static>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With OWASP's parameters.
    #[must_use]
    pub fn new() -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT);
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            argon: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
        }
    }

    /// Hashes a password with a fresh salt; takes some 20 ms of a core.
    ///
    /// # Errors
    /// See [`PasswordError`]; none of them is the password's fault.
    pub async fn hash(&self, password: String) -> Result<PasswordHash, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| PasswordError::Random)?;
        let argon = self.argon.clone();
        self.in_turn(move || {
            let salt = SaltString::encode_b64(&salt).map_err(unhashable)?;
            let hash = argon
                .hash_password(password.as_bytes(), &salt)
                .map_err(unhashable)?;
            PasswordHash::new(hash.to_string()).map_err(unhashable)
        })
        .await?
    }

    /// Whether the password is the one that was hashed. Takes as long when there is nothing to compare with, so that
    /// the time does not tell whether an account exists.
    pub async fn verify(&self, hash: Option<&PasswordHash>, password: String) -> bool {
        let hash = hash.map(|hash| hash.as_str().to_owned());
        let argon = self.argon.clone();
        self.in_turn(move || {
            let Some(hash) = hash else {
                let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
                // The work is what is wanted.
                let _ = argon.hash_password_into(password.as_bytes(), NOBODYS_SALT, &mut out);
                return false;
            };
            password_hash::PasswordHash::new(&hash)
                .is_ok_and(|hash| argon.verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
        .unwrap_or(false)
    }

    /// Whether the password can be guessed by whoever knows this of its owner.
    ///
    /// # Errors
    /// [`PasswordError::Ending`]; the inner one is why the password is weak.
    pub async fn judge(
        &self,
        password: String,
        known: Vec<String>,
    ) -> Result<Result<(), Weakness>, PasswordError> {
        self.in_turn(move || strength::judge(&password, &known)).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|_| PasswordError::Ending)?;
        // The permit goes along: a caller that goes away does not make room for another while the work goes on.
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(|_| PasswordError::Ending)
    }
}

fn unhashable(error: impl std::fmt::Display) -> PasswordError {
    PasswordError::Hash(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognised_and_another_is_not() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify(Some(&hash), "correct horse".to_owned()).await);
        assert!(!passwords.verify(Some(&hash), "correct house".to_owned()).await);
        assert!(!passwords.verify(None, "correct horse".to_owned()).await);
    }

    #[tokio::test]
    async fn the_same_password_hashes_differently_each_time() {
        let passwords = Passwords::new();
        let one = passwords.hash("correct horse".to_owned()).await.unwrap();
        let other = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(one, other);
    }
}
