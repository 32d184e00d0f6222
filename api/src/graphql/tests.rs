//! What holds for the whole schema.

use serde_json::{Value, json};

use super::builder;

async fn types() -> Vec<Value> {
    let query = "{ __schema { types { kind name description
        fields { name description args { name description } type { name ofType { name } } }
        inputFields { name description type { kind ofType { name } } }
        enumValues { name description } possibleTypes { name } interfaces { name } } } }";
    let response = builder().finish().execute(query).await;
    assert_eq!(response.errors, []);
    let mut data = response.data.into_json().unwrap();
    let types = data["__schema"]["types"].take();
    let ours = |it: &Value| !it["name"].as_str().unwrap().starts_with("__");
    types
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| ours(it))
        .cloned()
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn find<'a>(items: &'a [Value], name: &str) -> &'a Value {
    items.iter().find(|it| it["name"] == name).unwrap()
}

#[tokio::test]
async fn everything_is_described() {
    let types = types().await;
    let mut bare = Vec::new();
    let mut look = |path: &[&Value], it: &Value| {
        if it["description"].as_str().is_none_or(str::is_empty) {
            bare.push(format!("{path:?} {}", it["name"]));
        }
    };
    for it in &types {
        look(&[], it);
        for member in ["fields", "inputFields", "enumValues"] {
            for field in list(&it[member]) {
                look(&[&it["name"]], field);
                for argument in list(&field["args"]) {
                    look(&[&it["name"], &field["name"]], argument);
                }
            }
        }
    }
    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test]
async fn every_refusal_is_a_user_error_and_has_a_code() {
    let types = types().await;
    let user_error = find(&types, "UserError");
    let known: Vec<&Value> = list(&user_error["possibleTypes"])
        .iter()
        .map(|it| &it["name"])
        .collect();
    let unions = types.iter().filter(|it| it["kind"] == "UNION");
    for union in unions {
        for member in list(&union["possibleTypes"]) {
            assert!(
                known.contains(&&member["name"]),
                "{} in {}",
                member["name"],
                union["name"]
            );
        }
    }
    let codes = list(&find(&types, "UserErrorCode")["enumValues"]);
    assert_eq!(codes.len(), known.len());
}

/// Sessions and letters: there is no event to be at, and none to be written twice.
const NOT_IN_THE_LOG: [&str; 7] = [
    "logIn",
    "refreshSession",
    "endSession",
    "endAllSessions",
    "logOut",
    "requestPasswordReset",
    "requestEmailVerification",
];
/// Their token is good once.
const BY_TOKEN: [&str; 2] = ["resetPassword", "verifyEmail"];

#[tokio::test]
async fn every_mutation_takes_one_input_with_an_idempotency_key_and_has_a_payload_of_its_own() {
    let types = types().await;
    let mutations = list(&find(&types, "Mutation")["fields"]);
    assert!(mutations.len() > 20);
    for mutation in mutations {
        let name = mutation["name"].as_str().unwrap();
        let pascal = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        assert_eq!(mutation["args"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(mutation["args"][0]["name"], "input", "{name}");
        assert_eq!(
            mutation["type"]["ofType"]["name"],
            json!(format!("{pascal}Payload"))
        );
        let payload = list(&find(&types, &format!("{pascal}Payload"))["fields"]);
        find(payload, "userErrors");
        let input = list(&find(&types, &format!("{pascal}Input"))["inputFields"]);
        if !NOT_IN_THE_LOG.contains(&name) {
            find(payload, "position");
        }
        if !NOT_IN_THE_LOG.contains(&name) && !BY_TOKEN.contains(&name) {
            let key = find(input, "idempotencyKey");
            assert_eq!(key["type"]["ofType"]["name"], "String", "{name}");
        }
    }
}
