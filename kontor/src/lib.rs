//! The binary's rooms, as a library so that the tests can enter them.

pub mod cli;
pub mod commands;
pub mod import;
pub mod keys;
pub mod runtime;
pub mod seed;
pub mod servers;
pub mod terminal;
