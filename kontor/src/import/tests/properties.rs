//! Whatever a file says: every line has one class, and nothing is created or lost.

use std::collections::HashMap;

use kontor_domain::order::MAX_ITEMS;
use proptest::prelude::*;

use super::*;

/// Lines of a small shop, so that they meet: few articles, customers and prices, many cancellations.
fn entry() -> impl Strategy<Value = Entry> {
    let invoice = prop_oneof![
        6 => (0..12_u32).prop_map(|n| format!("50000{n}")),
        4 => (0..12_u32).prop_map(|n| format!("C50000{n}")),
        1 => Just("A500000".to_owned()),
    ];
    let code = prop::sample::select(vec!["22423", "85123A", "85123a", "POST", "D"]);
    let quantity = prop_oneof![6 => 0..20_i32, 5 => -20..0_i32, 1 => Just(i32::MIN), 1 => Just(1_000_000)];
    let price = prop_oneof![
        8 => prop::sample::select(vec!["1.0", "2.55", "0.0"]),
        1 => prop::sample::select(vec!["0.001", "-1.0", "999999999999.99"]),
    ];
    let customer = prop::option::weighted(0.8, prop::sample::select(vec!["12345", "12346"]));
    (invoice, code, quantity, price, customer, 0..50_i64).prop_map(
        |(invoice, code, quantity, price, customer, minutes)| {
            let line = Line {
                customer: customer.map(Text::from),
                ..line(code, quantity, price)
            };
            of_invoice(&invoice, minutes, line)
        },
    )
}

proptest! {
    #[test]
    fn the_classes_are_the_file(entries in prop::collection::vec(entry(), 0..120)) {
        let plan = Plan::of(&entries);
        let mut sums: HashMap<Class, Sum> = HashMap::new();
        for (line, entry) in entries.iter().enumerate() {
            let sum = sums.entry(class_of(line, &plan, &none())).or_default();
            sum.lines += 1;
            sum.amount = sum.amount + entry.amount();
        }
        let sum = |class| sums.get(&class).copied().unwrap_or_default();
        let (books, keys) = the_file(&entries, &plan, &none());

        prop_assert_eq!(sums.values().map(|it| it.lines).sum::<u64>(), entries.len() as u64);
        let all: Thousandths = entries.iter().map(Entry::amount).sum();
        prop_assert_eq!(sums.values().map(|it| it.amount).sum::<Thousandths>(), all);
        prop_assert_eq!(sum(Class::Item).lines, books.items);
        prop_assert_eq!(sum(Class::Item).amount, Thousandths::from_pence(books.sold));
        prop_assert_eq!(sum(Class::Refund).amount, -Thousandths::from_pence(books.refunded));
        prop_assert_eq!(Some(sum(Class::Correction).lines), books.corrections.map(|it| it.0));
        prop_assert_eq!(sum(Class::Correction).amount, Thousandths::default());

        let returns: usize = plan.cancellations.iter().map(|it| it.returns.len()).sum();
        prop_assert_eq!(keys.len(), plan.sales.len() + plan.corrections.len() + returns, "no two commands share a key");
        prop_assert_eq!(plan.jobs.len(), plan.sales.len() + plan.corrections.len() + plan.cancellations.len());
    }

    #[test]
    fn no_order_gives_back_more_than_was_bought(entries in prop::collection::vec(entry(), 0..120)) {
        let plan = Plan::of(&entries);
        let mut pieces: HashMap<(usize, u32), u32> = HashMap::new();
        let mut refunds: HashMap<usize, i64> = HashMap::new();
        for by in &plan.cancellations {
            for it in &by.returns {
                prop_assert!(plan.sales[it.sale].time <= by.time);
                for piece in &it.pieces {
                    *pieces.entry((it.sale, piece.item)).or_default() += piece.quantity.get();
                    *refunds.entry(it.sale).or_default() += piece.refund();
                }
            }
        }
        for ((sale, item), pieces) in pieces {
            prop_assert!(pieces <= plan.sales[sale].items[item as usize].quantity.get());
        }
        for (sale, refunded) in refunds {
            prop_assert!(refunded <= plan.sales[sale].items.iter().map(super::super::plan::Item::total).sum::<i64>());
        }
    }

    #[test]
    fn goods_received_cover_all_that_leaves(entries in prop::collection::vec(entry(), 0..120)) {
        let plan = Plan::of(&entries);
        let mut leaving: HashMap<usize, u64> = HashMap::new();
        for sale in &plan.sales {
            prop_assert!((1..=MAX_ITEMS).contains(&sale.items.len()));
            for item in &sale.items {
                *leaving.entry(item.article).or_default() += u64::from(item.quantity);
            }
        }
        for correction in &plan.corrections {
            let lost = entries[correction.line].line().unwrap().quantity.min(0);
            *leaving.entry(correction.article).or_default() += u64::from(lost.unsigned_abs());
        }
        for (article, pieces) in leaving {
            prop_assert!(plan.articles[article].used);
            prop_assert_eq!(plan.articles[article].pieces, pieces);
        }
    }
}
