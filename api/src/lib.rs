//! The endpoint: GraphQL over HTTP, WebSocket and Server-Sent Events, with what an operator needs beside it.
//!
//! A request comes in through [`http`], [`socket`] or [`sse`]; [`params`] reads it, [`guard`] and [`documents`] decide
//! whether and as what it is executed, [`graphql`] answers, [`reply`] writes the answer.

pub mod address;
pub mod app;
pub mod auth;
mod connections;
pub mod documents;
pub mod edge;
pub mod gate;
pub mod graphql;
pub mod guard;
pub mod health;
pub mod http;
pub mod media;
pub mod metrics;
mod multiplex;
pub mod params;
pub mod passwords;
pub mod persisted;
pub mod playground;
pub mod rates;
pub mod reply;
pub mod server;
pub mod sessions;
pub mod socket;
pub mod sse;
pub mod standing;
pub mod throttle;
pub mod timed;
pub mod transport;
pub mod webhooks;

pub use app::{App, RequestInfo};
pub use auth::{TokenError, Tokens, Viewer};
pub use edge::Protection;
pub use guard::Limits;
pub use passwords::Passwords;
pub use server::{RouterOptions, router, serve};
