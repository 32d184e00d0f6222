use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn user() -> UserId {
    "usr_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 123_456_000).unwrap()
}

fn tokens(keys: &[SigningKey]) -> Tokens {
    Tokens::from_keys(keys.to_vec()).unwrap()
}

fn key() -> SigningKey {
    SigningKey::generate(noon() - keys::KNOWN_BEFORE).unwrap()
}

fn grant(roles: &[Role]) -> Grant<'_> {
    Grant {
        user_id: user(),
        roles,
        session: "ses_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
        version: 3,
    }
}

#[test]
fn a_token_says_who_and_what() {
    let tokens = tokens(&[key()]);
    let (token, expires) = tokens
        .issue(grant(&[Role::Customer, Role::Staff]), noon())
        .unwrap();
    assert_eq!(expires, noon().trunc_subsecs(0) + LIFETIME);
    // The second time from memory.
    for _ in 0..2 {
        let verified = tokens.check(&token, noon()).unwrap();
        assert_eq!(verified.expires, expires);
        assert_eq!((verified.viewer.user_id, verified.version), (user(), 3));
        assert!(verified.viewer.is_staff());
        assert!(!verified.viewer.is_admin());
    }
}

#[test]
fn a_token_expires_remembered_or_not() {
    let key = key();
    let (one, other) = (tokens(std::slice::from_ref(&key)), tokens(&[key]));
    let (token, expires) = one.issue(grant(&[Role::Customer]), noon()).unwrap();
    one.check(&token, expires - TimeDelta::microseconds(1)).unwrap();
    assert_eq!(one.check(&token, expires), Err(TokenError::Expired));
    assert_eq!(other.check(&token, expires), Err(TokenError::Expired));
}

#[test]
fn every_known_key_is_accepted_and_no_other() {
    let (old, new) = (key(), key());
    let (before, rotated) = (tokens(std::slice::from_ref(&old)), tokens(&[new.clone(), old]));
    let (token, _) = before.issue(grant(&[]), noon()).unwrap();
    rotated.check(&token, noon()).unwrap();
    let (token, _) = rotated.issue(grant(&[]), noon()).unwrap();
    assert_eq!(before.check(&token, noon()), Err(TokenError::UnknownKey));
    tokens(&[new]).check(&token, noon()).unwrap();
}

#[test]
fn a_token_that_was_tampered_with_is_none() {
    let tokens = tokens(&[key()]);
    let (token, _) = tokens.issue(grant(&[Role::Customer]), noon()).unwrap();
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
            tokens.check(&forged, noon()),
            Err(TokenError::Invalid),
            "{forged}"
        );
    }
}

#[test]
fn a_new_key_is_shown_before_it_signs() {
    let (old, new) = (key(), SigningKey::generate(noon()).unwrap());
    let both = tokens(&[new.clone(), old.clone()]);
    let signed_by = |now: DateTime<Utc>| {
        let (token, _) = both.issue(grant(&[]), now).unwrap();
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    };
    assert_eq!(signed_by(noon()), old.kid);
    assert_eq!(signed_by(noon() + keys::KNOWN_BEFORE), new.kid);
    let shown = serde_json::to_value(both.jwks()).unwrap();
    let kids: Vec<&str> = shown["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    assert_eq!(kids, [&*new.kid, &*old.kid]);
    assert_eq!(shown["keys"][0]["crv"], "Ed25519");
    assert!(!shown.to_string().contains(&URL_SAFE_NO_PAD.encode(&new.pkcs8)));
}
