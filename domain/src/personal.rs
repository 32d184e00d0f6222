//! Personal data has a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Data about a person: prints as `***`, and reading it takes a word that can be searched for.
///
/// This is the one place where encryption will come: every name, e-mail address, phone number and postal address in a
/// stored event goes through this type's `Serialize` and `Deserialize`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    /// Marks a value as personal.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Never log what comes out.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// The value, owned. Never log what comes out.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_print_and_stores_as_the_value_itself() {
        let personal = Personal::new("Elbe 1".to_owned());
        assert_eq!(format!("{:?}", Some(&personal)), "Some(***)");
        assert_eq!(serde_json::to_string(&personal).unwrap(), r#""Elbe 1""#);
        assert_eq!(personal.reveal(), "Elbe 1");
        assert_eq!(personal.into_inner(), "Elbe 1");
    }
}
