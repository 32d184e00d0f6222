//! What may exist only once: an e-mail address, a SKU.

use futures::future::join_all;
use kontor_domain::{ClaimKind, Product, ProductCommand, ProductError, User, UserCommand, UserError, UserId};
use kontor_eventstore::{ExecuteError, Outcome};
use kontor_tests::examples::gbp;
use kontor_tests::{Opening, Shop};

use crate::hold::{head, together};

fn user(shop: &Shop) -> UserId {
    UserId::from_ulid(shop.store.ids().next())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_claim_one_email_at_once_one_gets_it() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    for round in 0..20 {
        let (here, there) = (
            format!("Someone.{round}@example.com"),
            format!("sOMEONE.{round}@EXAMPLE.com"),
        );
        let (mine, yours) = (user(&shop), user(&shop));
        let (first, second) = tokio::join!(shop.register(mine, &here), elsewhere.register(yours, &there));
        let (winner, refused) = match (first, second) {
            (Ok(won), Err(refused)) | (Err(refused), Ok(won)) => (won.id, refused),
            other => panic!("one of the two: {other:?}"),
        };
        let ExecuteError::ClaimTaken {
            kind: ClaimKind::Email,
            holder,
        } = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(holder, winner.to_string());
        let folded = here.to_lowercase();
        assert_eq!(
            shop.store.holder(ClaimKind::Email, &folded).await.unwrap(),
            Some(winner.to_string())
        );
    }
    elsewhere.close().await;
    shop.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_claim_one_sku_in_one_process_one_gets_it() {
    let shop = Shop::quiet().await;
    let tries = (0..40).map(|n| {
        let sku = if n % 2 == 0 { "lamp-1" } else { "LAMP-1" };
        create(&shop, sku)
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .all(|refused| matches!(
                refused,
                ExecuteError::ClaimTaken {
                    kind: ClaimKind::Sku,
                    ..
                }
            ))
    );
    assert_eq!(head(&shop).await, 1);
    shop.finish().await;
}

async fn create(shop: &Shop, sku: &str) -> Result<Outcome<Product>, ExecuteError<ProductError>> {
    let id = kontor_domain::ProductId::from_ulid(shop.store.ids().next());
    let create = ProductCommand::Create {
        sku: sku.parse().unwrap(),
        name: "A lamp".parse().unwrap(),
        description: "".parse().unwrap(),
        category: "Lamps".parse().unwrap(),
        price: gbp(1),
    };
    shop.store.create::<Product>(id, create, shop.context()).await
}

#[tokio::test]
async fn a_released_email_can_be_claimed_again_also_at_the_same_moment() {
    let shop = Shop::quiet().await;
    let elsewhere = shop.branch(Opening::default().quiet()).await;
    let (mover, newcomer) = (user(&shop), user(&shop));
    shop.register(mover, "old@example.com").await.unwrap();
    change_email(&shop, mover, "OLD@example.com").await.unwrap(); // only the spelling
    assert!(matches!(
        shop.register(newcomer, "old@example.com").await,
        Err(ExecuteError::ClaimTaken { .. })
    ));
    change_email(&shop, mover, "new@example.com").await.unwrap();
    elsewhere.register(newcomer, "Old@example.com").await.unwrap();
    let back = change_email(&shop, mover, "old@example.com").await;
    assert!(matches!(back, Err(ExecuteError::ClaimTaken { holder, .. }) if holder == newcomer.to_string()));
    let holder = async |email: &str| shop.store.holder(ClaimKind::Email, email).await.unwrap();
    assert_eq!(
        holder("new@example.com").await,
        Some(mover.to_string()),
        "a refused change gives nothing back"
    );

    // Given up and taken in one group: allowed in that order, and the newcomer has it.
    for round in 0..10 {
        let (leaving, arriving) = (user(&shop), user(&shop));
        let email = format!("swap{round}@example.com");
        shop.register(leaving, &email).await.unwrap();
        let (away, gone) = (
            format!("away{round}@example.com"),
            format!("gone{round}@example.com"),
        );
        let (left, arrived) = together(&shop, async |hold| {
            // Something for the writer to be busy with while the two gather.
            let first = change_email(&shop, mover, &away);
            let rest = async {
                let left = change_email(&shop, leaving, &gone);
                let arrived = shop.register(arriving, &email);
                let (left, arrived, ()) =
                    tokio::join!(left, arrived, hold.release_when_a_writer_waits(&shop));
                (left, arrived)
            };
            let (first, both) = tokio::join!(first, rest);
            first.unwrap();
            both
        })
        .await;
        left.unwrap();
        let expected = match arrived {
            Ok(_) => Some(arriving.to_string()),
            Err(ExecuteError::ClaimTaken { holder, .. }) => {
                assert_eq!(holder, leaving.to_string());
                None
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(holder(&email).await, expected, "the claim and the answer agree");
    }
    elsewhere.close().await;
    shop.finish().await;
}

async fn change_email(
    shop: &Shop,
    id: UserId,
    email: &str,
) -> Result<Outcome<User>, ExecuteError<UserError>> {
    let email = email.parse::<kontor_domain::Email>().unwrap().into();
    shop.try_send::<User>(id, UserCommand::ChangeEmail { email })
        .await
}
