//! Postal addresses.

use serde::{Deserialize, Serialize};

use crate::ascii_code::ascii_code;
use crate::personal::PersonalData;
use crate::text::{AddressLine, PersonName, Phone, PostalCode};

ascii_code!(
    /// An ISO 3166-1 alpha-2 country code, such as `DE`: two upper-case ASCII letters. Whether it is given to a country is
    /// not checked.
    CountryCode,
    2,
    "country"
);

/// Where a parcel goes. Always inside a [`Personal`](crate::Personal).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Who takes it.
    pub recipient: PersonName,
    /// Street and number, or what stands for them.
    pub line1: AddressLine,
    /// More of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<AddressLine>,
    /// Town.
    pub city: AddressLine,
    /// State, county or province, where the country uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<AddressLine>,
    /// Postal code.
    pub postal_code: PostalCode,
    /// Country.
    pub country: CountryCode,
    /// For the carrier to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
}

impl PersonalData for Address {
    const KIND: &'static str = "address";
}
