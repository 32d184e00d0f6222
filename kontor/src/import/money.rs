//! The file's money: pounds with up to three decimals, where the shop's has two.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul, Neg};

/// Thousandths of a pound. Kontor's own money is whole pence; this adds up what was not taken, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thousandths(pub i128);

impl Thousandths {
    /// From whole pence.
    #[must_use]
    pub fn from_pence(pence: i64) -> Self {
        Self(i128::from(pence) * 10)
    }

    /// Whole pence, if it is that.
    #[must_use]
    pub fn pence(self) -> Option<i64> {
        (self.0 % 10 == 0)
            .then(|| i64::try_from(self.0 / 10).ok())
            .flatten()
    }

    /// Reads a plain decimal number: an optional minus, up to twelve digits, up to three decimals.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=12).contains(&whole.len()) || !(1..=3).contains(&decimals.len()) {
            return None;
        }
        if !numeric(whole) || !numeric(decimals) {
            return None;
        }
        let thousandths: i128 = format!("{whole}{decimals:0<3}").parse().ok()?;
        Some(Self(sign * thousandths))
    }
}

impl fmt::Display for Thousandths {
    /// In pounds: two decimals, or three where they are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (pounds, rest) = (self.0.unsigned_abs() / 1_000, self.0.unsigned_abs() % 1_000);
        let pounds = grouped(pounds);
        let text = if rest % 10 == 0 {
            format!("{sign}{pounds}.{:02}", rest / 10)
        } else {
            format!("{sign}{pounds}.{rest:03}")
        };
        f.pad(&text)
    }
}

/// A number with a comma between thousands.
pub(super) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Add for Thousandths {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Neg for Thousandths {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Mul<i32> for Thousandths {
    type Output = Self;

    fn mul(self, quantity: i32) -> Self {
        Self(self.0 * i128::from(quantity))
    }
}

impl Sum for Thousandths {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}
