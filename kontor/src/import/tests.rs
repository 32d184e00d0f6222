//! The pure half of the import: reading, deciding, adding up.

mod properties;
mod texts;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use kontor_domain::Quantity;

use super::catalogue::Catalogue;
use super::file::{Entry, Line, Text, lines};
use super::ledger::{Ledger, Taken};
use super::money::Thousandths;
use super::names::{order_id, return_key, user_id};
use super::plan::{Fate, Plan};
use super::reconcile::{Books, Class, Hours, Reconciliation, Sum, class_of, the_file};
use super::refusal::Refusal;

const SAMPLE: &str = include_str!("tests/sample.csv");
const EXPECTED: &str = include_str!("tests/sample.expected");

fn time(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_291_190_400 + minutes * 60, 0).unwrap()
}

/// A line of invoice 500000, customer 12345.
fn line(code: &str, quantity: i32, price: &str) -> Line {
    Line {
        invoice: Text::from("500000"),
        code: Text::from(code),
        description: Text::from("A THING"),
        quantity,
        time: time(0),
        price: Thousandths::parse(price).unwrap(),
        customer: Some(Text::from("12345")),
        country: Text::from("EIRE"),
    }
}

fn of_invoice(invoice: &str, minutes: i64, line: Line) -> Entry {
    Entry::Line(Line {
        invoice: Text::from(invoice),
        time: time(minutes),
        ..line
    })
}

fn none() -> BTreeMap<usize, Refusal> {
    BTreeMap::new()
}

#[test]
fn every_line_of_the_sample_ends_where_it_should() {
    let entries = lines(SAMPLE.as_bytes()).unwrap();
    let plan = Plan::of(&entries);
    let classes: Vec<String> = (0..entries.len())
        .map(|line| class_of(line, &plan, &none()).to_string())
        .collect();
    for (number, (found, expected)) in classes.iter().zip(EXPECTED.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of the sample", number + 2);
    }
    assert_eq!(classes.len(), EXPECTED.lines().count());
}

#[test]
fn the_sample_becomes_these_books() {
    let entries = lines(SAMPLE.as_bytes()).unwrap();
    let plan = Plan::of(&entries);
    let (books, keys) = the_file(&entries, &plan, &none());
    assert_eq!(
        books,
        Books {
            orders: 6,
            items: 11,
            pieces: 34,
            sold: 20_839,
            returned: 17,
            refunded: 5_825,
            corrections: Some((3, 44)),
        }
    );
    // C536603 takes from two orders, so it is two returns.
    assert_eq!(keys.len(), 6 + 6 + 3);
    assert_eq!(plan.buyers.len(), 7, "six customers, and the counter");
}

#[test]
fn codes_that_differ_in_case_are_one_article() {
    let entries = lines(SAMPLE.as_bytes()).unwrap();
    let plan = Plan::of(&entries);
    let article = plan
        .articles
        .iter()
        .find(|it| it.sku.eq_ignore_ascii_case("85123a"))
        .unwrap();
    assert_eq!(
        (&*article.sku, article.name.as_str(), article.price),
        ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 255)
    );
    assert_eq!((article.pieces, article.category), (16, "lights"));
    // Bad debt is no article, though it has a stock code.
    assert!(plan.articles.iter().any(|it| &*it.sku == "B" && !it.used));
}

#[test]
fn an_article_is_called_what_most_priced_lines_call_it() {
    let mut wording = ["damages", "damages", "A THING", "B THING", "B THING"].map(|description| {
        let price = if description == "damages" { "0.0" } else { "1.0" };
        Line {
            description: Text::from(description),
            ..line("22423", 1, price)
        }
    });
    assert_eq!(Catalogue::of(wording.iter()).articles[0].name, "B THING");
    wording[4].description = Text::from("");
    assert_eq!(
        Catalogue::of(wording.iter()).articles[0].name,
        "A THING",
        "on a tie, the first"
    );
    assert_eq!(
        Catalogue::of(wording[..2].iter()).articles[0].name,
        "22423",
        "a note on the stock is no name"
    );
}

#[test]
fn a_long_invoice_becomes_several_orders() {
    let entries: Vec<Entry> = (0..401).map(|_| Entry::Line(line("22423", 1, "1.0"))).collect();
    let plan = Plan::of(&entries);
    let shape: Vec<(usize, usize, String)> = plan
        .sales
        .iter()
        .map(|sale| (sale.part, sale.items.len(), sale.parcel()))
        .collect();
    let of = |part: usize, items| (part, items, format!("500000/{part}"));
    assert_eq!(shape, [of(1, 200), of(2, 200), of(3, 1)]);
    assert_eq!(plan.fates[400], Fate::Item(2));
    let ids: HashSet<_> = plan.sales.iter().map(order_id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_order_has_no_more_of_one_article_than_it_may() {
    let most = i32::try_from(Quantity::MAX).unwrap();
    let entries = [("22423", most), ("22424", most), ("22423", 1)]
        .map(|(code, quantity)| Entry::Line(line(code, quantity, "1.0")));
    let plan = Plan::of(&entries);
    assert_eq!(
        plan.sales.iter().map(|sale| sale.items.len()).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[test]
fn an_order_costs_no_more_than_money_holds() {
    let dear = "45000000.0"; // times a million pieces: half of what an amount may be
    let entries: Vec<Entry> = (0..3)
        .map(|n| Entry::Line(line(&format!("2242{n}"), 1_000_000, dear)))
        .collect();
    assert_eq!(
        Plan::of(&entries)
            .sales
            .iter()
            .map(|sale| sale.items.len())
            .collect::<Vec<_>>(),
        [2, 1]
    );
    let entries = [Entry::Line(line("22423", 1_000_000, "90071992547.41"))];
    assert_eq!(Plan::of(&entries).fates, [Fate::Refused(Refusal::TooMuch)]);
}

#[test]
fn what_is_cancelled_before_it_is_sold_is_refused() {
    let entries = [
        of_invoice("C500001", 0, line("22423", -1, "1.0")),
        of_invoice("500000", 1, line("22423", 1, "1.0")),
    ];
    assert_eq!(
        Plan::of(&entries).fates,
        [Fate::Refused(Refusal::NoEarlierSale), Fate::Item(0)]
    );
    let sorted: Vec<Entry> = entries.iter().rev().cloned().collect();
    assert_eq!(
        Plan::of(&sorted).fates,
        [Fate::Item(0), Fate::Refused(Refusal::NoEarlierSale)]
    );
}

#[test]
fn pieces_come_back_from_the_same_price_first_and_from_the_latest_sale() {
    let mut ledger = Ledger::default();
    for price in [100, 200, 100] {
        let sale = ledger.sell(price * 5);
        ledger.item(sale, 0, 0, 0, 5, price);
    }
    let taken = ledger.take_back(0, 0, 12, 100).unwrap();
    let of = |sale, quantity| Taken {
        sale,
        item: 0,
        quantity,
    };
    assert_eq!(taken, [of(2, 5), of(0, 5), of(1, 2)]);
    assert_eq!(ledger.take_back(0, 0, 4, 100), Err(Refusal::MoreThanSold));
    assert_eq!(
        ledger.take_back(0, 0, 3, 267),
        Err(Refusal::MoreThanPaid),
        "800 are left of 1,000"
    );
    assert_eq!(
        ledger.take_back(0, 0, 3, 266).unwrap(),
        [of(1, 3)],
        "what is refused takes nothing"
    );
    assert_eq!(ledger.take_back(1, 0, 1, 100), Err(Refusal::NoEarlierSale));
}

#[test]
fn ids_follow_from_the_file_and_sort_by_its_times() {
    let entries = lines(SAMPLE.as_bytes()).unwrap();
    let (one, other) = (Plan::of(&entries), Plan::of(&entries));
    let ids: Vec<_> = one.sales.iter().map(order_id).collect();
    assert_eq!(ids, other.sales.iter().map(order_id).collect::<Vec<_>>());
    assert!(ids.is_sorted_by_key(|id| id.ulid().timestamp_ms()));
    assert_eq!(
        u128::from(ids[0].ulid().timestamp_ms()),
        u128::from(one.sales[0].time.timestamp_millis().unsigned_abs())
    );
    assert_eq!(
        one.buyers.iter().map(user_id).collect::<HashSet<_>>().len(),
        one.buyers.len()
    );
}

#[test]
fn an_invoice_with_another_content_has_the_same_key_and_another_fingerprint() {
    let before = lines(SAMPLE.as_bytes()).unwrap();
    let after = lines(SAMPLE.replace("LANTERN,6", "LANTERN,5").as_bytes()).unwrap();
    let keys = |entries: &[Entry]| {
        Plan::of(entries)
            .sales
            .iter()
            .map(|it| it.place_key(entries))
            .collect::<Vec<_>>()
    };
    let (before, after) = (keys(&before), keys(&after));
    assert_eq!(before[0].key, after[0].key);
    assert_ne!(before[0].fingerprint, after[0].fingerprint);
    assert_eq!(before[1..], after[1..]);
}

#[test]
fn a_return_is_bound_to_what_comes_back() {
    let entries = lines(SAMPLE.as_bytes()).unwrap();
    let plan = Plan::of(&entries);
    let by = &plan.cancellations[0];
    let sale = &plan.sales[by.returns[0].sale];
    let whole = return_key(&by.invoice, by.time, sale, &by.returns[0].pieces);
    let part = return_key(&by.invoice, by.time, sale, &by.returns[0].pieces[1..]);
    assert_eq!(whole.key, "online-retail/C536601/536365/1/return");
    assert_eq!(whole.key, part.key);
    assert_ne!(whole.fingerprint, part.fingerprint);
}

#[test]
fn the_report_says_what_does_not_agree() {
    let books = Books {
        orders: 1,
        items: 1,
        pieces: 2,
        sold: 510,
        corrections: Some((0, 0)),
        ..Books::default()
    };
    let mut it = Reconciliation {
        classes: BTreeMap::from([(
            Class::Item,
            Sum {
                lines: 1,
                amount: Thousandths(5_100),
            },
        )]),
        file: books,
        log: books,
        views: Books {
            corrections: None,
            ..books
        },
        hours: Hours {
            hours: 1,
            different: 0,
            placed: [510; 2],
            refunded: [0; 2],
        },
        different_orders: 0,
        doubled: 0,
        of_other_files: 0,
        repeated: 0,
        elapsed: std::time::Duration::from_secs(1),
    };
    assert!(it.is_equal());
    assert!(
        it.to_string()
            .ends_with("\nEQUAL: file, log and views agree, to the penny."),
        "{it}"
    );
    it.views.sold = 509;
    it.doubled = 1;
    assert_eq!(it.differences().len(), 2);
    assert!(
        it.to_string()
            .contains("\nNOT EQUAL:\n  the view of orders is not what the log says\n"),
        "{it}"
    );
}
