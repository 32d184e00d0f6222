//! Documents that are named by their hash instead of being sent: those that were sent once (Apollo's automatic persisted
//! queries), or a list that is all that is ever executed (trusted documents).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_graphql::{ServerError, Value};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::reply::{self, Code};

/// Bytes of documents that are kept by their hash; the least used go first.
const STORED_BYTES: u64 = 4 * 1024 * 1024;
/// How many that is, about.
const STORED: usize = 4_096;

/// SHA-256 of a document.
type Hash = [u8; 32];

/// Where documents come from.
#[derive(Debug, Clone)]
pub enum Documents {
    /// From whoever asks. What was good once can then be named.
    Anybodys(Arc<Cache<Hash, Arc<str>, Bytes>>),
    /// From this list and nowhere else.
    Trusted(Arc<TrustedDocuments>),
}

impl Default for Documents {
    fn default() -> Self {
        let stored = Cache::with_weighter(STORED, STORED_BYTES, Bytes);
        Self::Anybodys(Arc::new(stored))
    }
}

/// A document weighs what it takes up.
#[derive(Debug, Clone)]
pub struct Bytes;

impl Weighter<Hash, Arc<str>> for Bytes {
    fn weight(&self, _: &Hash, text: &Arc<str>) -> u64 {
        text.len() as u64 + 100
    }
}

/// All that is executed.
#[derive(Debug, Default)]
pub struct TrustedDocuments {
    by_hash: HashMap<Hash, Arc<str>>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file is not there.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not JSON of that shape.
    #[error("it is not an object of documents by their SHA-256 in hexadecimal digits: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A hash is not the document's.
    #[error("{0} is not the SHA-256 of its document")]
    WrongHash(String),
}

impl TrustedDocuments {
    /// Reads `{ "<sha-256>": "<document>", … }`. A hash may be written as `sha256:<hash>`.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        Self::from_json(&std::fs::read_to_string(file)?)
    }

    /// The same, from its text.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        let listed: HashMap<String, Arc<str>> = serde_json::from_str(text)?;
        let mut by_hash = HashMap::with_capacity(listed.len());
        for (written, document) in listed {
            let hash = hash_of(&document);
            if read_hash(&written) != Some(hash) {
                return Err(ManifestError::WrongHash(written));
            }
            by_hash.insert(hash, document);
        }
        Ok(Self { by_hash })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether nothing is executed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// The documents.
    pub fn documents(&self) -> impl Iterator<Item = &str> {
        self.by_hash.values().map(AsRef::as_ref)
    }
}

/// A document, and the hash it is to be kept under once it has proved good.
pub(crate) struct Found<'a> {
    pub(crate) text: Cow<'a, str>,
    keep: Option<Hash>,
}

impl Documents {
    /// The document that is meant.
    pub(crate) fn find<'a>(
        &self,
        query: Option<Cow<'a, str>>,
        extensions: &HashMap<String, Value>,
    ) -> Result<Found<'a>, ServerError> {
        let named = named(extensions)?;
        match self {
            Self::Anybodys(stored) => match (query, named) {
                (Some(text), None) => Ok(Found { text, keep: None }),
                (Some(text), Some(hash)) if hash_of(&text) == hash => Ok(Found {
                    text,
                    keep: Some(hash),
                }),
                (Some(_), Some(_)) => Err(bad("provided sha does not match query")),
                (None, Some(hash)) => stored
                    .get(&hash)
                    .map(|text| Found {
                        text: Cow::Owned(text.as_ref().to_owned()),
                        keep: None,
                    })
                    // In these words Apollo's clients know what to do.
                    .ok_or_else(|| reply::error(Code::PersistedQueryNotFound, "PersistedQueryNotFound")),
                (None, None) => Err(bad("the parameter `query` is missing")),
            },
            Self::Trusted(trusted) => {
                let hash = match (named, &query) {
                    (Some(hash), _) => hash,
                    (None, Some(text)) => hash_of(text),
                    (None, None) => {
                        return Err(bad(
                            "the document's hash is missing: extensions.persistedQuery.sha256Hash",
                        ));
                    }
                };
                let text = trusted.by_hash.get(&hash).ok_or_else(|| {
                    reply::error(
                        Code::UntrustedDocument,
                        "only documents that the shop has listed are executed, and this is none of them",
                    )
                })?;
                Ok(Found {
                    text: Cow::Owned(text.as_ref().to_owned()),
                    keep: None,
                })
            }
        }
    }

    /// Keeps a document that has passed the guard.
    pub(crate) fn keep(&self, found: &Found<'_>) {
        if let (Self::Anybodys(stored), Some(hash)) = (self, found.keep) {
            stored.insert(hash, found.text.as_ref().into());
        }
    }
}

/// `extensions.persistedQuery`, of which there is one version.
fn named(extensions: &HashMap<String, Value>) -> Result<Option<Hash>, ServerError> {
    let Some(Value::Object(named)) = extensions.get("persistedQuery") else {
        return Ok(None);
    };
    if named
        .get("version")
        .is_some_and(|version| *version != Value::from(1))
    {
        return Err(bad("extensions.persistedQuery: version 1 is all there is"));
    }
    match named.get("sha256Hash") {
        Some(Value::String(text)) => read_hash(text)
            .map(Some)
            .ok_or_else(|| bad("extensions.persistedQuery.sha256Hash must have 64 hexadecimal digits")),
        _ => Err(bad("extensions.persistedQuery.sha256Hash is missing")),
    }
}

fn hash_of(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

fn read_hash(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn bad(message: &str) -> ServerError {
    reply::error(Code::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_list_is_held_to_its_hashes() {
        let good = format!(r#"{{ "{EMPTY}": "" }}"#);
        assert_eq!(TrustedDocuments::from_json(&good).unwrap().len(), 1);
        let prefixed = format!(r#"{{ "sha256:{EMPTY}": "" }}"#);
        assert_eq!(TrustedDocuments::from_json(&prefixed).unwrap().len(), 1);
        let wrong = format!(r#"{{ "{EMPTY}": "{{hello}}" }}"#);
        assert!(matches!(
            TrustedDocuments::from_json(&wrong),
            Err(ManifestError::WrongHash(_))
        ));
        for none in ["[]", "{", r#"{"a":1}"#] {
            assert!(TrustedDocuments::from_json(none).is_err(), "{none}");
        }
    }
}
