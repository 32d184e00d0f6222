//! The schema: what people read before they read anything else.

use kontor_tests::api::ApiShop;
use serde_json::{Value, json};

const INTROSPECTION: &str = "{ __schema { types { kind name description
    fields(includeDeprecated: true) { name description args { name description } type { name ofType { name ofType { name ofType { name } } } } }
    inputFields { name description type { kind ofType { name } } }
    enumValues(includeDeprecated: true) { name description } possibleTypes { name } interfaces { name } }
    directives { name description args { name description } } } }";

async fn introspected() -> Value {
    let api = ApiShop::start().await;
    let schema = api.visitor().read(INTROSPECTION, json!({})).await["__schema"].take();
    api.finish().await;
    schema
}

/// What is not in the log, or happens once by itself.
const KEYLESS: [&str; 9] = [
    "logIn",
    "refreshSession",
    "endSession",
    "endAllSessions",
    "logOut",
    "requestPasswordReset",
    "resetPassword",
    "requestEmailVerification",
    "verifyEmail",
];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn find<'a>(items: &'a Value, name: &str) -> &'a Value {
    list(items)
        .iter()
        .find(|it| it["name"] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

fn name(it: &Value) -> &str {
    it["name"].as_str().unwrap()
}

#[test]
fn the_file_in_the_repository_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema.graphql");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == kontor_api::graphql::sdl(),
        "schema.graphql is old: run `make gen`"
    );
}

/// Names of what has no description, each from the outside in.
fn undescribed(schema: &Value) -> Vec<String> {
    let mut bare = Vec::new();
    let mut look = |it: &Value, path: &[&Value]| {
        if it["description"]
            .as_str()
            .is_none_or(|text| text.trim().is_empty())
        {
            let path: Vec<&str> = path.iter().map(|it| name(it)).collect();
            bare.push(path.join("."));
        }
    };
    for it in list(&schema["types"]).iter().chain(list(&schema["directives"])) {
        look(it, &[it]);
        // Introspection is GraphQL's own, and async-graphql leaves the fields of its types without a word, out of reach.
        if name(it).starts_with("__") {
            continue;
        }
        for argument in list(&it["args"]) {
            look(argument, &[it, argument]);
        }
        for members in ["fields", "inputFields", "enumValues"] {
            for member in list(&it[members]) {
                look(member, &[it, member]);
                for argument in list(&member["args"]) {
                    look(argument, &[it, member, argument]);
                }
            }
        }
    }
    bare
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_described() {
    let schema = introspected().await;
    assert!(list(&schema["types"]).len() > 100);
    assert_eq!(undescribed(&schema), Vec::<String>::new());
    // And it is noticed where there is none.
    let mut bare = schema.clone();
    let order = bare["types"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|it| it["name"] == "Order")
        .unwrap();
    let status = order["fields"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|it| it["name"] == "status")
        .unwrap();
    status["description"] = "".into();
    assert_eq!(undescribed(&bare), ["Order.status"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutations_have_one_shape() {
    let schema = introspected().await;
    let types = &schema["types"];
    let mutations = list(&find(types, "Mutation")["fields"]);
    assert!(mutations.len() > 20);
    let known: Vec<&str> = list(&find(types, "UserError")["possibleTypes"])
        .iter()
        .map(name)
        .collect();
    for mutation in mutations {
        let verb = name(mutation);
        let pascal = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        let arguments: Vec<&str> = list(&mutation["args"]).iter().map(name).collect();
        assert_eq!(arguments, ["input"], "{verb}");
        let keyed = list(&find(types, &format!("{pascal}Input"))["inputFields"])
            .iter()
            .any(|it| name(it) == "idempotencyKey");
        assert_eq!(keyed, !KEYLESS.contains(&verb), "{verb}");
        assert_eq!(mutation["type"]["ofType"]["name"], format!("{pascal}Payload"));
        let errors = find(&find(types, &format!("{pascal}Payload"))["fields"], "userErrors");
        let union = format!("{pascal}Error");
        // A list, none of whose members is null and which is not null itself.
        assert_eq!(
            errors["type"]["ofType"]["ofType"]["ofType"]["name"], union,
            "{verb}"
        );
        let members = list(&find(types, &union)["possibleTypes"]);
        assert!(!members.is_empty(), "{union}");
        for member in members.iter().map(name) {
            assert!(known.contains(&member), "{member} in {union}");
            let it = find(types, member);
            assert!(
                list(&it["interfaces"]).iter().any(|it| name(it) == "UserError"),
                "{member}"
            );
            for field in ["code", "message", "path"] {
                let _ = find(&it["fields"], field);
            }
        }
    }
}
