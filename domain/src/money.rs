//! Money as whole minor units (pennies, cents) of one currency. Never a float.

use serde::{Deserialize, Serialize};

use crate::ascii_code::ascii_code;
use crate::text::Quantity;

ascii_code!(
    /// An ISO 4217 currency code, such as `GBP`: three upper-case ASCII letters. Whether it is in use is not checked.
    Currency,
    3,
    "currency"
);

/// Why a sum of money cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Two currencies met. Kontor never converts.
    #[error("expected an amount in {expected}, found {found}")]
    CurrencyMismatch {
        /// The currency that was there first.
        expected: Currency,
        /// The other one.
        found: Currency,
    },
    /// The amount does not fit 53 bits, which is what a JSON number keeps exactly.
    #[error("the amount is beyond {} minor units", Money::MAX_MINOR)]
    OutOfRange,
    /// A price or a refund below zero.
    #[error("the amount must not be negative")]
    Negative,
}

/// An amount in minor units, at most [`Money::MAX_MINOR`] either way. May be negative; prices ask
/// [`Money::non_negative`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StoredMoney")]
pub struct Money {
    amount_minor: i64,
    currency: Currency,
}

impl Money {
    /// The greatest amount: 2^53 - 1 minor units, the greatest integer every JSON reader keeps exactly.
    pub const MAX_MINOR: i64 = (1 << 53) - 1;

    /// An amount in minor units; [`MoneyError::OutOfRange`] beyond [`Money::MAX_MINOR`].
    pub fn new(amount_minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        Self::from_wide(i128::from(amount_minor), currency)
    }

    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self {
            amount_minor: 0,
            currency,
        }
    }

    /// Minor units.
    #[must_use]
    pub const fn amount_minor(self) -> i64 {
        self.amount_minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The same amount, or [`MoneyError::Negative`].
    pub fn non_negative(self) -> Result<Self, MoneyError> {
        if self.amount_minor < 0 {
            return Err(MoneyError::Negative);
        }
        Ok(self)
    }

    /// The sum; refuses another currency and a result out of range.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        let other = other.in_currency(self.currency)?;
        Self::new(self.amount_minor + other.amount_minor, self.currency)
    }

    /// The difference; refuses another currency and a result out of range.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        let other = other.in_currency(self.currency)?;
        Self::new(self.amount_minor - other.amount_minor, self.currency)
    }

    /// The price of that many; refuses a result out of range.
    pub fn times(self, quantity: Quantity) -> Result<Self, MoneyError> {
        let amount = i128::from(self.amount_minor) * i128::from(quantity.get());
        Self::from_wide(amount, self.currency)
    }

    fn in_currency(self, expected: Currency) -> Result<Self, MoneyError> {
        if self.currency != expected {
            return Err(MoneyError::CurrencyMismatch {
                expected,
                found: self.currency,
            });
        }
        Ok(self)
    }

    fn from_wide(amount: i128, currency: Currency) -> Result<Self, MoneyError> {
        match i64::try_from(amount) {
            Ok(amount_minor) if amount_minor.abs_diff(0) <= Self::MAX_MINOR.unsigned_abs() => Ok(Self {
                amount_minor,
                currency,
            }),
            _ => Err(MoneyError::OutOfRange),
        }
    }
}

/// The stored shape, before it has been checked.
#[derive(Deserialize)]
struct StoredMoney {
    amount_minor: i64,
    currency: Currency,
}

impl TryFrom<StoredMoney> for Money {
    type Error = MoneyError;

    fn try_from(stored: StoredMoney) -> Result<Self, MoneyError> {
        Self::new(stored.amount_minor, stored.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gbp(amount_minor: i64) -> Money {
        Money::new(amount_minor, "GBP".parse().unwrap()).unwrap()
    }

    #[test]
    fn amounts_end_at_53_bits_either_way() {
        let currency = "GBP".parse().unwrap();
        assert_eq!(gbp(Money::MAX_MINOR).amount_minor(), 9_007_199_254_740_991);
        assert_eq!(gbp(-Money::MAX_MINOR).amount_minor(), -9_007_199_254_740_991);
        for amount in [Money::MAX_MINOR + 1, -Money::MAX_MINOR - 1, i64::MAX, i64::MIN] {
            assert_eq!(Money::new(amount, currency), Err(MoneyError::OutOfRange));
        }
        assert_eq!(
            gbp(Money::MAX_MINOR).checked_add(gbp(1)),
            Err(MoneyError::OutOfRange)
        );
        assert_eq!(
            gbp(-Money::MAX_MINOR).checked_sub(gbp(1)),
            Err(MoneyError::OutOfRange)
        );
        let many = Quantity::new(1_000_000).unwrap();
        assert_eq!(gbp(Money::MAX_MINOR).times(many), Err(MoneyError::OutOfRange));
    }

    #[test]
    fn currencies_do_not_mix() {
        let euro = Money::new(1, "EUR".parse().unwrap()).unwrap();
        let mismatch = Err(MoneyError::CurrencyMismatch {
            expected: "GBP".parse().unwrap(),
            found: "EUR".parse().unwrap(),
        });
        assert_eq!(gbp(1).checked_add(euro), mismatch);
        assert_eq!(gbp(1).checked_sub(euro), mismatch);
    }

    #[test]
    fn a_currency_is_three_upper_case_letters() {
        for wrong in ["", "GB", "GBPX", "gbp", "G1P", "\u{c9}\u{c9}"] {
            assert!(wrong.parse::<Currency>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_stored_shape_is_checked_when_read() {
        let json = r#"{"amount_minor":1250,"currency":"GBP"}"#;
        assert_eq!(serde_json::from_str::<Money>(json).unwrap(), gbp(1250));
        assert_eq!(serde_json::to_string(&gbp(1250)).unwrap(), json);
        for wrong in [
            r#"{"amount_minor":9007199254740992,"currency":"GBP"}"#,
            r#"{"amount_minor":1,"currency":"gbp"}"#,
            r#"{"amount_minor":1.5,"currency":"GBP"}"#,
        ] {
            assert!(serde_json::from_str::<Money>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn adding_and_taking_away_again_conserves(
            a in -1_000_000_000_000_i64..1_000_000_000_000, b in -1_000_000_000_000_i64..1_000_000_000_000,
        ) {
            let sum = gbp(a).checked_add(gbp(b)).unwrap();
            prop_assert_eq!(sum.amount_minor(), a + b);
            prop_assert_eq!(sum.checked_sub(gbp(b)).unwrap(), gbp(a));
        }

        #[test]
        fn times_is_repeated_addition(price in -10_000_i64..10_000, quantity in 1_u32..50) {
            let mut sum = Money::zero("GBP".parse().unwrap());
            for _ in 0..quantity {
                sum = sum.checked_add(gbp(price)).unwrap();
            }
            prop_assert_eq!(gbp(price).times(Quantity::new(quantity).unwrap()).unwrap(), sum);
        }
    }
}
