//! The log on Postgres: append, load, follow.
//!
//! One [`Store`] per process. Commands go in through [`Store::execute`]; a single writer task appends what arrives
//! together in one transaction and gives out positions in commit order, without gaps. [`Worker`]s run [`Consumer`]s
//! behind it, each with its checkpoint, lease and dead letters.
//!
//! Nothing else in the house writes to `events`, `claims` or `answers`.

pub mod audit;
pub mod checkpoint;
pub mod clock;
pub mod consumer;
pub mod context;
pub mod crash;
pub mod dead_letters;
pub mod deeds;
pub mod erasure;
pub mod gathering;
pub mod keyring;
pub mod lease;
pub mod progress;
pub mod read;
pub mod recorded;
pub mod schema;
pub mod store;
pub mod transaction;

mod export;
mod group;
mod snapshots;
mod statements;
mod tail;
mod upcast;
mod writer;

pub use checkpoint::{Checkpoint, checkpoints};
pub use clock::{Clock, Ids, ManualClock, SystemClock};
pub use consumer::{Consumer, Worker};
pub use context::{Actor, CommandContext, IdempotencyKey, Metadata, Origin};
pub use dead_letters::{DeadLetter, Parked, Resumed};
pub use deeds::{Deed, Deeds};
pub use group::Answer;
pub use keyring::{KeyEncryption, Keyring, KeyringError};
pub use progress::{NotYet, Progress};
pub use recorded::{Body, Recorded, StreamKey, Unreadable};
pub use store::{ExecuteError, Outcome, Store, Stored};
