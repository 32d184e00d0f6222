//! Means of payment that are kept.

use ulid::Ulid;

use super::*;

fn id(number: u128) -> PaymentMethodId {
    PaymentMethodId::from_ulid(Ulid(number))
}

pub(super) fn save(number: u128, token: &str, label: &str) -> UserCommand {
    UserCommand::SavePaymentMethod {
        id: id(number),
        token: Personal::new(token.parse().unwrap()),
        label: Personal::new(label.parse().unwrap()),
    }
}

pub(super) fn saved(number: u128, token: &str, label: &str) -> UserEvent {
    UserEvent::PaymentMethodSaved {
        id: id(number),
        token: Personal::new(token.parse().unwrap()),
        label: Personal::new(label.parse().unwrap()),
    }
}

pub(super) fn removed(number: u128) -> UserEvent {
    UserEvent::PaymentMethodRemoved { id: id(number) }
}

fn remove(number: u128) -> UserCommand {
    UserCommand::RemovePaymentMethod { id: id(number) }
}

#[test]
fn what_is_saved_is_known_by_its_id_until_it_is_removed() {
    let blue = [registered(), saved(1, "pm_1", "Blue card")];
    given(vec![registered()])
        .when(save(1, "pm_1", "Blue card"))
        .then_expect_events(vec![saved(1, "pm_1", "Blue card")]);
    let user: User = after(&blue);
    assert_eq!(
        user.payment_token(id(1)).unwrap().reveal().unwrap().as_str(),
        "pm_1"
    );
    assert_eq!(user.payment_token(id(2)), None);
    given(blue.to_vec())
        .when(remove(1))
        .then_expect_events(vec![removed(1)]);
    let without: User = after(&[&blue[..], &[removed(1)]].concat());
    assert_eq!(without.payment_token(id(1)), None);
    assert_eq!(without.payment_methods().count(), 0);
}

#[test]
fn the_same_token_saved_again_is_only_called_otherwise() {
    let blue = vec![registered(), saved(1, "pm_1", "Blue card")];
    given(blue.clone())
        .when(save(2, "pm_1", "Blue card"))
        .then_expect_events(vec![]);
    given(blue.clone())
        .when(save(2, "pm_1", "The blue one"))
        .then_expect_events(vec![saved(1, "pm_1", "The blue one")]);
    let user: User = after(&[blue, vec![saved(1, "pm_1", "The blue one")]].concat());
    let labels: Vec<&str> = user
        .payment_methods()
        .map(|it| it.label.reveal().unwrap().as_str())
        .collect();
    assert_eq!(labels, ["The blue one"]);
}

#[test]
fn an_account_keeps_ten_and_not_eleven() {
    let mut events = vec![registered()];
    events.extend((1..=10).map(|number| saved(number, &format!("pm_{number}"), "A card")));
    given(events.clone())
        .when(save(11, "pm_11", "A card"))
        .then_expect_error(UserError::TooManyPaymentMethods);
    given(events.clone())
        .when(save(11, "pm_10", "The last one"))
        .then_expect_events(vec![saved(10, "pm_10", "The last one")]);
    events.push(removed(3));
    given(events)
        .when(save(11, "pm_11", "A card"))
        .then_expect_events(vec![saved(11, "pm_11", "A card")]);
}

#[test]
fn what_is_not_kept_cannot_be_removed_and_a_closed_account_keeps_nothing_new() {
    given(vec![registered(), saved(1, "pm_1", "Blue card")])
        .when(remove(2))
        .then_expect_error(UserError::UnknownPaymentMethod { id: id(2) });
    for command in [save(2, "pm_2", "Red card"), remove(1)] {
        given(vec![registered(), saved(1, "pm_1", "Blue card"), deactivated()])
            .when(command)
            .then_expect_error(UserError::Deactivated);
    }
}
