//! Mail servers that speak in secret, and mail servers that are not there.

use std::time::Duration;

use kontor_fulfilment::notifications::NotificationsConfig;
use kontor_tests::api::{ApiShop, Door};
use kontor_tests::eventually;
use kontor_tests::proxy::Proxy;
use kontor_tests::smtp::{Encrypted, MailServer};
use serde_json::json;

use super::mail::{by, shop_by};
use super::{all_told, of, record, somebody};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_go_in_secret_to_a_server_that_somebody_vouches_for() {
    for (encrypted, scheme, option) in [
        (Encrypted::Tls, "smtps", ""),
        (Encrypted::StartTls, "smtp", "tls=required&"),
        (Encrypted::StartTls, "smtp", "tls=opportunistic&"),
    ] {
        let server = MailServer::encrypted(encrypted, "127.0.0.1").await;
        let (port, voucher) = (server.port(), server.voucher());
        let url = format!("{scheme}://127.0.0.1:{port}?{option}ca={}", voucher.display());
        let shop = shop_by(by(&url)).await;
        somebody(&shop, "ada@example.com", None).await;
        let rows = all_told(&shop).await;
        let mails = of(&rows, "EMAIL");
        assert_eq!(
            (mails[0].state.as_str(), mails[0].attempts),
            ("SENT", 1),
            "{encrypted:?}: {rows:#?}"
        );
        assert_eq!(server.mails().len(), 1);
        shop.finish().await;
    }
}

/// Somebody in between has a certificate, too: one that nobody vouches for, or one for another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_be_somebody_else_gets_no_mail() {
    for encrypted in [Encrypted::Tls, Encrypted::StartTls] {
        for (name, vouched) in [("127.0.0.1", false), ("mail.example", true)] {
            let server = MailServer::encrypted(encrypted, name).await;
            let place = format!("127.0.0.1:{}", server.port());
            let voucher = if vouched {
                format!("ca={}", server.voucher().display())
            } else {
                String::new()
            };
            let url = match encrypted {
                Encrypted::Tls => format!("smtps://{place}?{voucher}"),
                Encrypted::StartTls => format!("smtp://{place}?tls=required&{voucher}"),
            };
            let shop = shop_by(NotificationsConfig {
                attempts: 2,
                ..by(&url)
            })
            .await;
            somebody(&shop, "ada@example.com", None).await;
            let rows = all_told(&shop).await;
            let mail = of(&rows, "EMAIL")[0];
            assert_eq!((mail.state.as_str(), mail.attempts), ("DEAD", 2), "{mail:?}");
            let error = mail.last_error.as_deref().unwrap_or_default();
            assert!(error.starts_with("no mail server: smtp: "), "{error}");
            assert_eq!(server.mails(), [] as [String; 0]);
            shop.finish().await;
        }
    }
}

/// While nobody answers, one mail after another asks whether somebody is back, and the others lose none of their tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_left_alone_and_costs_nobody_their_tries() {
    const CUSTOMERS: usize = 40;
    const FAILURES: usize = 5;
    const OPEN_FOR: Duration = Duration::from_millis(200);
    let server = MailServer::start().await;
    let way = Proxy::before(&server.url("")).await;
    let shop = shop_by(NotificationsConfig {
        failures_to_open: FAILURES,
        open_for: OPEN_FOR,
        concurrency: 1,
        attempts: 4,
        ..by(&way.url(&server.url("")))
    })
    .await;
    let api = ApiShop::over(shop, Door::default()).await;
    way.cut().await;
    for n in 0..CUSTOMERS {
        somebody(&api, &format!("customer-{n}@example.com"), None).await;
    }
    let tries = async || {
        let rows = record(&api).await;
        let mails = of(&rows, "EMAIL");
        assert!(mails.iter().all(|row| row.state == "WAITING"), "{mails:#?}");
        mails
            .iter()
            .map(|row| usize::try_from(row.attempts).unwrap())
            .sum::<usize>()
    };
    eventually("nobody answers as often as it takes", async || {
        (tries().await >= FAILURES).then_some(())
    })
    .await;
    let (begun, before) = (std::time::Instant::now(), tries().await);
    // What is watched here is that nothing happens, for as long as it takes to happen several times over.
    eventually("somebody asked whether it is back", async || {
        (tries().await >= before + 5).then_some(())
    })
    .await;
    let (took, probes) = (begun.elapsed(), tries().await - before);
    assert!(
        took >= OPEN_FOR * u32::try_from(probes - 1).unwrap() * 9 / 10,
        "{probes} tries in {took:?}"
    );

    let (_, page) = api.page("/metrics").await;
    let open = ["kontor_mail_breaker 2", "kontor_mail_breaker 1"];
    assert!(open.iter().any(|it| page.contains(it)), "{page}");
    // A mail about an account waits behind the same breaker.
    let forgot = "mutation($input: RequestPasswordResetInput!) {
        requestPasswordReset(input: $input) { userErrors { ... on UserError { code } } } }";
    let input = json!({ "input": { "email": "customer-0@example.com" } });
    let asked = api.visitor().read(forgot, input).await;
    assert_eq!(asked["requestPasswordReset"]["userErrors"], json!([]));

    way.mend();
    let rows = all_told(&api).await;
    let mails = of(&rows, "EMAIL");
    assert_eq!(mails.len(), CUSTOMERS);
    assert!(mails.iter().all(|row| row.state == "SENT"), "{mails:#?}");
    eventually("the mail about the account is there, too", async || {
        (server.mails().len() == CUSTOMERS + 1).then_some(())
    })
    .await;
    let (_, page) = api.page("/metrics").await;
    assert!(page.contains("kontor_mail_breaker 0"), "{page}");
    api.finish().await;
}
