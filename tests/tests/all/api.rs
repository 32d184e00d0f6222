//! The API as clients meet it: over its own HTTP, WebSocket and Server-Sent Events.

