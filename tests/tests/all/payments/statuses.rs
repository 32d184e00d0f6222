//! What Stripe's client makes of answers that a well-behaved bank does not give, and of none.

use axum::Router;
use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers every request with this.
async fn always(status: u16, body: &'static str) -> Stripe {
    let status = StatusCode::from_u16(status).unwrap();
    let router = Router::new().fallback(move || async move { (status, body) });
    stripe(listen(router).await, KEY)
}

async fn ask(stripe: &Stripe) -> Result<PaymentState, GatewayError> {
    stripe.authorise(&authorise("key-1", "pm_1", pounds_10())).await
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    use GatewayError::{Busy, Unknown};
    let declined =
        r#"{"error": {"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}}"#;
    let state = ask(&always(402, declined).await).await.unwrap();
    let reason = kontor_domain::DeclineReason::LostOrStolen;
    assert_eq!(told(&state), (PaymentStatus::Declined(reason), 0, 0, 0));
    assert_eq!(
        state.reference.as_str(),
        "key-1",
        "neither payment nor request has a name"
    );

    let in_use = r#"{"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}"#;
    let limit = r#"{"error": {"type": "invalid_request_error", "code": "lock_timeout"}}"#;
    assert!(matches!(ask(&always(409, in_use).await).await, Err(Busy(_))));
    assert!(matches!(ask(&always(429, limit).await).await, Err(Busy(_))));
    for (status, body) in [
        (500, ""),
        (502, "<html>"),
        (503, "{}"),
        (200, ""),
        (200, "{}"),
        (302, ""),
    ] {
        let answer = ask(&always(status, body).await).await;
        assert!(matches!(answer, Err(Unknown(_))), "{status}: {answer:?}");
    }
    let rule = r#"{"error": {"type": "invalid_request_error", "code": "amount_too_small", "message": "no"}}"#;
    assert_eq!(refused(ask(&always(400, rule).await).await), "amount_too_small");
    assert_eq!(
        refused(ask(&always(401, r#"{"error": {"type": "invalid_request_error"}}"#).await).await),
        "invalid_request_error"
    );
    assert_eq!(refused(ask(&always(404, "not here").await).await), "404");
}

#[tokio::test]
async fn nobody_there_is_told_from_nobody_answering() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = stripe(listener.local_addr().unwrap(), KEY);
    let hangs_up = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        // The request is here; whether it was carried out, nobody will say.
        let mut request = [0; 64];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        drop(socket);
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut request).await.unwrap() > 0);
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
        socket.write_all(half.as_bytes()).await.unwrap();
        drop(socket);
        drop(listener);
    };
    let asks = async {
        for how in ["without an answer", "within it"] {
            let unknown = ask(&client).await;
            assert!(
                matches!(unknown, Err(GatewayError::Unknown(_))),
                "{how}: {unknown:?}"
            );
        }
    };
    tokio::join!(hangs_up, asks);
    let away = ask(&client).await;
    assert!(matches!(away, Err(GatewayError::Unreachable(_))), "{away:?}");
}

/// What is sent, field by field.
#[tokio::test]
async fn the_request_is_the_one_stripe_documents() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let router = Router::new().fallback(move |request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        seen.send((parts, String::from_utf8(body.to_vec()).unwrap()))
            .unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    });
    let client = Stripe::new(StripeSettings {
        base_url: format!("http://{}/proxy/", listen(router).await),
        return_url: Some("https://shop.example/back?a=b".to_owned()),
        ..StripeSettings::new(SecretKey::new(KEY))
    })
    .unwrap();
    assert!(ask(&client).await.is_err());
    let (parts, body) = requests.recv().await.unwrap();
    assert_eq!(
        (parts.method.as_str(), parts.uri.path()),
        ("POST", "/proxy/v1/payment_intents")
    );
    assert_eq!(parts.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(parts.headers["idempotency-key"], "key-1");
    assert_eq!(parts.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        body,
        "amount=1000&currency=gbp&confirm=true&capture_method=manual&payment_method=pm_1\
         &payment_method_types%5B%5D=card&metadata%5Border_id%5D=ord_of_key-1&expand%5B%5D=latest_charge\
         &return_url=https%3A%2F%2Fshop.example%2Fback%3Fa%3Db"
    );
    let reference = "pi/1?".parse().unwrap();
    assert!(client.refund(&refund("r", &reference, gbp(1))).await.is_err());
    assert!(client.look_up(&reference).await.is_err());
    let (parts, body) = requests.recv().await.unwrap();
    assert_eq!(parts.uri.path(), "/proxy/v1/refunds");
    assert_eq!(
        body,
        "payment_intent=pi%2F1%3F&amount=1&metadata%5Border_id%5D=ord_1&expand%5B%5D=payment_intent.latest_charge"
    );
    let (parts, _) = requests.recv().await.unwrap();
    let path = parts.uri.to_string();
    assert_eq!(
        path,
        "/proxy/v1/payment_intents/pi%2F1%3F?expand%5B%5D=latest_charge"
    );
}
