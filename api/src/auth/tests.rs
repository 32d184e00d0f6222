use super::*;

fn user() -> UserId {
    "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap()
}

fn tokens(keys: &[SigningKey]) -> Tokens {
    Tokens::from_keys(keys).unwrap()
}

#[test]
fn a_token_says_who_and_what() {
    let tokens = tokens(&[SigningKey::generate().unwrap()]);
    let (token, expires) = tokens
        .issue(user(), &[Role::Customer, Role::Staff], noon())
        .unwrap();
    assert_eq!(expires, noon().trunc_subsecs(0) + LIFETIME);
    // The second time from memory.
    for _ in 0..2 {
        let verified = tokens.check(&token, noon()).unwrap();
        assert_eq!(verified.expires, expires);
        assert_eq!(verified.viewer.user_id, user());
        assert!(verified.viewer.is_staff());
        assert!(!verified.viewer.is_admin());
    }
}

#[test]
fn a_token_expires_remembered_or_not() {
    let key = SigningKey::generate().unwrap();
    let (one, other) = (tokens(std::slice::from_ref(&key)), tokens(&[key]));
    let (token, expires) = one.issue(user(), &[Role::Customer], noon()).unwrap();
    one.verify(&token, expires - TimeDelta::microseconds(1)).unwrap();
    assert_eq!(one.verify(&token, expires), Err(TokenError::Expired));
    assert_eq!(other.verify(&token, expires), Err(TokenError::Expired));
}

#[test]
fn every_known_key_is_accepted_and_no_other() {
    let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let (before, rotated) = (tokens(std::slice::from_ref(&old)), tokens(&[new.clone(), old]));
    let (token, _) = before.issue(user(), &[], noon()).unwrap();
    rotated.verify(&token, noon()).unwrap();
    let (token, _) = rotated.issue(user(), &[], noon()).unwrap();
    assert_eq!(before.verify(&token, noon()), Err(TokenError::Invalid));
    tokens(&[new]).verify(&token, noon()).unwrap();
}

#[test]
fn a_token_that_was_tampered_with_is_none() {
    let tokens = tokens(&[SigningKey::generate().unwrap()]);
    let (token, _) = tokens.issue(user(), &[Role::Customer], noon()).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["roles"] = serde_json::json!(["ADMIN"]);
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for forged in [
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{unsigned}.{claims}."),
        format!("{}.{}.", parts[0], parts[1]),
        "x".repeat(LONGEST + 1),
        String::new(),
    ] {
        assert_eq!(
            tokens.verify(&forged, noon()),
            Err(TokenError::Invalid),
            "{forged}"
        );
    }
}
