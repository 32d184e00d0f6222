//! Amounts as customers read them.

use kontor_domain::Money;

/// Currencies without minor units, and those with a thousand to the unit. All others have a hundred. Source: ISO 4217,
/// list one.
const WITHOUT: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
    "XOF", "XPF",
];
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

/// `12.50 GBP`.
pub(super) fn decimal(money: Money) -> String {
    let currency = money.currency().to_string();
    let decimals = match currency.as_str() {
        code if WITHOUT.contains(&code) => 0,
        code if THOUSANDTHS.contains(&code) => 3,
        _ => 2,
    };
    let sign = if money.amount_minor() < 0 { "-" } else { "" };
    let minor = money.amount_minor().unsigned_abs();
    let unit = 10_u64.pow(decimals);
    let (whole, rest, width) = (minor / unit, minor % unit, decimals as usize);
    match decimals {
        0 => format!("{sign}{whole} {currency}"),
        _ => format!("{sign}{whole}.{rest:0width$} {currency}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_currency_has_its_own_decimals() {
        for (minor, currency, text) in [
            (12_50, "GBP", "12.50 GBP"),
            (5, "EUR", "0.05 EUR"),
            (-100, "USD", "-1.00 USD"),
            (1_250, "JPY", "1250 JPY"),
            (1_250, "XPF", "1250 XPF"),
            (1_250, "KWD", "1.250 KWD"),
        ] {
            let money = Money::new(minor, currency.parse().unwrap()).unwrap();
            assert_eq!(decimal(money), text);
        }
    }
}
