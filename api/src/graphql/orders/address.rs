//! Where an order goes.

use async_graphql::{Description, InputObject, Object};
use kontor_domain as domain;
use kontor_domain::Personal;

use crate::graphql::input::{At, Check};

/// The postal address an order goes to.
#[derive(Clone, Description)]
pub(crate) struct Address(pub(super) domain::Address);

#[Object(use_type_description)]
impl Address {
    /// Who takes it.
    async fn recipient(&self) -> &str {
        self.0.recipient.as_str()
    }

    /// Street and number, or what stands for them.
    async fn line1(&self) -> &str {
        self.0.line1.as_str()
    }

    /// More of the same, if there is more.
    async fn line2(&self) -> Option<&str> {
        self.0.line2.as_ref().map(AsRef::as_ref)
    }

    /// Town.
    async fn city(&self) -> &str {
        self.0.city.as_str()
    }

    /// State, county or province, where the country uses it.
    async fn region(&self) -> Option<&str> {
        self.0.region.as_ref().map(AsRef::as_ref)
    }

    /// Postal code, in whatever form its country uses.
    async fn postal_code(&self) -> &str {
        self.0.postal_code.as_str()
    }

    /// Country, by its ISO 3166-1 alpha-2 code, such as `DE`.
    async fn country(&self) -> &str {
        self.0.country.as_str()
    }

    /// A telephone number for the carrier.
    async fn phone(&self) -> Option<&str> {
        self.0.phone.as_ref().map(AsRef::as_ref)
    }
}

/// The postal address an order is to go to. Every text is on one line and trimmed; an empty optional one counts as left out.
#[derive(Debug, InputObject)]
pub(crate) struct AddressInput {
    /// Who takes it: 1 to 200 characters.
    recipient: String,
    /// Street and number, or what stands for them: 1 to 200 characters.
    line1: String,
    /// More of the same: up to 200 characters.
    line2: Option<String>,
    /// Town: 1 to 200 characters.
    city: String,
    /// State, county or province, where the country uses it: up to 200 characters.
    region: Option<String>,
    /// Postal code: 1 to 20 characters.
    postal_code: String,
    /// Country: its ISO 3166-1 alpha-2 code, two upper-case letters, such as `DE`.
    country: String,
    /// A telephone number for the carrier: 3 to 32 digits, `+`, `-`, spaces and parentheses.
    phone: Option<String>,
}

impl AddressInput {
    /// The address, or what is wrong with it.
    pub(super) fn parse(&self, check: &mut Check, at: At<'_>) -> Option<Personal<domain::Address>> {
        let recipient = check.text(at.field("recipient"), &self.recipient);
        let line1 = check.text(at.field("line1"), &self.line1);
        let line2 = check.optional(at.field("line2"), self.line2.as_deref());
        let city = check.text(at.field("city"), &self.city);
        let region = check.optional(at.field("region"), self.region.as_deref());
        let postal_code = check.text(at.field("postalCode"), &self.postal_code);
        let country = check.text(at.field("country"), &self.country);
        let phone = check.optional(at.field("phone"), self.phone.as_deref());
        Some(Personal::new(domain::Address {
            recipient: recipient?,
            line1: line1?,
            line2: line2?,
            city: city?,
            region: region?,
            postal_code: postal_code?,
            country: country?,
            phone: phone?,
        }))
    }
}
