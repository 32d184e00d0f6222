//! What the event store asks of every aggregate.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use cqrs_es::Aggregate;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use crate::claims::ClaimChange;
use crate::ids::{IdError, UserId};
use crate::personal::PersonalValue;

/// What every Kontor aggregate is, beyond cqrs-es's [`Aggregate`].
///
/// `handle` must never wait: the store decides commands one after another on one state, and a wait would hold up the
/// others. `Services = ()` leaves it nothing to wait for.
pub trait Entity:
    Aggregate<
        Services = (),
        Command: Clone + Debug + Send + Sync + 'static,
        Event: Send + Sync + 'static,
        Error: Send + Sync + 'static,
    > + 'static
{
    /// Version of the serialised state; raise it when the shape changes, and older snapshots are ignored (DESIGN L7).
    const SCHEMA: u32;

    /// Names one stream of this type.
    type Id: Copy + Debug + Display + Eq + FromStr<Err = IdError> + Hash + Ord + Send + Sync + 'static;

    /// The claims that an event takes and releases, in that event's transaction (DESIGN L4).
    fn claim_changes(_event: &Self::Event) -> Vec<ClaimChange> {
        Vec::new()
    }

    /// Whose personal data an event of this aggregate holds, if any. From the moment it is appended it is sealed with that
    /// person's key. Answers the same before the event is applied and after.
    fn person(&self, _id: Self::Id, _event: &Self::Event) -> Option<UserId> {
        None
    }

    /// Whether an event may still happen when the person it is about has been erased. What is personal in it is not kept then.
    fn outlives_its_person(_event: &Self::Event) -> bool {
        false
    }

    /// The personal values in an event.
    fn personal_in(_event: &mut Self::Event) -> Vec<&mut dyn PersonalValue> {
        Vec::new()
    }

    /// The personal values in the state: commands are decided on them unsealed. Those of somebody who was erased stay
    /// sealed.
    fn personal(&mut self) -> Vec<&mut dyn PersonalValue> {
        Vec::new()
    }
}

/// Stands in an aggregate's state and makes a snapshot of another [`Entity::SCHEMA`] fail to decode, which the store
/// takes as "no snapshot": it then reads the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schema<const N: u32>;

impl<const N: u32> Serialize for Schema<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for Schema<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = u32::deserialize(deserializer)?;
        if found != N {
            return Err(D::Error::custom(format_args!(
                "the snapshot has schema {found}, not {N}"
            )));
        }
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_schema_decodes() {
        let json = serde_json::to_string(&Schema::<3>).unwrap();
        assert_eq!(json, "3");
        assert_eq!(serde_json::from_str::<Schema<3>>(&json).unwrap(), Schema);
        assert!(serde_json::from_str::<Schema<4>>(&json).is_err());
        assert!(serde_json::from_str::<Schema<3>>("null").is_err());
    }
}
