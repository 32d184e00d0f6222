use proptest::prelude::*;

use super::*;

fn problem<T: FromStr<Err = TextError>>(text: &str) -> Option<TextProblem> {
    text.parse::<T>().err().map(|error| error.problem)
}

#[test]
fn lengths_count_characters_after_trimming() {
    assert_eq!(problem::<Sku>("  "), Some(TextProblem::Empty));
    assert_eq!(problem::<Sku>(&"\u{e4}".repeat(64)), None);
    assert_eq!(problem::<Sku>(&format!(" {} ", "x".repeat(64))), None);
    assert_eq!(
        problem::<Sku>(&"x".repeat(65)),
        Some(TextProblem::TooLong { max: 64 })
    );
    assert_eq!(problem::<Phone>("12"), Some(TextProblem::TooShort { min: 3 }));
    assert_eq!(problem::<Description>(""), None);
    assert_eq!(Sku::new(" a b ").unwrap().as_str(), "a b");
}

#[test]
fn control_characters_are_refused() {
    // Postgres cannot store U+0000 in text; the others would break a log line or a terminal.
    for control in ["a\0b", "a\u{1b}[0mb", "a\u{7f}b", "a\u{85}b", "a\u{2028}b"] {
        let forbidden = Some(TextProblem::ForbiddenCharacter);
        assert_eq!(problem::<ProductName>(control), forbidden, "{control:?}");
        assert_eq!(problem::<Description>(control), forbidden, "{control:?}");
        assert_eq!(problem::<PersonName>(control), forbidden, "{control:?}");
        assert_eq!(problem::<Sku>(control), forbidden, "{control:?}");
    }
    assert_eq!(problem::<Description>("one\r\n\ttwo"), None);
    assert_eq!(
        problem::<ProductName>("one\ntwo"),
        Some(TextProblem::ForbiddenCharacter)
    );
    assert_eq!(problem::<Sku>("a\u{a0}b"), Some(TextProblem::ForbiddenCharacter));
}

#[test]
fn an_email_has_one_at_sign_and_two_sides() {
    for right in ["a@b", "First.Last+tag@example.org", "\u{fc}@\u{e4}.example"] {
        assert_eq!(problem::<Email>(right), None, "{right}");
    }
    for wrong in ["abc", "@bc", "ab@", "a@b@c"] {
        assert_eq!(problem::<Email>(wrong), Some(TextProblem::NotAnEmail), "{wrong}");
    }
    assert_eq!(problem::<Email>("a b@c"), Some(TextProblem::ForbiddenCharacter));
    assert_eq!(
        problem::<Email>(&format!("{}@b", "a".repeat(253))),
        Some(TextProblem::TooLong { max: 254 })
    );
}

#[test]
fn an_email_keeps_what_was_typed() {
    let email = Email::new(" Mia@Example.ORG ").unwrap();
    assert_eq!(email.as_str(), "Mia@Example.ORG");
    assert_eq!(email.folded(), "mia@example.org");
}

#[test]
fn a_phone_number_has_no_letters() {
    assert_eq!(problem::<Phone>("+49 (40) 123-45"), None);
    assert_eq!(problem::<Phone>("call me"), Some(TextProblem::ForbiddenCharacter));
}

#[test]
fn a_password_hash_does_not_print() {
    let hash = PasswordHash::new("$argon2id$v=19$secret").unwrap();
    assert_eq!(format!("{hash:?}"), "***");
    assert_eq!(hash.as_str(), "$argon2id$v=19$secret");
}

#[test]
fn a_quantity_is_one_to_a_million() {
    for wrong in [0, 1_000_001, u32::MAX] {
        assert!(Quantity::new(wrong).is_err(), "{wrong}");
        assert!(serde_json::from_str::<Quantity>(&wrong.to_string()).is_err());
    }
    let most = Quantity::new(1_000_000).unwrap();
    let one = serde_json::from_str::<Quantity>("1").unwrap();
    assert!(most.checked_add(one).is_err());
    assert_eq!(one.checked_add(one).unwrap().get(), 2);
}

#[test]
fn a_wrong_value_does_not_decode_and_is_not_repeated_in_the_error() {
    let error = serde_json::from_str::<Email>(r#""secret-no-email""#).unwrap_err();
    assert!(error.to_string().contains("e-mail address"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

proptest! {
    #[test]
    fn folding_twice_is_folding_once(local in "\\PC{1,20}", domain in "\\PC{1,20}") {
        if let Ok(email) = Email::new(format!("{local}@{domain}")) {
            let folded = email.folded();
            prop_assert_eq!(folded.to_lowercase(), folded);
        }
    }

    #[test]
    fn case_does_not_make_another_email(local in "[a-zA-Z0-9.]{1,20}", domain in "[a-zA-Z0-9.]{1,20}") {
        let typed = Email::new(format!("{local}@{domain}")).unwrap();
        let shouted = Email::new(typed.as_str().to_uppercase()).unwrap();
        prop_assert_eq!(typed.folded(), shouted.folded());
    }

    #[test]
    fn what_was_accepted_decodes_to_itself(text in "\\PC{0,80}") {
        if let Ok(name) = ProductName::new(text) {
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<ProductName>(&json).unwrap(), name);
        }
    }
}
