//! One file per subcommand.

pub mod dead_letters;
pub mod events;
pub mod gateway;
pub mod grant_role;
pub mod health;
pub mod import;
pub mod notifications;
pub mod replay;
pub mod rotate_keys;
pub mod rotate_signing_key;
pub mod run;
pub mod status;
pub mod verify;
