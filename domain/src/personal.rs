//! Personal data has a type of its own. In the log and everywhere else it rests sealed: encrypted with a key of the
//! person's own, without which nobody can read it again. Who destroys the key has erased the person.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::UserId;

/// What every sealed value begins with; behind it the person's id, a colon, and the ciphertext.
const PREFIX: &str = "sealed:v1:";

/// Data about a person: prints as `***`, and reading it takes a word that can be searched for.
///
/// Either the value itself or its sealed form. Both are stored as they are, so whoever only passes it on needs no key,
/// and what is copied from an event into a row is the same there, byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Personal<T>(Form<T>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form<T> {
    Clear(T),
    Sealed(Sealed),
}

/// A personal value as it rests: `sealed:v1:<person>:<ciphertext>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Box<str>);

impl Sealed {
    /// The sealed form of `ciphertext` (printable, without a colon), which belongs to `person`.
    #[must_use]
    pub fn new(person: UserId, ciphertext: &str) -> Self {
        Self(format!("{PREFIX}{person}:{ciphertext}").into())
    }

    /// Stands where something would be about `person`, if they had not been erased before it was said: there is nothing in it
    /// that any key could open.
    #[must_use]
    pub fn nothing(person: UserId) -> Self {
        Self::new(person, "")
    }

    /// What was stored, if it is a sealed value.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        stored.starts_with(PREFIX).then(|| Self(stored.into()))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is, and the ciphertext, empty in [`Self::nothing`]; `None` if the text is damaged.
    #[must_use]
    pub fn parts(&self) -> Option<(UserId, &str)> {
        let (person, ciphertext) = self.0.strip_prefix(PREFIX)?.split_once(':')?;
        Some((person.parse().ok()?, ciphertext))
    }
}

/// A type of personal data that is kept.
pub trait PersonalData: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Names the type in what is encrypted, so that one ciphertext cannot be put in the place of another. Never changes.
    const KIND: &'static str;
}

/// Where somebody asked from.
impl PersonalData for std::net::IpAddr {
    const KIND: &'static str = "network address";
}

impl<T> Personal<T> {
    /// Marks a value as personal.
    pub const fn new(value: T) -> Self {
        Self(Form::Clear(value))
    }

    /// What was read from storage, sealed.
    #[must_use]
    pub const fn of_sealed(sealed: Sealed) -> Self {
        Self(Form::Sealed(sealed))
    }

    /// The value; `None` as long as it is sealed. Never log what comes out.
    pub const fn reveal(&self) -> Option<&T> {
        match &self.0 {
            Form::Clear(value) => Some(value),
            Form::Sealed(_) => None,
        }
    }

    /// The value, owned; `None` as long as it is sealed. Never log what comes out.
    pub fn into_inner(self) -> Option<T> {
        match self.0 {
            Form::Clear(value) => Some(value),
            Form::Sealed(_) => None,
        }
    }

    /// The sealed form, if it is sealed.
    pub const fn sealed(&self) -> Option<&Sealed> {
        match &self.0 {
            Form::Clear(_) => None,
            Form::Sealed(sealed) => Some(sealed),
        }
    }
}

impl<T: AsRef<str>> Personal<T> {
    /// As a column of text holds it: sealed, or as it was stored before anything was.
    pub fn stored(&self) -> &str {
        match &self.0 {
            Form::Clear(value) => value.as_ref(),
            Form::Sealed(sealed) => sealed.as_str(),
        }
    }
}

impl<T: TryFrom<String>> Personal<T> {
    /// What a column of text holds; see [`Self::stored`].
    ///
    /// # Errors
    /// When it is neither sealed nor such a value.
    pub fn from_stored(stored: &str) -> Result<Self, T::Error> {
        match Sealed::parse(stored) {
            Some(sealed) => Ok(Self::of_sealed(sealed)),
            None => T::try_from(stored.to_owned()).map(Self::new),
        }
    }
}

/// A [`Personal`] of whatever type, for whoever seals and unseals.
pub trait PersonalValue: Send {
    /// See [`PersonalData::KIND`].
    fn kind(&self) -> &'static str;
    /// The sealed form, if it is sealed.
    fn sealed(&self) -> Option<&Sealed>;
    /// The value in the form that is encrypted, if it is not sealed.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn plain(&self) -> Result<Option<Vec<u8>>, serde_json::Error>;
    /// Puts the sealed form in its place.
    fn seal(&mut self, sealed: Sealed);
    /// Puts the value in its place.
    ///
    /// # Errors
    /// When this is not what [`Self::plain`] answers; nothing changes then.
    fn unseal(&mut self, plain: &[u8]) -> Result<(), serde_json::Error>;
}

impl<T: PersonalData> PersonalValue for Personal<T> {
    fn kind(&self) -> &'static str {
        T::KIND
    }

    fn sealed(&self) -> Option<&Sealed> {
        self.sealed()
    }

    fn plain(&self) -> Result<Option<Vec<u8>>, serde_json::Error> {
        self.reveal().map(serde_json::to_vec).transpose()
    }

    fn seal(&mut self, sealed: Sealed) {
        *self = Self::of_sealed(sealed);
    }

    fn unseal(&mut self, plain: &[u8]) -> Result<(), serde_json::Error> {
        *self = Self::new(serde_json::from_slice(plain)?);
        Ok(())
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Form::Clear(value) => value.serialize(serializer),
            Form::Sealed(sealed) => serializer.serialize_str(sealed.as_str()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm(PhantomData))
    }
}

/// Personal values are texts or objects; a text may be the sealed form of either.
struct EitherForm<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EitherForm<T> {
    type Value = Personal<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a personal value, or its sealed form")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Personal<T>, E> {
        match Sealed::parse(text) {
            Some(sealed) => Ok(Personal::of_sealed(sealed)),
            None => T::deserialize(StrDeserializer::new(text)).map(Personal::new),
        }
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Personal<T>, E> {
        if text.starts_with(PREFIX) {
            return Ok(Personal::of_sealed(Sealed(text.into())));
        }
        T::deserialize(StringDeserializer::new(text)).map(Personal::new)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Personal<T>, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Personal::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::address;
    use crate::{Address, Email};

    fn sealed() -> Sealed {
        Sealed::new(UserId::from_ulid(ulid::Ulid::from_parts(1, 1)), "c2VjcmV0")
    }

    #[test]
    fn does_not_print_and_stores_as_the_value_itself() {
        let personal = Personal::new("Elbe 1".to_owned());
        assert_eq!(format!("{:?}", Some(&personal)), "Some(***)");
        assert_eq!(serde_json::to_string(&personal).unwrap(), r#""Elbe 1""#);
        assert_eq!(personal.reveal().unwrap(), "Elbe 1");
        assert_eq!(personal.into_inner().unwrap(), "Elbe 1");
    }

    #[test]
    fn both_forms_come_back_as_they_went() {
        let json = serde_json::to_string(&address()).unwrap();
        assert!(json.starts_with('{'));
        assert_eq!(
            serde_json::from_str::<Personal<Address>>(&json).unwrap(),
            address()
        );
        let email = Personal::new("a@example.com".parse::<Email>().unwrap());
        let json = serde_json::to_string(&email).unwrap();
        assert_eq!(serde_json::from_str::<Personal<Email>>(&json).unwrap(), email);

        let json = serde_json::to_string(&Personal::<Address>::of_sealed(sealed())).unwrap();
        assert_eq!(json, format!("\"{}\"", sealed().as_str()));
        let read: Personal<Address> = serde_json::from_str(&json).unwrap();
        assert_eq!(read.sealed(), Some(&sealed()));
        assert_eq!(read.reveal(), None);
        // Owned text takes another way through serde than borrowed text.
        let read: Personal<Email> = serde_json::from_value(json.trim_matches('"').into()).unwrap();
        assert_eq!(read.sealed(), Some(&sealed()));
        assert_eq!(format!("{read:?}{:?}", sealed()), "******");
    }

    #[test]
    fn what_is_neither_is_refused_without_saying_what_it_was() {
        for json in ["\"nobody\"", "3", "null", "[]"] {
            let error = serde_json::from_str::<Personal<Email>>(json)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("nobody"), "{error}");
        }
    }

    #[test]
    fn a_sealed_value_says_whose_it_is() {
        let sealed = sealed();
        let (person, ciphertext) = sealed.parts().unwrap();
        assert_eq!(person, UserId::from_ulid(ulid::Ulid::from_parts(1, 1)));
        assert_eq!(ciphertext, "c2VjcmV0");
        assert_eq!(Sealed::parse("sealed:v1:nobody:x").unwrap().parts(), None);
        assert_eq!(Sealed::parse("Elbe 1"), None);
        assert_eq!(Sealed::nothing(person).parts(), Some((person, "")));
    }

    #[test]
    fn a_value_is_sealed_and_unsealed_in_place() {
        let mut value = address();
        let plain = value.plain().unwrap().unwrap();
        value.seal(sealed());
        assert_eq!(value.plain().unwrap(), None);
        assert!(value.unseal(b"3").is_err());
        assert_eq!(PersonalValue::sealed(&value), Some(&sealed()));
        value.unseal(&plain).unwrap();
        assert_eq!(value, address());
    }
}
