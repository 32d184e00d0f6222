//! Sessions: what begins when somebody logs in, and renews access tokens until it ends.
//!
//! A session is a record in Redis, and its refresh token is the only way to it; of the token only hashes are kept. Access tokens
//! need no look-up: a session that has ended is made known to every process, which remembers it for as long as one of its
//! access tokens may live.

pub mod cookie;
mod desk;
mod ended;
pub mod erased;
mod records;
mod secret;

pub use cookie::CookieTerms;
pub(crate) use desk::Account;
pub use desk::{RenewError, Renewed, SessionDesk};
pub use ended::EndedSessions;
pub use erased::ErasedSessions;
pub use records::{SessionRecord, SessionTerms, Sessions, Unavailable};
pub use secret::RefreshToken;
pub(crate) use secret::hash as secret_hash;
