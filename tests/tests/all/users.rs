//! The view of users.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use kontor_domain::{
    Email, PasswordHash, PaymentMethodId, PersonName, Personal, PersonalData, Phone, Role, TextError, User,
    UserCommand, UserId,
};
use kontor_eventstore::ManualClock;
use kontor_projections::users::{self, PaymentMethod, UserRow, Users};
use kontor_tests::examples::reason;
use kontor_tests::{Opening, Shop};
use sqlx::types::Json;

use crate::projecting::project;

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// The row with what is sealed in it unsealed.
async fn row(shop: &Shop, id: UserId) -> UserRow {
    let mut row = users::by_ids(&shop.pool, &[id.to_string()])
        .await
        .unwrap()
        .remove(0);
    row.email = unsealed::<Email>(shop, row.email).await;
    row.name = unsealed::<PersonName>(shop, row.name).await;
    row.phone = unsealed::<Phone>(shop, row.phone).await;
    for method in row.payment_methods.iter_mut() {
        assert!(method.label.sealed().is_some(), "stored in the clear");
        let label = shop.store.keyring().reveal(&method.label).await.unwrap();
        method.label = Personal::new(label.unwrap());
    }
    row
}

async fn unsealed<T>(shop: &Shop, stored: Option<String>) -> Option<String>
where
    T: PersonalData + Clone + AsRef<str> + TryFrom<String, Error = TextError>,
{
    let value = Personal::<T>::from_stored(&stored?).unwrap();
    assert!(value.sealed().is_some(), "stored in the clear");
    let value = shop.store.keyring().reveal(&value).await.unwrap();
    value.map(|value| value.as_ref().to_owned())
}

fn kept(number: u128) -> PaymentMethodId {
    PaymentMethodId::from_ulid(ulid::Ulid::from_parts(1, number))
}

fn save(number: u128, token: &str, label: &str) -> UserCommand {
    UserCommand::SavePaymentMethod {
        id: kept(number),
        token: Personal::new(token.parse().unwrap()),
        label: Personal::new(label.parse().unwrap()),
    }
}

fn method(number: u128, label: &str) -> PaymentMethod {
    PaymentMethod {
        id: kept(number).to_string(),
        label: Personal::new(label.parse().unwrap()),
    }
}

#[tokio::test]
async fn a_row_is_what_the_events_say() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let id = UserId::from_ulid(shop.store.ids().next());
    shop.register(id, "Someone@example.com").await.unwrap();
    project::<Users>(&shop).await;
    let registered = UserRow {
        id: id.to_string(),
        email: Some("Someone@example.com".to_owned()),
        name: Some("A Customer".to_owned()),
        phone: None,
        roles: vec!["CUSTOMER".to_owned()],
        active: true,
        registered_at: noon(),
        updated_at: noon(),
        version: 1,
        position: 1,
        by_email: true,
        by_sms: false,
        email_verified: false,
        payment_methods: Json(Vec::new()),
    };
    assert!(row(&shop, id).await == registered);

    let later = noon() + TimeDelta::days(1);
    clock.set(later);
    for command in [
        UserCommand::ChangeProfile {
            name: "Another Name".parse::<PersonName>().unwrap().into(),
            phone: Some("+49 40 1".parse::<Phone>().unwrap().into()),
        },
        UserCommand::ChangeEmail {
            email: "other@example.com".parse::<Email>().unwrap().into(),
        },
        UserCommand::ChooseChannels {
            email: false,
            sms: true,
        },
        UserCommand::ChangePassword {
            password_hash: "$argon2id$x".parse::<PasswordHash>().unwrap().into(),
        },
        UserCommand::GrantRole { role: Role::Admin },
        UserCommand::GrantRole { role: Role::Staff },
        UserCommand::RevokeRole { role: Role::Admin },
        save(1, "pm_1", "Blue card"),
        save(2, "pm_2", "Red card"),
        save(3, "pm_1", "My blue card"),
        UserCommand::RemovePaymentMethod { id: kept(2) },
        save(4, "pm_4", "Green card"),
        UserCommand::Deactivate {
            reason: reason("left"),
        },
    ] {
        shop.send::<User>(id, command).await;
    }
    project::<Users>(&shop).await;
    let closed = UserRow {
        email: Some("other@example.com".to_owned()),
        name: Some("Another Name".to_owned()),
        phone: Some("+49 40 1".to_owned()),
        roles: vec!["CUSTOMER".to_owned(), "STAFF".to_owned()],
        active: false,
        updated_at: later,
        version: 14,
        position: 14,
        by_email: false,
        by_sms: true,
        email_verified: false,
        payment_methods: Json(vec![method(1, "My blue card"), method(4, "Green card")]),
        ..registered
    };
    assert!(row(&shop, id).await == closed);
    let printed = format!("{closed:?}");
    assert!(
        !printed.contains("example.com") && !printed.contains("Another") && !printed.contains("card"),
        "personal data prints: {printed}"
    );

    shop.send::<User>(id, UserCommand::Reactivate).await;
    let no_phone = UserCommand::ChangeProfile {
        name: "Another Name".parse::<PersonName>().unwrap().into(),
        phone: None,
    };
    shop.send::<User>(id, no_phone).await;
    project::<Users>(&shop).await;
    assert!(
        row(&shop, id).await
            == UserRow {
                active: true,
                phone: None,
                version: 16,
                position: 16,
                ..closed
            }
    );
    shop.send::<User>(id, UserCommand::Erase).await;
    project::<Users>(&shop).await;
    let left = users::by_ids(&shop.pool, &[id.to_string()]).await.unwrap();
    assert_eq!(left, [], "who was erased is shown");
    assert_eq!(users::list(&shop.pool, None, 10).await.unwrap(), []);
    let bones: (Option<String>, Option<String>, Option<String>, bool, i64) =
        sqlx::query_as("SELECT email, name, phone, active, version FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_one(&shop.pool)
            .await
            .unwrap();
    assert_eq!(bones, (None, None, None, false, 17));
    shop.finish().await;
}

#[tokio::test]
async fn pages_are_newest_first() {
    let clock = Arc::new(ManualClock::at(noon()));
    let shop = Opening::default()
        .quiet()
        .clock(Arc::clone(&clock) as _)
        .open()
        .await;
    let mut registered = Vec::new();
    for n in 0..7 {
        let at = noon() + TimeDelta::minutes(n / 2);
        clock.set(at);
        registered.push((at, shop.customer().await.to_string()));
    }
    project::<Users>(&shop).await;
    registered.sort_unstable();
    registered.reverse();
    let mut found: Vec<UserRow> = Vec::new();
    loop {
        let after = found.last().map(|row| (row.registered_at, row.id.clone()));
        let after = after.as_ref().map(|(at, id)| (*at, id.as_str()));
        let page = users::list(&shop.pool, after, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    let found: Vec<_> = found.into_iter().map(|row| (row.registered_at, row.id)).collect();
    assert_eq!(found, registered);
    shop.finish().await;
}
