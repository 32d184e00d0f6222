//! The read models.
pub mod copy;
pub mod orders;
pub mod products;
pub mod sales;
pub mod users;
pub mod view;
