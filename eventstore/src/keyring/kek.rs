//! The key-encryption key: the one secret that is not in the database. It encrypts the others, and never data.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Bytes of every key in the house.
pub(crate) const KEY: usize = 32;
/// Bytes of the nonce in front of a ciphertext.
const NONCE: usize = 12;

/// Encrypts with AES-256-GCM: nonce, ciphertext, tag.
pub(crate) fn encrypt(key: &RandomizedNonceKey, aad: &str, plain: &[u8]) -> Result<Vec<u8>, CipherError> {
    let mut text = plain.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(aad.as_bytes()), &mut text)
        .map_err(|_| CipherError)?;
    let mut sealed = Vec::with_capacity(NONCE + text.len());
    sealed.extend_from_slice(nonce.as_ref());
    sealed.extend_from_slice(&text);
    Ok(sealed)
}

/// Decrypts what [`encrypt`] made with the same key and the same `aad`.
pub(crate) fn decrypt(key: &RandomizedNonceKey, aad: &str, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
    let (nonce, text) = sealed.split_at_checked(NONCE).ok_or(CipherError)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CipherError)?;
    let mut text = text.to_vec();
    let length = key
        .open_in_place(nonce, Aad::from(aad.as_bytes()), &mut text)
        .map_err(|_| CipherError)?
        .len();
    text.truncate(length);
    Ok(text)
}

pub(crate) fn cipher(bytes: &[u8]) -> Result<RandomizedNonceKey, CipherError> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| CipherError)
}

/// Bytes from the system's source of randomness.
pub(crate) fn random() -> Result<[u8; KEY], CipherError> {
    let mut bytes = [0; KEY];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CipherError)?;
    Ok(bytes)
}

/// It was made with another key, for something else, or is damaged. The library does not say which, and neither do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext does not open")]
pub struct CipherError;

/// Why a text is no key-encryption key. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key-encryption key is 32 random bytes, written in base64 or as 64 hexadecimal digits")]
pub struct KekError;

/// The key-encryption keys: one that encrypts, and older ones that still decrypt until everything is rewrapped. Cheap to
/// clone; does not print.
#[derive(Clone)]
pub struct KeyEncryption(Arc<[Kek]>);

struct Kek {
    id: String,
    key: RandomizedNonceKey,
}

impl fmt::Debug for KeyEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|kek| &kek.id)).finish()
    }
}

impl KeyEncryption {
    /// With `current`, and with `older` ones for what was wrapped before; all as text.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn new<'a>(current: &'a str, older: impl IntoIterator<Item = &'a str>) -> Result<Self, KekError> {
        std::iter::once(current)
            .chain(older)
            .map(Kek::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// A new key, as text.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<String, CipherError> {
        random().map(|bytes| STANDARD.encode(bytes))
    }

    /// The id of the key that encrypts.
    pub(crate) fn current(&self) -> &str {
        self.0.first().map_or("", |kek| &kek.id)
    }

    pub(crate) fn wrap(&self, purpose: &str, key: &[u8; KEY]) -> Result<Vec<u8>, CipherError> {
        let kek = self.0.first().ok_or(CipherError)?;
        encrypt(&kek.key, purpose, key)
    }

    /// The key that was wrapped for `purpose`; `None` if the key-encryption key called `kek` is not here.
    pub(crate) fn unwrap(
        &self,
        purpose: &str,
        kek: &str,
        wrapped: &[u8],
    ) -> Option<Result<Vec<u8>, CipherError>> {
        let kek = self.0.iter().find(|it| it.id == kek)?;
        Some(decrypt(&kek.key, purpose, wrapped))
    }
}

impl Kek {
    fn parse(text: &str) -> Result<Self, KekError> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY {
            from_hex(text).ok_or(KekError)?
        } else {
            STANDARD.decode(text).map_err(|_| KekError)?
        };
        if bytes.len() != KEY {
            return Err(KekError);
        }
        // Says nothing about the key, but which it is.
        let digest = Sha256::new()
            .chain_update("kontor kek")
            .chain_update(&bytes)
            .finalize();
        let id = STANDARD.encode(&digest[..6]);
        let key = cipher(&bytes).map_err(|_| KekError)?;
        Ok(Self { id, key })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_wrapped_for_one_purpose_and_found_by_the_name_of_what_wrapped_it() {
        let (old, new) = (
            KeyEncryption::generate().unwrap(),
            KeyEncryption::generate().unwrap(),
        );
        let before = KeyEncryption::new(&old, []).unwrap();
        let key = random().unwrap();
        let wrapped = before.wrap("one", &key).unwrap();
        let after = KeyEncryption::new(&new, [old.as_str()]).unwrap();
        assert_ne!(before.current(), after.current());
        let opened = after.unwrap("one", before.current(), &wrapped).unwrap();
        assert_eq!(opened.unwrap(), key);
        assert!(after.unwrap("two", before.current(), &wrapped).unwrap().is_err());
        assert!(after.unwrap("one", after.current(), &wrapped).unwrap().is_err());
        assert!(before.unwrap("one", after.current(), &wrapped).is_none());
    }

    #[test]
    fn both_ways_to_write_it_are_the_same_key() {
        let hex = "00112233445566778899aAbBcCdDeEfF00112233445566778899aabbccddeeff";
        let bytes = from_hex(hex).unwrap();
        assert_eq!(bytes[..4], [0, 0x11, 0x22, 0x33]);
        let (a, b) = (
            Kek::parse(hex).unwrap(),
            Kek::parse(&format!("{}\n", STANDARD.encode(&bytes))).unwrap(),
        );
        assert_eq!(a.id, b.id);
        for wrong in [
            "",
            "secret",
            &hex[1..],
            &hex.replace('0', "x"),
            &STANDARD.encode([1; 31]),
        ] {
            assert!(KeyEncryption::new(wrong, []).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = cipher(&random().unwrap()).unwrap();
        let sealed = encrypt(&key, "a", b"Elbe 1").unwrap();
        assert_ne!(encrypt(&key, "a", b"Elbe 1").unwrap(), sealed, "nonces repeat");
        assert_eq!(decrypt(&key, "a", &sealed).unwrap(), b"Elbe 1");
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(decrypt(&key, "a", &other).is_err(), "byte {at}");
        }
        assert!(decrypt(&key, "b", &sealed).is_err());
        assert!(decrypt(&key, "a", &sealed[..11]).is_err());
    }
}
