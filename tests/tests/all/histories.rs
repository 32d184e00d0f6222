//! Whatever people do, in whatever order: views are what the log makes of them, and the books balance.

use kontor_domain::{Order, OrderCommand, OrderId, Product, ProductCommand, ReturnLine, UserId};
use kontor_projections::orders::Orders;
use kontor_projections::products::Products;
use kontor_projections::sales::Sales;
use kontor_projections::users::Users;
use kontor_tests::examples::{gbp, pieces, reason};
use kontor_tests::{Item, Shop};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::projecting::{apply, rows};

/// Something people do. What is not allowed is refused, and that is fine.
#[derive(Debug, Clone)]
enum Step {
    Place(Vec<(Index, u32)>),
    Cancel(Index),
    Ship(Index),
    Deliver(Index),
    Return(Index, u32, bool),
    Receive(Index, u32),
    Adjust(Index, i32),
    Reprice(Index, i64),
    Discontinue(Index),
    Relist(Index),
    /// Lets the process come to an end before going on.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = any::<Index>;
    let step = prop_oneof![
        6 => prop::collection::vec((some(), 1..4_u32), 1..4).prop_map(Step::Place),
        2 => some().prop_map(Step::Cancel),
        2 => some().prop_map(Step::Ship),
        1 => some().prop_map(Step::Deliver),
        1 => (some(), 1..3_u32, any::<bool>()).prop_map(|(n, pieces, restock)| Step::Return(n, pieces, restock)),
        2 => (some(), 1..10_u32).prop_map(|(n, pieces)| Step::Receive(n, pieces)),
        1 => (some(), -5..5_i32).prop_map(|(n, delta)| Step::Adjust(n, delta)),
        1 => (some(), 1..500_i64).prop_map(|(n, price)| Step::Reprice(n, price)),
        1 => some().prop_map(Step::Discontinue),
        1 => some().prop_map(Step::Relist),
        2 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 20..50)
}

#[test]
fn views_and_stock_are_right_after_any_history() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: 4,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(live(steps));
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

async fn live(steps: Vec<Step>) {
    let shop = Shop::start().await;
    let mut products = Vec::new();
    for n in 0..4 {
        products.push(shop.product(&format!("P{n}")).stock(n * 3).await);
    }
    let customer = shop.customer().await;
    let mut orders = Vec::new();
    for step in steps {
        take(&shop, customer, &products, &mut orders, step).await;
    }
    shop.caught_up().await;
    shop.books_balance().await;
    let before = everything(&shop).await;
    for batch in [7, 100_000] {
        apply::<Products>(&shop, batch).await;
        apply::<Orders>(&shop, batch).await;
        apply::<Users>(&shop, batch).await;
        apply::<Sales>(&shop, batch).await;
        assert_eq!(
            everything(&shop).await,
            before,
            "applied again in batches of {batch}"
        );
    }
    shop.finish().await;
}

async fn everything(shop: &Shop) -> [Vec<String>; 4] {
    [
        rows::<Products>(shop).await,
        rows::<Orders>(shop).await,
        rows::<Users>(shop).await,
        rows::<Sales>(shop).await,
    ]
}

async fn take(shop: &Shop, customer: UserId, products: &[Item], orders: &mut Vec<OrderId>, step: Step) {
    let to_order = async |of: Index, command| {
        if !orders.is_empty() {
            let _ = shop.try_send::<Order>(*of.get(orders), command).await;
        }
    };
    let to_product = async |of: Index, command| {
        let _ = shop.try_send::<Product>(of.get(products).id, command).await;
    };
    match step {
        Step::Place(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|(item, quantity)| (item.get(products), *quantity))
                .collect();
            orders.push(shop.order(customer, &items).await);
        }
        Step::Cancel(of) => {
            to_order(
                of,
                OrderCommand::Cancel {
                    reason: reason("changed my mind"),
                },
            )
            .await;
        }
        Step::Ship(of) => {
            to_order(
                of,
                OrderCommand::Ship {
                    tracking_number: "T".parse().unwrap(),
                    carrier: None,
                },
            )
            .await;
        }
        Step::Deliver(of) => to_order(of, OrderCommand::Deliver).await,
        Step::Return(of, number, restock) => {
            let lines = vec![ReturnLine {
                line: 0,
                quantity: pieces(number),
            }];
            to_order(
                of,
                OrderCommand::ReturnItems {
                    lines,
                    refund: gbp(1),
                    reason: reason("broken"),
                    restock,
                },
            )
            .await;
        }
        Step::Receive(of, number) => {
            to_product(
                of,
                ProductCommand::ReceiveStock {
                    quantity: pieces(number),
                    reference: None,
                },
            )
            .await;
        }
        Step::Adjust(of, delta) => {
            if let Ok(delta) = delta.try_into() {
                to_product(
                    of,
                    ProductCommand::AdjustStock {
                        delta,
                        reason: reason("counted"),
                    },
                )
                .await;
            }
        }
        Step::Reprice(of, price) => to_product(of, ProductCommand::ChangePrice { price: gbp(price) }).await,
        Step::Discontinue(of) => to_product(of, ProductCommand::Discontinue { reason: None }).await,
        Step::Relist(of) => to_product(of, ProductCommand::Relist).await,
        Step::Wait => shop.caught_up().await,
    }
}
