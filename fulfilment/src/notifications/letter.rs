//! What is written to a customer: templates, and what is put into them.

use kontor_domain::{OrderId, OrderItem, PersonName, Personal, RefusalReason, RefusedItem};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::amount::decimal;
use super::occasion::Occasion;

/// Why something could not be written. That is a mistake in a template, or in what is put into it.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// The template engine said no. Its words name variables and lines, never values.
    #[error("a template cannot be used: {0}")]
    Template(#[from] minijinja::Error),
    /// A mail's text must begin with `Subject: …` and an empty line.
    #[error("the template of {0} has no subject")]
    NoSubject(&'static str),
    /// Somebody's data was to be written, and cannot be read any more.
    #[error("the person's data is sealed")]
    Sealed,
    /// An order's total or a line of it is out of range; no order that was placed has such.
    #[error(transparent)]
    Money(#[from] kontor_domain::MoneyError),
}

/// The order a message is about.
#[derive(Debug, Clone, Copy)]
pub struct OrderFacts<'a> {
    /// Its id.
    pub id: OrderId,
    /// Its lines.
    pub items: &'a [OrderItem],
    /// What they cost together.
    pub total: kontor_domain::Money,
}

/// All that goes into a message.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whose shop it is.
    pub shop: &'a str,
    /// Whom it is for.
    pub name: &'a Personal<PersonName>,
    /// What has happened.
    pub occasion: Occasion<'a>,
    /// To which order; none if to the account.
    pub order: Option<OrderFacts<'a>>,
}

/// A mail's words. They name the customer, so they are not to be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct MailText {
    /// One line.
    pub subject: String,
    /// For whoever reads plain text.
    pub text: String,
    /// For whoever does not.
    pub html: String,
}

impl MailText {
    /// The subject is the first line of the text.
    fn of(stem: &'static str, written: &str, html: String) -> Result<Self, LetterError> {
        let (subject, text) = written
            .strip_prefix("Subject: ")
            .and_then(|rest| rest.split_once("\n\n"))
            .ok_or(LetterError::NoSubject(stem))?;
        Ok(Self {
            subject: subject.trim().to_owned(),
            text: text.to_owned(),
            html,
        })
    }
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every template, compiled in.
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../templates/", $name)))),*];
    };
}

templates!(
    "email/layout.html",
    "email/items.html",
    "email/items.txt",
    "email/reset_password.txt",
    "email/reset_password.html",
    "email/verify_email.txt",
    "email/verify_email.html",
    "email/registered.txt",
    "email/registered.html",
    "sms/registered.txt",
    "email/order_confirmed.txt",
    "email/order_confirmed.html",
    "sms/order_confirmed.txt",
    "email/order_rejected.txt",
    "email/order_rejected.html",
    "sms/order_rejected.txt",
    "email/payment_failed.txt",
    "email/payment_failed.html",
    "sms/payment_failed.txt",
    "email/payment_needs_action.txt",
    "email/payment_needs_action.html",
    "sms/payment_needs_action.txt",
    "email/order_shipped.txt",
    "email/order_shipped.html",
    "sms/order_shipped.txt",
    "email/order_delivered.txt",
    "email/order_delivered.html",
    "sms/order_delivered.txt",
    "email/order_cancelled.txt",
    "email/order_cancelled.html",
    "sms/order_cancelled.txt",
    "email/order_refunded.txt",
    "email/order_refunded.html",
    "sms/order_refunded.txt",
);

/// The templates, read and ready.
pub struct Templates(Environment<'static>);

impl Templates {
    /// Reads the templates that are compiled in. Those that end in `.html` escape what is put into them; to print what is
    /// not there is an error.
    ///
    /// # Errors
    /// When one of them is not well-formed.
    pub fn new() -> Result<Self, LetterError> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .keep_trailing_newline(true)
                .build()?,
        );
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(Self(environment))
    }

    /// A mail's subject, text and HTML.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub fn mail(&self, facts: &Facts<'_>) -> Result<MailText, LetterError> {
        let stem = facts.occasion.name();
        let written = self.render("email", "txt", facts)?;
        MailText::of(stem, &written, self.render("email", "html", facts)?)
    }

    /// A mail about an account, of its own words.
    pub(super) fn written(
        &self,
        stem: &'static str,
        words: &minijinja::Value,
    ) -> Result<MailText, LetterError> {
        let render = |form| -> Result<String, LetterError> {
            Ok(self
                .0
                .get_template(&format!("email/{stem}.{form}"))?
                .render(words)?)
        };
        MailText::of(stem, &render("txt")?, render("html")?)
    }

    /// The text of an SMS.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub fn sms(&self, facts: &Facts<'_>) -> Result<String, LetterError> {
        Ok(self.render("sms", "txt", facts)?.trim().to_owned())
    }

    fn render(&self, folder: &str, form: &str, facts: &Facts<'_>) -> Result<String, LetterError> {
        let stem = facts.occasion.name().to_lowercase();
        let template = self.0.get_template(&format!("{folder}/{stem}.{form}"))?;
        Ok(template.render(Serde(Words::new(facts)?))?)
    }
}

/// The facts as the templates name them. What an occasion does not have is left out, so that a template that prints it
/// fails in the tests rather than in a letter.
#[derive(Default, Serialize)]
struct Words<'a> {
    shop: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<OrderWords<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedWords<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded: Option<String>,
}

#[derive(Serialize)]
struct OrderWords<'a> {
    id: String,
    items: Vec<ItemWords<'a>>,
    total: String,
}

#[derive(Serialize)]
struct ItemWords<'a> {
    name: &'a str,
    sku: &'a str,
    quantity: u32,
    unit_price: String,
    line_total: String,
}

#[derive(Serialize)]
struct RefusedWords<'a> {
    name: &'a str,
    requested: u32,
    why: String,
}

impl<'a> Words<'a> {
    fn new(facts: &Facts<'a>) -> Result<Self, LetterError> {
        let mut words = Self {
            shop: facts.shop,
            name: facts.name.reveal().ok_or(LetterError::Sealed)?.as_str(),
            order: facts.order.map(OrderWords::new).transpose()?,
            ..Self::default()
        };
        match facts.occasion {
            Occasion::Registered | Occasion::OrderConfirmed | Occasion::OrderDelivered => {}
            Occasion::OrderRejected { refused } => {
                let items = facts.order.map_or(&[][..], |order| order.items);
                words.refused = refused.iter().map(|it| RefusedWords::new(it, items)).collect();
            }
            Occasion::PaymentFailed { reason } => words.reason = Some(reason),
            Occasion::OrderCancelled { reason } => {
                words.reason = Some(reason.reveal().ok_or(LetterError::Sealed)?.as_str());
            }
            Occasion::PaymentNeedsAction { url } => words.url = Some(url),
            Occasion::OrderShipped {
                tracking_number,
                carrier,
            } => {
                words.tracking_number = Some(tracking_number.as_str());
                words.carrier = carrier.map(AsRef::as_ref);
            }
            Occasion::OrderRefunded { refund, refunded } => {
                words.refund = Some(decimal(refund));
                words.refunded = Some(decimal(refunded));
            }
        }
        Ok(words)
    }
}

impl<'a> OrderWords<'a> {
    fn new(order: OrderFacts<'a>) -> Result<Self, LetterError> {
        let items = order.items.iter().map(|item| {
            Ok(ItemWords {
                name: item.name.as_str(),
                sku: item.sku.as_str(),
                quantity: item.quantity.get(),
                unit_price: decimal(item.unit_price),
                line_total: decimal(item.line_total()?),
            })
        });
        Ok(Self {
            id: order.id.to_string(),
            items: items.collect::<Result<_, LetterError>>()?,
            total: decimal(order.total),
        })
    }
}

impl<'a> RefusedWords<'a> {
    fn new(refused: &RefusedItem, items: &'a [OrderItem]) -> Self {
        let item = items.iter().find(|item| item.product_id == refused.product_id);
        Self {
            name: item.map_or("an item", |item| item.name.as_str()),
            requested: refused.requested.get(),
            why: match (refused.reason, refused.available) {
                (RefusalReason::InsufficientStock, 0) => "sold out".to_owned(),
                (RefusalReason::InsufficientStock, left) => format!("{left} left"),
                (RefusalReason::Discontinued | RefusalReason::UnknownProduct, _) => {
                    "not sold any more".to_owned()
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
