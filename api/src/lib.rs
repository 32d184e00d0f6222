//! The endpoint: GraphQL over HTTP, WebSocket and Server-Sent Events, with what an operator needs beside it.

pub mod app;
pub mod auth;
pub mod graphql;
pub mod passwords;
pub mod playground;

pub use app::{App, RequestInfo};
pub use auth::{TokenError, Tokens, Viewer};
pub use passwords::Passwords;
