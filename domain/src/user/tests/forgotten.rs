//! Whoever wants to be forgotten is.

use super::*;
use crate::ids::UserId;
use crate::personal::{PersonalValue, Sealed};

pub(super) fn erased() -> UserEvent {
    UserEvent::Erased {
        email: email("Customer@Example.org"),
    }
}

#[test]
fn who_is_forgotten_is_forgotten_for_good_and_their_address_is_free() {
    for history in [vec![registered()], vec![registered(), deactivated()]] {
        TestFramework::<User>::with(())
            .given(history)
            .when(UserCommand::Erase)
            .then_expect_events(vec![erased()]);
    }
    let history = || TestFramework::<User>::with(()).given(vec![registered(), erased()]);
    history().when(UserCommand::Erase).then_expect_events(vec![]);
    for command in edits().into_iter().chain([register(), UserCommand::Reactivate]) {
        history().when(command).then_expect_error(UserError::Erased);
    }
    TestFramework::<User>::with(())
        .given_no_previous_events()
        .when(UserCommand::Erase)
        .then_expect_error(UserError::NotFound);
    let user = after::<User>(&[registered(), erased()]);
    assert!(user.is_erased() && !user.exists() && !user.is_active());
    assert!(user.email().is_none() && user.name().is_none() && user.phone().is_none());
    assert!(user.password_hash().is_none() && user.roles().next().is_none());
    let release = ClaimChange::Release {
        kind: ClaimKind::Email,
        value: "customer@example.org".to_owned(),
    };
    assert_eq!(User::claim_changes(&erased()), [release]);
}

#[test]
fn everything_personal_in_events_and_state_can_be_sealed() {
    let id = UserId::from_ulid(ulid::Ulid::from_parts(1, 1));
    let seal = |values: Vec<&mut dyn PersonalValue>| {
        for value in values {
            value.seal(Sealed::new(id, "x"));
        }
    };
    let named = UserEvent::ProfileChanged {
        name: name("Other Name"),
        phone: Some(phone("+49 40 1234")),
    };
    let moved = UserEvent::EmailChanged {
        email: email("other@example.org"),
        previous: email("customer@example.org"),
    };
    let password = UserEvent::PasswordChanged {
        password_hash: hash("$argon2id$h1"),
    };
    let closed = UserEvent::Deactivated {
        reason: reason("Other Name left"),
    };
    let mut user = after::<User>(&[registered(), named.clone(), password.clone()]);
    for mut event in [registered(), named, moved, password, closed, erased()] {
        assert_eq!(user.person(id, &event), Some(id));
        assert!(!User::outlives_its_person(&event));
        seal(User::personal_in(&mut event));
        // What a sealed address was is not known, so nothing can be said of claims.
        assert_eq!(User::claim_changes(&event), []);
        let json = serde_json::to_string(&event).unwrap();
        for personal in ["xample", "A Customer", "Other", "1234", "h1"] {
            assert!(!json.contains(personal), "{json}");
        }
        assert_eq!(serde_json::from_str::<UserEvent>(&json).unwrap(), event);
    }
    seal(user.personal());
    let json = serde_json::to_string(&user).unwrap();
    for personal in ["xample", "1234", "Other", "argon2"] {
        assert!(!json.contains(personal), "{json}");
    }
    // What cannot be read lets nobody in.
    assert_eq!(user.password_hash(), None);
    assert_snapshot_round_trips(&user);
}
