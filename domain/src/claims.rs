//! What must be unique across aggregates. No aggregate can see the others, so it claims a value; the event store keeps
//! the claims in a table, inside the append's transaction (DESIGN L4).

use std::fmt;

/// What sort of value is claimed. One value may be claimed once per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// A user's e-mail address.
    Email,
    /// A product's SKU.
    Sku,
}

impl ClaimKind {
    /// How the kind is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sku => "sku",
        }
    }

    /// Whether the values are about people: then a keyed hash stands for the value.
    #[must_use]
    pub const fn is_personal(self) -> bool {
        matches!(self, Self::Email)
    }
}

/// What an event does to the claims. Values are case-folded, and may be personal: they do not print.
#[derive(Clone, PartialEq, Eq)]
pub enum ClaimChange {
    /// The aggregate takes the value; the command fails if another has it.
    Take {
        /// What sort of value.
        kind: ClaimKind,
        /// The value, case-folded.
        value: String,
    },
    /// The aggregate gives the value back.
    Release {
        /// What sort of value.
        kind: ClaimKind,
        /// The value, case-folded.
        value: String,
    },
}

impl fmt::Debug for ClaimChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take { kind, .. } => write!(f, "Take({kind:?}, ***)"),
            Self::Release { kind, .. } => write!(f, "Release({kind:?}, ***)"),
        }
    }
}
