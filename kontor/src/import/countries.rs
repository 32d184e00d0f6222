//! Where the shop's parcels went.

use kontor_domain::{Address, AddressLine, CountryCode, PersonName, PostalCode, TextError};

use super::plan::clean;

/// The file's names of countries, and their codes of ISO 3166-1.
///
/// Two of them have no code there. "Channel Islands" are Jersey (`JE`) and Guernsey (`GG`); the larger stands for both.
/// `EU` is what ISO reserves for the European Union.
const CODES: [(&str, &str); 37] = [
    ("Australia", "AU"),
    ("Austria", "AT"),
    ("Bahrain", "BH"),
    ("Belgium", "BE"),
    ("Brazil", "BR"),
    ("Canada", "CA"),
    ("Channel Islands", "JE"),
    ("Cyprus", "CY"),
    ("Czech Republic", "CZ"),
    ("Denmark", "DK"),
    ("EIRE", "IE"),
    ("European Community", "EU"),
    ("Finland", "FI"),
    ("France", "FR"),
    ("Germany", "DE"),
    ("Greece", "GR"),
    ("Hong Kong", "HK"),
    ("Iceland", "IS"),
    ("Israel", "IL"),
    ("Italy", "IT"),
    ("Japan", "JP"),
    ("Lebanon", "LB"),
    ("Lithuania", "LT"),
    ("Malta", "MT"),
    ("Netherlands", "NL"),
    ("Norway", "NO"),
    ("Poland", "PL"),
    ("Portugal", "PT"),
    ("RSA", "ZA"),
    ("Saudi Arabia", "SA"),
    ("Singapore", "SG"),
    ("Spain", "ES"),
    ("Sweden", "SE"),
    ("Switzerland", "CH"),
    ("USA", "US"),
    ("United Arab Emirates", "AE"),
    ("United Kingdom", "GB"),
];

/// "Unspecified", and any name not listed: what Unicode's CLDR calls the unknown region.
const UNKNOWN: &str = "ZZ";

/// What the file does not say, and an address must.
const NOT_RECORDED: &str = "not recorded";

/// The code of a country named in the file.
pub(super) fn code(name: &str) -> &'static str {
    CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(UNKNOWN, |(_, code)| code)
}

/// An address made of all the file tells: who, and in which country.
pub(super) fn address(recipient: PersonName, country: &str) -> Result<Address, TextError> {
    let name = clean(country, 200);
    let city = if name.is_empty() { NOT_RECORDED } else { &name };
    Ok(Address {
        recipient,
        line1: AddressLine::new(NOT_RECORDED)?,
        line2: None,
        city: AddressLine::new(city)?,
        region: None,
        postal_code: PostalCode::new("-")?,
        country: code(country).parse::<CountryCode>()?,
        phone: None,
    })
}
