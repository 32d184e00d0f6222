//! The binary's rooms, as a library so that the tests can enter them.

pub mod servers;
