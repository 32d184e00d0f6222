use cqrs_es::test::TestFramework;

mod payment_methods;

use super::*;
use crate::claims::{ClaimChange, ClaimKind};
use crate::entity::Entity;
use crate::examples::{after, assert_events_round_trip, assert_snapshot_round_trips, reason};

mod forgotten;

use forgotten::erased;

type UserTest = TestFramework<User>;

fn given(events: Vec<UserEvent>) -> cqrs_es::test::AggregateTestExecutor<User> {
    UserTest::with(()).given(events)
}

fn email(text: &str) -> Personal<Email> {
    Personal::new(text.parse().unwrap())
}

fn name(text: &str) -> Personal<PersonName> {
    Personal::new(text.parse().unwrap())
}

fn phone(text: &str) -> Personal<Phone> {
    Personal::new(text.parse().unwrap())
}

/// In the clear, or as commands and events have it.
fn hash<H: From<PasswordHash>>(text: &str) -> H {
    text.parse::<PasswordHash>().unwrap().into()
}

fn register() -> UserCommand {
    UserCommand::Register {
        email: email("Customer@Example.org"),
        name: name("A Customer"),
        phone: None,
        password_hash: Some(hash("h1")),
    }
}

fn registered() -> UserEvent {
    UserEvent::Registered {
        email: email("Customer@Example.org"),
        name: name("A Customer"),
        phone: None,
        password_hash: Some(hash("h1")),
        roles: vec![Role::Customer],
    }
}

fn deactivated() -> UserEvent {
    UserEvent::Deactivated {
        reason: reason("asked for it"),
    }
}

#[test]
fn registering_makes_a_customer() {
    given(vec![])
        .when(register())
        .then_expect_events(vec![registered()]);
    let user: User = after(&[registered()]);
    assert!(user.exists() && user.is_active());
    assert_eq!(user.roles().collect::<Vec<_>>(), [Role::Customer]);
    assert_eq!(user.password_hash(), Some(&hash("h1")));
}

#[test]
fn an_id_is_registered_once() {
    given(vec![registered()])
        .when(register())
        .then_expect_error(UserError::AlreadyRegistered);
}

#[test]
fn nobody_cannot_be_changed() {
    for command in edits().into_iter().chain([UserCommand::Reactivate]) {
        given(vec![]).when(command).then_expect_error(UserError::NotFound);
    }
    assert!(!User::default().exists() && !User::default().is_active());
}

#[test]
fn the_profile_is_replaced_as_a_whole() {
    let with_phone = UserEvent::ProfileChanged {
        name: name("B Customer"),
        phone: Some(phone("+49 40 1")),
    };
    given(vec![registered()])
        .when(UserCommand::ChangeProfile {
            name: name("B Customer"),
            phone: Some(phone("+49 40 1")),
        })
        .then_expect_events(vec![with_phone.clone()]);
    given(vec![registered(), with_phone])
        .when(UserCommand::ChangeProfile {
            name: name("B Customer"),
            phone: None,
        })
        .then_expect_events(vec![UserEvent::ProfileChanged {
            name: name("B Customer"),
            phone: None,
        }]);
}

#[test]
fn a_new_email_remembers_the_one_before() {
    given(vec![registered()])
        .when(UserCommand::ChangeEmail {
            email: email("other@example.org"),
        })
        .then_expect_events(vec![UserEvent::EmailChanged {
            email: email("other@example.org"),
            previous: email("Customer@Example.org"),
        }]);
}

#[test]
fn channels_are_chosen_and_until_then_it_is_email() {
    let chosen = |email, sms| UserEvent::ChannelsChosen { email, sms };
    let choose = |email, sms| UserCommand::ChooseChannels { email, sms };
    let channels = |events: &[UserEvent]| {
        let Channels { email, sms } = after::<User>(events).channels();
        (email, sms)
    };
    assert_eq!(channels(&[registered()]), (true, false));
    given(vec![registered()])
        .when(choose(true, false))
        .then_expect_events(vec![]);
    given(vec![registered()])
        .when(choose(false, true))
        .then_expect_events(vec![chosen(false, true)]);
    assert_eq!(channels(&[registered(), chosen(false, true)]), (false, true));
    given(vec![registered(), chosen(false, true)])
        .when(choose(false, true))
        .then_expect_events(vec![]);
    given(vec![registered(), chosen(false, true)])
        .when(choose(false, false))
        .then_expect_events(vec![chosen(false, false)]);
}

#[test]
fn where_to_reach_somebody_is_what_they_said_last() {
    let with_phone = UserEvent::ProfileChanged {
        name: name("B Customer"),
        phone: Some(phone("+49 40 1")),
    };
    let user: User = after(&[registered(), with_phone]);
    assert_eq!(user.name(), Some(&name("B Customer")));
    assert_eq!(user.phone(), Some(&phone("+49 40 1")));
    assert_eq!(after::<User>(&[registered()]).phone(), None);
    assert_eq!(User::default().channels(), Channels::default());
}

#[test]
fn the_newest_password_counts() {
    let changed = UserEvent::PasswordChanged {
        password_hash: hash("h2"),
    };
    given(vec![registered()])
        .when(UserCommand::ChangePassword {
            password_hash: hash("h2"),
        })
        .then_expect_events(vec![changed.clone()]);
    let user: User = after(&[registered(), changed]);
    assert_eq!(user.password_hash(), Some(&hash("h2")));
}

#[test]
fn roles_come_and_go_but_the_customer_stays() {
    let granted = UserEvent::RoleGranted { role: Role::Staff };
    let revoked = UserEvent::RoleRevoked { role: Role::Staff };
    given(vec![registered()])
        .when(UserCommand::GrantRole { role: Role::Staff })
        .then_expect_events(vec![granted.clone()]);
    given(vec![registered(), granted.clone()])
        .when(UserCommand::RevokeRole { role: Role::Staff })
        .then_expect_events(vec![revoked.clone()]);
    given(vec![registered()])
        .when(UserCommand::RevokeRole { role: Role::Customer })
        .then_expect_error(UserError::CustomerRoleStays);
    let staff: User = after(&[registered(), granted.clone()]);
    assert_eq!(staff.roles().collect::<Vec<_>>(), [Role::Customer, Role::Staff]);
    let customer: User = after(&[registered(), granted, revoked]);
    assert_eq!(customer.roles().collect::<Vec<_>>(), [Role::Customer]);
}

#[test]
fn what_is_already_so_gives_no_events() {
    let granted = UserEvent::RoleGranted { role: Role::Admin };
    for command in [
        UserCommand::ChangeProfile {
            name: name("A Customer"),
            phone: None,
        },
        UserCommand::ChangeEmail {
            email: email("Customer@Example.org"),
        },
        UserCommand::ChangePassword {
            password_hash: hash("h1"),
        },
        UserCommand::GrantRole { role: Role::Admin },
        UserCommand::RevokeRole { role: Role::Staff },
        UserCommand::Reactivate,
    ] {
        given(vec![registered(), granted.clone()])
            .when(command)
            .then_expect_events(vec![]);
    }
    given(vec![registered(), deactivated()])
        .when(UserCommand::Deactivate {
            reason: reason("again"),
        })
        .then_expect_events(vec![]);
}

#[test]
fn a_closed_account_takes_no_edits_until_it_is_opened_again() {
    given(vec![registered()])
        .when(UserCommand::Deactivate {
            reason: reason("asked for it"),
        })
        .then_expect_events(vec![deactivated()]);
    for command in edits() {
        given(vec![registered(), deactivated()])
            .when(command)
            .then_expect_error(UserError::Deactivated);
    }
    given(vec![registered(), deactivated()])
        .when(UserCommand::Reactivate)
        .then_expect_events(vec![UserEvent::Reactivated {}]);
    let closed: User = after(&[registered(), deactivated()]);
    assert!(closed.exists() && !closed.is_active());
    let opened: User = after(&[registered(), deactivated(), UserEvent::Reactivated {}]);
    assert!(opened.is_active());
}

fn edits() -> Vec<UserCommand> {
    vec![
        UserCommand::ChangeProfile {
            name: name("B Customer"),
            phone: None,
        },
        UserCommand::ChangeEmail {
            email: email("other@example.org"),
        },
        UserCommand::ChooseChannels {
            email: false,
            sms: false,
        },
        UserCommand::ChangePassword {
            password_hash: hash("h2"),
        },
        UserCommand::GrantRole { role: Role::Staff },
        UserCommand::RevokeRole { role: Role::Staff },
    ]
}

#[test]
fn the_email_is_claimed_case_folded() {
    let kind = ClaimKind::Email;
    let take = |value: &str| ClaimChange::Take {
        kind,
        value: value.to_owned(),
    };
    assert_eq!(User::claim_changes(&registered()), [take("customer@example.org")]);
    let changed = |to: &str| UserEvent::EmailChanged {
        email: email(to),
        previous: email("Customer@Example.org"),
    };
    let release = ClaimChange::Release {
        kind,
        value: "customer@example.org".to_owned(),
    };
    assert_eq!(
        User::claim_changes(&changed("Other@example.org")),
        [release, take("other@example.org")]
    );
    assert_eq!(User::claim_changes(&changed("customer@example.org")), []);
    assert_eq!(User::claim_changes(&deactivated()), []);
}

#[test]
fn nothing_personal_prints() {
    let printed = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        register(),
        registered(),
        User::claim_changes(&registered()),
        payment_methods::save(1, "pm_1", "Blue card"),
        payment_methods::saved(1, "pm_1", "Blue card"),
    );
    for personal in ["xample", "A Customer", "h1", "pm_1", "Blue"] {
        assert!(!printed.contains(personal), "{printed}");
    }
}

#[test]
fn roles_are_stored_as_they_are_shown() {
    for role in Role::ALL {
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!(Role::parse("staff"), None);
}

#[test]
fn events_and_snapshots_round_trip() {
    let bare = UserEvent::Registered {
        email: email("a@b"),
        name: name("Imported"),
        phone: Some(phone("123")),
        password_hash: None,
        roles: vec![Role::Customer],
    };
    let samples = [
        registered(),
        bare.clone(),
        UserEvent::ProfileChanged {
            name: name("B"),
            phone: None,
        },
        UserEvent::EmailChanged {
            email: email("c@d"),
            previous: email("a@b"),
        },
        UserEvent::ChannelsChosen {
            email: false,
            sms: true,
        },
        UserEvent::PasswordChanged {
            password_hash: hash("h2"),
        },
        UserEvent::RoleGranted { role: Role::Staff },
        UserEvent::RoleRevoked { role: Role::Staff },
        deactivated(),
        UserEvent::Reactivated {},
        payment_methods::saved(1, "pm_1", "Blue card"),
        payment_methods::removed(1),
        payment_methods::saved(2, "pm_2", "Red card"),
        erased(),
    ];
    assert_events_round_trip(
        &samples,
        &[
            "Registered",
            "ProfileChanged",
            "EmailChanged",
            "ChannelsChosen",
            "PasswordChanged",
            "RoleGranted",
            "RoleRevoked",
            "Deactivated",
            "Reactivated",
            "PaymentMethodSaved",
            "PaymentMethodRemoved",
            "Erased",
        ],
    );
    assert_snapshot_round_trips(&after::<User>(&samples));
    assert_snapshot_round_trips(&after::<User>(&[bare]));
    assert_snapshot_round_trips(&User::default());
}
