//! Payment methods that customers keep.

use kontor_tests::api::{ApiShop, Client};
use serde_json::{Value, json};

use super::payments::{PAYMENT, paying};

const SAVED: &str = "paymentMethod { id label }";

async fn save(client: &Client, token: &str, label: &str) -> Value {
    let input = json!({ "token": token, "label": label });
    let saved = client.mutation("savePaymentMethod", input).returning(SAVED);
    saved.await.done()["paymentMethod"].take()
}

async fn kept(client: &Client) -> Value {
    client
        .read("{ me { paymentMethods { id label } } }", json!({}))
        .await["me"]["paymentMethods"]
        .take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_method_pays_its_owners_orders_and_nobody_elses() {
    let api = ApiShop::start().await;
    let lamp = api.product("LAMP").price(10_00).stock(5).await;
    let (shopper, other, staff) = (api.shopper().await, api.shopper().await, api.staff().await);
    let blue = save(&shopper, "tok_approved", "Blue card").await;
    assert_eq!(blue["label"], "Blue card");
    let id = blue["id"].as_str().unwrap();
    let saved = json!({ "savedMethod": id });
    let mut input = paying(&shopper, &[(&lamp, 2)], saved.clone());
    input["idempotencyKey"] = "first".into();
    let order = shopper.mutation("placeOrder", input.clone()).await.placed();
    api.until_status(order.order_id(), "CONFIRMED").await;
    let seen = shopper.order(&order.id, PAYMENT).await;
    assert_eq!(seen["payment"]["authorised"]["amountMinor"], 20_00);

    // Somebody else's is as if it did not exist, also for staff.
    let never = json!({ "savedMethod": "pay_01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    let telling = "... on PaymentMethodNotFound { paymentMethodId }";
    for (client, method) in [(&other, &saved), (&staff, &saved), (&shopper, &never)] {
        let placing = paying(client, &[(&lamp, 1)], method.clone());
        let refusal = client
            .mutation("placeOrder", placing)
            .telling(telling)
            .await
            .refusal();
        assert_eq!(refusal["code"], "PAYMENT_METHOD_NOT_FOUND");
        assert_eq!(refusal["message"], "you keep no such payment method");
        assert_eq!(refusal["path"], json!(["input", "payment", "savedMethod"]));
        assert_eq!(refusal["paymentMethodId"], method["savedMethod"]);
    }
    let remove = json!({ "paymentMethodId": id });
    let refusal = other
        .mutation("removePaymentMethod", remove.clone())
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["path"]),
        (
            &json!("PAYMENT_METHOD_NOT_FOUND"),
            &json!(["input", "paymentMethodId"])
        )
    );

    let _ = shopper.mutation("removePaymentMethod", remove).await.done();
    let placing = paying(&shopper, &[(&lamp, 1)], saved);
    let refusal = shopper.mutation("placeOrder", placing).await.refusal();
    assert_eq!(refusal["code"], "PAYMENT_METHOD_NOT_FOUND");
    // The order that was placed with it is not placed again, and its answer stays.
    assert_eq!(shopper.mutation("placeOrder", input).await.placed(), order);
    let _ = staff.ship(&order.id).await.done();
    let _ = super::payments::until_payment(&shopper, &order.id, "CAPTURED").await;
    assert_eq!(api.orders().await.len(), 1);
    api.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_methods_are_kept_each_once_and_the_token_is_never_shown() {
    let api = ApiShop::start().await;
    let shopper = api.shopper().await;
    let mut expected = Vec::new();
    for number in 1..=10 {
        expected.push(
            save(
                &shopper,
                &format!("tok_number_{number}"),
                &format!("Card {number}"),
            )
            .await,
        );
    }
    api.caught_up().await;
    assert_eq!(kept(&shopper).await, json!(expected));
    let eleventh = json!({ "token": "tok_number_11", "label": "Card 11" });
    let telling = "... on TooManyPaymentMethods { maximum }";
    let refusal = shopper
        .mutation("savePaymentMethod", eleventh.clone())
        .telling(telling)
        .await
        .refusal();
    assert_eq!(
        (&refusal["code"], &refusal["maximum"]),
        (&json!("TOO_MANY_PAYMENT_METHODS"), &json!(10))
    );

    // Saved again, it is only called otherwise; and not even that.
    let renamed = save(&shopper, "tok_number_3", "My third").await;
    assert_eq!(
        (&renamed["id"], &renamed["label"]),
        (&expected[2]["id"], &json!("My third"))
    );
    assert_eq!(save(&shopper, "tok_number_3", "My third").await, renamed);
    expected[2] = renamed;
    let remove = json!({ "paymentMethodId": expected.remove(0)["id"] });
    let _ = shopper.mutation("removePaymentMethod", remove).await.done();
    let repeat = json!({ "token": "tok_number_11", "label": "Card 11", "idempotencyKey": "eleven" });
    let mut answers = Vec::new();
    for _ in 0..2 {
        let saved = shopper
            .mutation("savePaymentMethod", repeat.clone())
            .returning(SAVED);
        answers.push(saved.await.done());
    }
    assert_eq!(answers[0], answers[1]);
    expected.push(answers[0]["paymentMethod"].clone());
    api.caught_up().await;
    assert_eq!(kept(&shopper).await, json!(expected));
    let rows: Vec<String> = sqlx::query_scalar("SELECT t::text FROM users t")
        .fetch_all(&api.pool)
        .await
        .unwrap();
    // The label is there, sealed; the token is not.
    assert!(rows.concat().contains("sealed:v1:") && !rows.concat().contains("My third"));
    assert!(!rows.concat().contains("tok_number"));
    api.finish().await;
}
