//! Typed ids: a prefix that says what it names, and a ULID. As text they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use ulid::{ULID_LEN, Ulid};

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It names something else, or nothing of Kontor's.
    #[error("the id must begin with {expected}")]
    WrongPrefix {
        /// The prefix that was expected, with its underscore.
        expected: &'static str,
    },
    /// What follows the prefix is not a ULID in its canonical form.
    #[error("the id must end in a ULID of {ULID_LEN} upper-case characters")]
    NotAUlid,
}

/// Reads a ULID in its one canonical spelling.
///
/// The `ulid` crate also takes lower case, and numbers beyond 128 bits; each would give one thing two names.
fn canonical_ulid(text: &str) -> Result<Ulid, IdError> {
    let in_range = text.as_bytes().first().is_some_and(|first| *first <= b'7');
    if !in_range || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(IdError::NotAUlid);
    }
    Ulid::from_string(text).map_err(|_| IdError::NotAUlid)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Gives a ULID its meaning. Who makes the ULID owns the clock and the randomness.
            #[must_use]
            pub const fn from_ulid(ulid: Ulid) -> Self {
                Self(ulid)
            }

            /// The ULID without its meaning.
            #[must_use]
            pub const fn ulid(self) -> Ulid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Self::PREFIX)?;
                f.write_str(self.0.array_to_str(&mut [0; ULID_LEN]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let ulid = text.strip_prefix(Self::PREFIX).ok_or(IdError::WrongPrefix {
                    expected: Self::PREFIX,
                })?;
                canonical_ulid(ulid).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::serde_str::deserialize(deserializer, concat!("an id like ", $prefix, "..."))
            }
        }
    };
}

id!(
    /// Names a [`User`](crate::User): `usr_01J...`.
    UserId,
    "usr_"
);
id!(
    /// Names a [`Product`](crate::Product): `prd_01J...`.
    ProductId,
    "prd_"
);
id!(
    /// Names an [`Order`](crate::Order): `ord_01J...`.
    OrderId,
    "ord_"
);
id!(
    /// Names what begins when somebody logs in, and ends at the latest some months later: `ses_01J...`.
    SessionId,
    "ses_"
);
id!(
    /// Names a means of payment that a user keeps: `pay_01J...`.
    PaymentMethodId,
    "pay_"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn another_kinds_id_is_refused() {
        let user = UserId::from_ulid(Ulid::from_parts(1, 2)).to_string();
        assert_eq!(
            user.parse::<OrderId>(),
            Err(IdError::WrongPrefix { expected: "ord_" })
        );
    }

    #[test]
    fn one_thing_has_one_spelling() {
        let canonical = "ord_01J9ZZZZZZZZZZZZZZZZZZZZZZ";
        assert_eq!(canonical.parse::<OrderId>().unwrap().to_string(), canonical);
        for other in [
            "ord_01j9zzzzzzzzzzzzzzzzzzzzzz",  // lower case
            "ord_81J9ZZZZZZZZZZZZZZZZZZZZZZ",  // more than 128 bits
            "ord_01J9ZZZZZZZZZZZZZZZZZZZZZ",   // too short
            "ord_01J9ZZZZZZZZZZZZZZZZZZZZZZZ", // too long
            "ord_01J9ZZZZZZZZZZZZZZZZZZZZZU",  // not in the alphabet
            "ord_0\u{e9}J9ZZZZZZZZZZZZZZZZZZZZZ",
            "ord_",
        ] {
            assert_eq!(other.parse::<OrderId>(), Err(IdError::NotAUlid), "{other}");
        }
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(value: u128) {
            let id = ProductId::from_ulid(Ulid(value));
            prop_assert_eq!(id.to_string().parse::<ProductId>(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(&json, &format!("\"{id}\""));
            prop_assert_eq!(serde_json::from_str::<ProductId>(&json).unwrap(), id);
        }

        #[test]
        fn ids_and_their_texts_sort_by_time(
            early in 0..(1_u64 << 47), later in 1..(1_u64 << 47), a: u128, b: u128,
        ) {
            let first = OrderId::from_ulid(Ulid::from_parts(early, a));
            let second = OrderId::from_ulid(Ulid::from_parts(early + later, b));
            prop_assert!(first < second);
            prop_assert!(first.to_string() < second.to_string());
        }

        #[test]
        fn what_parses_prints_the_same(text in "ord_[0-9A-Za-z]{26}") {
            if let Ok(id) = text.parse::<OrderId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
