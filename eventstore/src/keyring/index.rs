//! Finding people by what is not stored: a keyed hash stands in the claims for an e-mail address. The key is random and
//! stays the same when key-encryption keys change, so that an address is found again.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kontor_domain::ClaimKind;
use sqlx::PgPool;

use super::KeyringError;
use super::kek::{KeyEncryption, random};

pub(super) const PURPOSE: &str = "claims";
/// What a hash begins with; no e-mail address does, for want of an `@`.
const PREFIX: &str = "hmac:";

/// The database's key, made by whoever comes first.
pub(super) async fn open(pool: &PgPool, keks: &KeyEncryption) -> Result<hmac::Key, KeyringError> {
    if let Some(key) = find(pool, keks).await? {
        return Ok(key);
    }
    let wrapped = keks.wrap(&purpose(), &random()?)?;
    sqlx::query!(
        "INSERT INTO index_keys (purpose, wrapped, kek_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        PURPOSE,
        wrapped,
        keks.current()
    )
    .execute(pool)
    .await?;
    find(pool, keks)
        .await?
        .ok_or_else(|| KeyringError::Unavailable("the key of the claims has gone".to_owned()))
}

async fn find(pool: &PgPool, keks: &KeyEncryption) -> Result<Option<hmac::Key>, KeyringError> {
    let row = sqlx::query!(
        "SELECT wrapped, kek_id FROM index_keys WHERE purpose = $1",
        PURPOSE
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let key = keks
        .unwrap(&purpose(), &row.kek_id, &row.wrapped)
        .ok_or(KeyringError::UnknownKek { id: row.kek_id })??;
    Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &key)))
}

/// What the key is wrapped for.
pub(super) fn purpose() -> String {
    format!("index key of {PURPOSE}")
}

pub(super) fn claimed(key: &hmac::Key, kind: ClaimKind, value: &str) -> String {
    if !kind.is_personal() {
        return value.to_owned();
    }
    let tag = hmac::sign(key, format!("{}\0{value}", kind.as_str()).as_bytes());
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Claims from before there were hashes get theirs. Bears repetition, and several at once.
pub(super) async fn hide_claims(pool: &PgPool, key: &hmac::Key) -> Result<(), sqlx::Error> {
    let kind = ClaimKind::Email;
    let clear = sqlx::query_scalar!(
        "SELECT value FROM claims WHERE kind = $1 AND position('@' IN value) > 0",
        kind.as_str()
    )
    .fetch_all(pool)
    .await?;
    if clear.is_empty() {
        return Ok(());
    }
    let hidden: Vec<String> = clear.iter().map(|value| claimed(key, kind, value)).collect();
    sqlx::query!(
        "UPDATE claims c SET value = n.hidden FROM unnest($2::text[], $3::text[]) AS n(clear, hidden)
         WHERE c.kind = $1 AND c.value = n.clear",
        kind.as_str(),
        &clear,
        &hidden
    )
    .execute(pool)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hidden_and_a_sku_is_not() {
        let key = |byte: u8| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let hidden = claimed(&key(1), ClaimKind::Email, "a@example.com");
        assert!(hidden.starts_with(PREFIX) && !hidden.contains("example"));
        assert_eq!(claimed(&key(1), ClaimKind::Email, "a@example.com"), hidden);
        assert_ne!(claimed(&key(2), ClaimKind::Email, "a@example.com"), hidden);
        assert_ne!(claimed(&key(1), ClaimKind::Email, "b@example.com"), hidden);
        assert_eq!(claimed(&key(1), ClaimKind::Sku, "sku-1"), "sku-1");
    }
}
