//! Changing the key-encryption key: every key in the database is unwrapped with the one before and wrapped with the new
//! one. What the keys have sealed stays as it is.

use kontor_domain::UserId;

use super::clerk::purpose;
use super::kek::KEY;
use super::{CipherError, Keyring, KeyringError, index};

/// Keys wrapped anew by one statement.
const TOGETHER: i64 = 1_000;

impl Keyring {
    /// Wraps every key anew that is not wrapped with the present key-encryption key, and says how many there were. Can be
    /// stopped and run again, while the shop is open; processes that run need both keys until it is done.
    ///
    /// # Errors
    /// See [`KeyringError`]; what was wrapped anew stays so.
    pub async fn rotate(&self) -> Result<u64, KeyringError> {
        let (pool, keks) = (&self.0.pool, &self.0.keks);
        let mut rotated = self.rotate_index().await?;
        let mut after = String::new();
        loop {
            let rows = sqlx::query!(
                r#"SELECT user_id, wrapped AS "wrapped!", kek_id AS "kek_id!" FROM person_keys
                   WHERE user_id > $1 AND kek_id <> $2 ORDER BY user_id LIMIT $3"#,
                after,
                keks.current(),
                TOGETHER
            )
            .fetch_all(pool)
            .await?;
            let Some(last) = rows.last() else {
                return Ok(rotated);
            };
            after.clone_from(&last.user_id);
            let (mut ids, mut old, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
            for row in rows {
                wrapped.push(self.rewrap(&purpose(&row.user_id), &row.kek_id, &row.wrapped)?);
                ids.push(row.user_id);
                old.push(row.kek_id);
            }
            // Whoever was erased meanwhile has no key any more, and gets none.
            rotated += sqlx::query!(
                "UPDATE person_keys k SET wrapped = n.wrapped, kek_id = $4
                 FROM unnest($1::text[], $2::text[], $3::bytea[]) AS n(user_id, kek_id, wrapped)
                 WHERE k.user_id = n.user_id AND k.kek_id = n.kek_id",
                &ids,
                &old,
                &wrapped,
                keks.current()
            )
            .execute(pool)
            .await?
            .rows_affected();
        }
    }

    async fn rotate_index(&self) -> Result<u64, KeyringError> {
        let (pool, keks) = (&self.0.pool, &self.0.keks);
        let rows = sqlx::query!(
            "SELECT wrapped, kek_id FROM index_keys WHERE purpose = $1 AND kek_id <> $2",
            index::PURPOSE,
            keks.current()
        )
        .fetch_all(pool)
        .await?;
        let mut rotated = 0;
        for row in rows {
            let wrapped = self.rewrap(&index::purpose(), &row.kek_id, &row.wrapped)?;
            rotated += sqlx::query!(
                "UPDATE index_keys SET wrapped = $1, kek_id = $2 WHERE purpose = $3 AND kek_id = $4",
                wrapped,
                keks.current(),
                index::PURPOSE,
                row.kek_id
            )
            .execute(pool)
            .await?
            .rows_affected();
        }
        Ok(rotated)
    }

    fn rewrap(&self, purpose: &str, kek: &str, wrapped: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let key = self
            .0
            .keks
            .unwrap(purpose, kek, wrapped)
            .ok_or_else(|| KeyringError::UnknownKek { id: kek.to_owned() })??;
        let key: &[u8; KEY] = key.as_slice().try_into().map_err(|_| CipherError)?;
        Ok(self.0.keks.wrap(purpose, key)?)
    }

    /// Whether nothing can be known of a person any more, as the database has it now.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub async fn is_erased(&self, person: UserId) -> Result<bool, KeyringError> {
        Ok(matches!(
            self.ask_afresh(person, false).await?,
            Some(super::Known::Erased)
        ))
    }
}
