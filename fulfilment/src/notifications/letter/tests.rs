use std::collections::BTreeSet;
use std::path::Path;

use kontor_domain::{Money, ProductId, Quantity, Reason, TrackingNumber};

use super::*;

fn gbp(minor: i64) -> Money {
    Money::new(minor, "GBP".parse().unwrap()).unwrap()
}

fn id(number: u8) -> String {
    format!("01J9Z3NDEKTSV4RRFFQ69G5FA{number}")
}

fn product(number: u8) -> ProductId {
    format!("prd_{}", id(number)).parse().unwrap()
}

fn items() -> Vec<OrderItem> {
    let item = |number, name: &str, price, pieces| OrderItem {
        product_id: product(number),
        sku: format!("SKU-{number}").parse().unwrap(),
        name: name.parse().unwrap(),
        unit_price: gbp(price),
        quantity: Quantity::new(pieces).unwrap(),
    };
    vec![item(1, "Lamp <brass> & oil", 10_00, 3), item(2, "Bell", 5_00, 1)]
}

fn refused() -> Vec<RefusedItem> {
    let refused = |number, available, reason| RefusedItem {
        product_id: product(number),
        requested: Quantity::new(3).unwrap(),
        available,
        reason,
    };
    vec![
        refused(1, 2, RefusalReason::InsufficientStock),
        refused(2, 0, RefusalReason::Discontinued),
    ]
}

/// What is written on an occasion: the mail, and the SMS.
fn written(occasion: Occasion<'_>) -> (MailText, String) {
    let (name, items) = (Personal::new("Ada & Co".parse::<PersonName>().unwrap()), items());
    let order = OrderFacts {
        id: format!("ord_{}", id(1)).parse().unwrap(),
        items: &items,
        total: gbp(35_00),
    };
    let facts = Facts {
        shop: "Kontor",
        name: &name,
        occasion,
        order: (occasion != Occasion::Registered).then_some(order),
    };
    let templates = Templates::new().unwrap();
    (templates.mail(&facts).unwrap(), templates.sms(&facts).unwrap())
}

fn every(look: impl Fn(Occasion<'_>, &str)) {
    let (refused, tracking_number): (_, TrackingNumber) = (refused(), "T-1".parse().unwrap());
    let carrier = "Hermes".parse().unwrap();
    let reason = "changed my mind".parse::<Reason>().unwrap().into();
    for (occasion, said) in [
        (Occasion::Registered, "account is open"),
        (Occasion::OrderConfirmed, "confirmed"),
        (Occasion::OrderRejected { refused: &refused }, "could not accept"),
        (
            Occasion::PaymentFailed {
                reason: "the card has expired",
            },
            "the card has expired",
        ),
        (
            Occasion::PaymentNeedsAction {
                url: "https://bank.example/3ds?a=1",
            },
            "https://bank.example/3ds?a=1",
        ),
        (
            Occasion::OrderShipped {
                tracking_number: &tracking_number,
                carrier: Some(&carrier),
            },
            "Hermes",
        ),
        (
            Occasion::OrderShipped {
                tracking_number: &tracking_number,
                carrier: None,
            },
            "T-1",
        ),
        (Occasion::OrderDelivered, "was delivered"),
        (Occasion::OrderCancelled { reason: &reason }, "changed my mind"),
        (
            Occasion::OrderRefunded {
                refund: gbp(10_00),
                refunded: gbp(20_00),
            },
            "10.00 GBP",
        ),
    ] {
        look(occasion, said);
    }
}

#[test]
fn every_occasion_has_its_words_in_every_form() {
    every(|occasion, said| {
        let (mail, sms) = written(occasion);
        let name = occasion.name();
        for text in [&mail.text, &sms] {
            let of_subject = mail.subject.contains(said);
            assert!(text.contains(said) || of_subject, "{name}: {text}");
        }
        // Escaping makes `/` of the address `&#x2f;`; a browser reads it as it was meant.
        let html = mail.html.replace("&#x2f;", "/");
        assert!(
            html.contains(said) || mail.subject.contains(said),
            "{name}: {html}"
        );
        assert!(!mail.subject.is_empty() && !mail.subject.contains('\n'), "{name}");
        assert!(
            mail.text.starts_with("Hello Ada & Co,\n\n"),
            "{name}: {}",
            mail.text
        );
        assert!(mail.text.ends_with("\n\nKontor\n"), "{name}: {:?}", mail.text);
        assert!(
            mail.html.contains("<p>Hello Ada &amp; Co,</p>"),
            "{name}: {}",
            mail.html
        );
        assert!(
            sms.len() <= 160 && !sms.contains('\n'),
            "{name}: {} {sms}",
            sms.len()
        );
        for text in [&mail.subject, &mail.text, &mail.html, &sms] {
            assert!(
                !text.contains("{{") && !text.contains("{%") && !text.contains("none"),
                "{name}: {text}"
            );
        }
    });
}

#[test]
fn orders_are_listed_with_amounts_and_html_is_escaped() {
    let (mail, _) = written(Occasion::OrderConfirmed);
    assert_eq!(mail.subject, format!("Your order ord_{} is confirmed", id(1)));
    let listed = "  3 x Lamp <brass> & oil (SKU-1), 10.00 GBP each: 30.00 GBP\n  1 x Bell (SKU-2), 5.00 GBP each: 5.00 GBP\n  Total: 35.00 GBP\n";
    assert!(mail.text.contains(listed), "{}", mail.text);
    for cell in [
        "Lamp &lt;brass&gt; &amp; oil (SKU-1)",
        "10.00 GBP each",
        "30.00 GBP",
        "<b>35.00 GBP</b>",
    ] {
        assert!(mail.html.contains(cell), "{}", mail.html);
    }
}

#[test]
fn a_rejection_says_what_was_not_to_be_had() {
    let (mail, _) = written(Occasion::OrderRejected { refused: &refused() });
    let listed = "  Lamp <brass> & oil: 3 wanted, 2 left\n  Bell: 3 wanted, not sold any more\n";
    assert!(mail.text.contains(listed), "{}", mail.text);
}

#[test]
fn every_file_among_the_templates_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut files = BTreeSet::new();
    for folder in ["email", "sms"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            files.insert(format!(
                "{folder}/{}",
                entry.unwrap().file_name().to_str().unwrap()
            ));
        }
    }
    assert_eq!(
        files,
        TEMPLATES.iter().map(|(name, _)| (*name).to_owned()).collect()
    );
}
