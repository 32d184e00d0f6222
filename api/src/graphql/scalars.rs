//! The scalars of the schema, and money.

use async_graphql::{
    ID, InputObject, InputType, InputValueError, InputValueResult, Scalar, ScalarType, SimpleObject, Value,
};
use chrono::{SecondsFormat, Utc};
use kontor_domain::{Currency, Money as Amount, MoneyError};

use super::error::{BAD_USER_INPUT, bad_user_input};

/// A scalar that cannot be read is the client's mistake, and says so in the error's `code`.
fn unreadable<T: InputType>(problem: impl std::fmt::Display) -> InputValueError<T> {
    InputValueError::custom(problem).with_extension("code", BAD_USER_INPUT)
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub(crate) u64);

/// A place in the log of everything that ever happened in the shop: a whole number from 0, written as a decimal string,
/// because it may outgrow the numbers of JSON. Later is greater; positions can be compared as numbers. Every mutation
/// answers with one, and every query takes one as `atLeast`: so a client reads what it has just written.
#[Scalar]
impl ScalarType for Position {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(unreadable("a position is a string of decimal digits"));
        };
        // `u64::from_str` takes a plus sign; one position has one spelling.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unreadable("a position is a string of decimal digits"));
        }
        text.parse().map(Self).map_err(unreadable)
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateTime(pub(crate) chrono::DateTime<Utc>);

/// A moment, as RFC 3339 has it: answered in UTC with microseconds (`2026-03-01T09:30:00.000000Z`), taken with any offset.
#[Scalar(name = "DateTime")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(unreadable("a moment is a string as in RFC 3339"));
        };
        let moment = chrono::DateTime::parse_from_rfc3339(text).map_err(unreadable)?;
        Ok(Self(moment.with_timezone(&Utc)))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// An amount in minor units that fits 53 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinorUnits(pub(crate) i64);

/// An amount of money in the minor unit of its currency (pennies, cents): a whole number from -9007199254740991 to
/// 9007199254740991, which is what a JSON number keeps exactly. Never a fraction.
#[Scalar]
impl ScalarType for MinorUnits {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::Number(number) => number
                .as_i64()
                .filter(|amount| amount.unsigned_abs() <= Amount::MAX_MINOR.unsigned_abs())
                .map(Self)
                .ok_or_else(|| unreadable("an amount is a whole number of at most 53 bits")),
            _ => Err(unreadable("an amount is a whole number of minor units")),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(self.0.into())
    }
}

/// A number of pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) i64);

/// How many of something: a whole number from 0 to 9007199254740991, more than `Int` can hold. Only ever in answers.
#[Scalar]
impl ScalarType for Count {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::Number(number) => number
                .as_i64()
                .map(Self)
                .ok_or_else(|| unreadable("a whole number")),
            _ => Err(unreadable("a whole number")),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(self.0.into())
    }
}

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// A currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CurrencyCode(pub(crate) Currency);

/// A currency by its ISO 4217 code: three upper-case letters, such as `GBP`. Whether it is in use is not checked.
#[Scalar(specified_by_url = "https://www.iso.org/iso-4217-currency-codes.html")]
impl ScalarType for CurrencyCode {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => text.parse().map(Self).map_err(unreadable),
            _ => Err(unreadable("a currency is a string of three upper-case letters")),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.as_str().to_owned())
    }
}

/// An amount of money. Kontor never converts between currencies and never rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SimpleObject)]
pub(crate) struct Money {
    /// The amount, in minor units of `currency`: 1250 is 12.50 in a currency with two decimals.
    amount_minor: MinorUnits,
    /// The currency.
    currency: CurrencyCode,
}

impl Money {
    /// An amount as a row has it. The error is a row that no event can have made.
    pub(crate) fn of_row(amount_minor: i64, currency: &str) -> Result<Self, String> {
        let currency = currency
            .parse()
            .map_err(|error| format!("currency of a row: {error}"))?;
        Ok(Self {
            amount_minor: MinorUnits(amount_minor),
            currency: CurrencyCode(currency),
        })
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        Self {
            amount_minor: MinorUnits(amount.amount_minor()),
            currency: CurrencyCode(amount.currency()),
        }
    }
}

/// An amount of money, given.
#[derive(Debug, Clone, Copy, InputObject)]
pub(crate) struct MoneyInput {
    /// The amount, in minor units of `currency`: 1250 is 12.50 in a currency with two decimals.
    amount_minor: MinorUnits,
    /// The currency.
    currency: CurrencyCode,
}

impl MoneyInput {
    /// The amount, which must not be negative.
    pub(crate) fn non_negative(self) -> Result<Amount, MoneyError> {
        Amount::new(self.amount_minor.0, self.currency.0)?.non_negative()
    }
}

/// Reads the id in an argument of a query. One that could never name anything is a mistake worth telling.
pub(crate) fn id_argument<I>(argument: &'static str, id: &ID) -> async_graphql::Result<I>
where
    I: std::str::FromStr<Err = kontor_domain::IdError>,
{
    id.parse()
        .map_err(|error| bad_user_input(format!("{argument}: {error}")))
}

/// A version as `Int` has it.
pub(crate) fn version(version: i64) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: ScalarType>(value: impl Into<Value>) -> Option<T> {
        T::parse(value.into()).ok()
    }

    #[test]
    fn a_position_is_digits_in_a_string() {
        assert_eq!(parse("0"), Some(Position(0)));
        assert_eq!(parse(u64::MAX.to_string()), Some(Position(u64::MAX)));
        for wrong in ["", "-1", "+1", "1.0", " 1", "0x1", "18446744073709551616"] {
            assert_eq!(parse::<Position>(wrong), None, "{wrong}");
        }
        assert_eq!(parse::<Position>(1), None);
    }

    #[test]
    fn an_amount_fits_53_bits() {
        assert_eq!(
            parse(9_007_199_254_740_991_i64),
            Some(MinorUnits(9_007_199_254_740_991))
        );
        assert_eq!(parse::<MinorUnits>(9_007_199_254_740_992_i64), None);
        assert_eq!(parse::<MinorUnits>(-9_007_199_254_740_992_i64), None);
        assert_eq!(parse::<MinorUnits>(1.5), None);
        assert_eq!(parse::<MinorUnits>("1"), None);
    }

    #[test]
    fn a_moment_is_told_in_utc() {
        let moment = parse::<DateTime>("2026-03-01T10:30:00+01:00").unwrap();
        assert_eq!(
            ScalarType::to_value(&moment),
            Value::String("2026-03-01T09:30:00.000000Z".to_owned())
        );
        assert_eq!(parse::<DateTime>("2026-03-01"), None);
    }
}
