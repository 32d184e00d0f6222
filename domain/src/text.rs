//! Text and numbers that people type in, as types that cannot hold a wrong value.
//!
//! Every text is trimmed at the ends when it is made; lengths count characters after that. None of them prints with
//! `{}`: `as_str` says that the text is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::personal::{Personal, PersonalData};

/// A value was not what its type asks for. Never repeats the value: it may be personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TextError {
    /// Which type of value, in plain words.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: TextProblem,
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextProblem {
    /// Nothing is left after trimming.
    #[error("must not be empty")]
    Empty,
    /// Fewer characters than allowed.
    #[error("must have at least {min} characters")]
    TooShort {
        /// The least number of characters.
        min: usize,
    },
    /// More characters than allowed.
    #[error("must have at most {max} characters")]
    TooLong {
        /// The greatest number of characters.
        max: usize,
    },
    /// A character that this value never has, such as a control character.
    #[error("contains a character that is not allowed")]
    ForbiddenCharacter,
    /// Not one `@` with something on both sides.
    #[error("must be an e-mail address: one @ with something before and after it")]
    NotAnEmail,
    /// Not a code of that many upper-case letters.
    #[error("must be {letters} upper-case letters")]
    NotACode {
        /// How many letters the code has.
        letters: usize,
    },
    /// A number outside its bounds.
    #[error("must be between {min} and {max}")]
    OutOfBounds {
        /// The least value.
        min: u32,
        /// The greatest value.
        max: u32,
    },
}

/// What one type of text asks for.
struct Rule {
    field: &'static str,
    min: usize,
    max: usize,
    allows: fn(char) -> bool,
}

impl Rule {
    fn check(&self, value: String) -> Result<String, TextError> {
        // Decoding an event comes through here for every text: no copy unless there is something to trim.
        let trimmed = value.trim();
        let value = if trimmed.len() == value.len() {
            value
        } else {
            trimmed.to_owned()
        };
        let mut length = 0;
        let mut forbidden = false;
        for c in value.chars() {
            length += 1;
            forbidden |= !(self.allows)(c);
        }
        let problem = if length == 0 && self.min > 0 {
            TextProblem::Empty
        } else if length < self.min {
            TextProblem::TooShort { min: self.min }
        } else if length > self.max {
            TextProblem::TooLong { max: self.max }
        } else if forbidden {
            TextProblem::ForbiddenCharacter
        } else {
            return Ok(value);
        };
        Err(TextError {
            field: self.field,
            problem,
        })
    }
}

/// One line of text. U+2028 and U+2029 break lines although they are not control characters.
fn one_line(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}

fn several_lines(c: char) -> bool {
    one_line(c) || matches!(c, '\n' | '\r' | '\t')
}

fn printable(c: char) -> bool {
    one_line(c) && (c == ' ' || !c.is_whitespace())
}

fn no_space(c: char) -> bool {
    !c.is_control() && !c.is_whitespace()
}

fn in_a_phone_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '+' | '-' | ' ' | '(' | ')')
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $min:literal..=$max:literal, $allows:path $(, $shape:path)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            const RULE: Rule = Rule { field: $field, min: $min, max: $max, allows: $allows };

            /// Trims and checks.
            pub fn new(value: impl Into<String>) -> Result<Self, TextError> {
                let value = Self::RULE.check(value.into())?;
                $($shape(&value)?;)?
                Ok(Self(value))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, owned.
            #[must_use]
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(value: String) -> Result<Self, TextError> {
                Self::new(value)
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(value: &str) -> Result<Self, TextError> {
                Self::new(value)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The types that may be printed; a password hash may not.
macro_rules! debug_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

text!(
    /// An e-mail address, spelt as it was typed. Whether it exists only a message to it can tell.
    Email, "e-mail address", 3..=254, no_space, one_at_sign
);
text!(
    /// A stock keeping unit: the shop's own name for a product, unique without regard to case.
    Sku, "SKU", 1..=64, printable
);
text!(
    /// What a product is called.
    ProductName, "product name", 1..=200, one_line
);
text!(
    /// What there is to say about a product; may be empty and have several lines.
    Description, "description", 0..=10_000, several_lines
);
text!(
    /// The shelf a product stands on.
    Category, "category", 1..=100, one_line
);
text!(
    /// A person's name, as one text: names have no parts that all people share.
    PersonName, "name", 1..=200, one_line
);
text!(
    /// A telephone number: digits, `+`, `-`, spaces and parentheses.
    Phone, "phone number", 3..=32, in_a_phone_number
);
text!(
    /// A password after hashing (a PHC string). Opaque here; never printed.
    PasswordHash, "password hash", 1..=1_000, no_space
);
text!(
    /// Why somebody did something, in their words; may have several lines.
    Reason, "reason", 1..=500, several_lines
);
text!(
    /// What a carrier calls a parcel.
    TrackingNumber, "tracking number", 1..=100, one_line
);
text!(
    /// Who carries a parcel.
    Carrier, "carrier", 1..=100, one_line
);
text!(
    /// One line of a postal address; also a town or a region.
    AddressLine, "address line", 1..=200, one_line
);
text!(
    /// A postal code, in whatever form its country uses.
    PostalCode, "postal code", 1..=20, one_line
);
text!(
    /// What somebody calls a means of payment of theirs, to know it again.
    PaymentMethodLabel, "label", 1..=60, one_line
);

debug_as_text!(
    Email,
    Sku,
    ProductName,
    Description,
    Category,
    PersonName,
    Phone,
    Reason,
    TrackingNumber,
    Carrier,
    AddressLine,
    PostalCode,
    PaymentMethodLabel
);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn one_at_sign(value: &str) -> Result<(), TextError> {
    match value.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => Ok(()),
        _ => Err(TextError {
            field: Email::RULE.field,
            problem: TextProblem::NotAnEmail,
        }),
    }
}

impl Email {
    /// The form that must be unique: Unicode lower case.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// Whether both can be read and are the same address, however it is spelt.
    #[must_use]
    pub fn are_same(one: &Personal<Self>, other: &Personal<Self>) -> bool {
        let folded = |email: &Personal<Self>| email.reveal().map(Self::folded);
        folded(one).is_some_and(|address| Some(address) == folded(other))
    }
}

impl Sku {
    /// The form that must be unique: Unicode lower case.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PersonalData for Email {
    const KIND: &'static str = "email";
}

impl PersonalData for PersonName {
    const KIND: &'static str = "name";
}

impl PersonalData for Phone {
    const KIND: &'static str = "phone";
}

impl PersonalData for PaymentMethodLabel {
    const KIND: &'static str = "payment method label";
}

/// What people write about an order or an account is about somebody, whoever it names. Of products, nobody seals it.
impl PersonalData for Reason {
    const KIND: &'static str = "reason";
}

/// Not the password, but whoever has it may guess at one that its owner uses elsewhere too.
impl PersonalData for PasswordHash {
    const KIND: &'static str = "password hash";
}

/// How many of a product: [`Quantity::MIN`] to [`Quantity::MAX`] pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl Quantity {
    /// The least: one piece.
    pub const MIN: u32 = 1;
    /// The most in one go: a million pieces.
    pub const MAX: u32 = 1_000_000;

    /// That many pieces.
    pub fn new(pieces: u32) -> Result<Self, TextError> {
        if (Self::MIN..=Self::MAX).contains(&pieces) {
            return Ok(Self(pieces));
        }
        Err(TextError {
            field: "quantity",
            problem: TextProblem::OutOfBounds {
                min: Self::MIN,
                max: Self::MAX,
            },
        })
    }

    /// The number of pieces.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Both together, if that is still a quantity.
    pub fn checked_add(self, other: Self) -> Result<Self, TextError> {
        Self::new(self.0 + other.0)
    }
}

impl TryFrom<u32> for Quantity {
    type Error = TextError;

    fn try_from(pieces: u32) -> Result<Self, TextError> {
        Self::new(pieces)
    }
}

impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

impl From<Quantity> for u64 {
    fn from(quantity: Quantity) -> Self {
        quantity.0.into()
    }
}

#[cfg(test)]
mod tests;
