//! What happens after an order is placed: process managers that follow the log and send commands, and notifications that
//! tell customers of it.
//!
//! A process manager's commands carry keys derived from the event they answer, so that whoever repeats a step, after a
//! crash or with a stolen lease, gets the outcome of the first time.

pub mod account_mail;
pub mod cashier;
pub mod erasure;
pub mod notifications;
pub mod order_process;
pub mod payments;
pub mod waiting;
pub mod webhook_inbox;

mod breaker;
mod pending;
mod under_way;

pub use erasure::Erasure;
pub use notifications::Notifications;
pub use order_process::OrderProcess;
pub use pending::waiting as orders_waiting;
