use async_graphql::parser::parse_query;
use serde_json::{Value, json};

use super::*;

const SCHEMA: &str = "
    scalar Minutes
    enum Colour { RED BLUE }
    input Item { id: ID!, pieces: Int! = 1, colour: Colour, note: String }
    input Choice @oneOf { saved: ID, fresh: Item }
    input Order { items: [Item!]!, choice: Choice, gift: Boolean, waits: Minutes }
    type Query { take(order: Order): Int }";

fn are_right(declared: &str, variables: Value) -> bool {
    let document = parse_query(format!("query({declared}) {{ take }}")).unwrap();
    let (_, operation) = document.operations.iter().next().unwrap();
    Inputs::of(SCHEMA).are_right(&operation.node, &Variables::from_json(variables))
}

#[test]
fn what_is_declared_is_right() {
    for (declared, variables) in [
        ("$it: Order", json!({ "it": { "items": [] } })),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "pieces": 2, "colour": "RED", "note": null }] } }),
        ),
        (
            "$it: Order!",
            json!({ "it": { "items": [{ "id": "a" }], "choice": { "saved": "b" }, "gift": false } }),
        ),
        (
            "$it: Order",
            json!({ "it": { "items": [], "gift": null, "choice": null } }),
        ),
        ("$list: [[Int]!]", json!({ "list": [[1], []] })),
        ("$n: Int!", json!({ "n": -2_147_483_648 })),
        ("$n: Int", json!({ "n": 1, "unasked": "for" })),
    ] {
        assert!(are_right(declared, variables.clone()), "{declared} {variables}");
    }
}

#[test]
fn anything_else_is_not_beyond_doubt() {
    for (declared, variables) in [
        ("$it: Order!", json!({})),
        ("$it: Order!", json!({ "it": null })),
        ("$it: Order", json!({ "it": "items" })),
        ("$it: Order", json!({ "it": {} })),
        ("$it: Order", json!({ "it": { "items": null } })),
        ("$it: Order", json!({ "it": { "items": [null] } })),
        ("$it: Order", json!({ "it": { "items": [{}] } })),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "unknown": 1 }] } }),
        ),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "pieces": null }] } }),
        ),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "pieces": 1.5 }] } }),
        ),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "colour": "GREEN" }] } }),
        ),
        (
            "$it: Order",
            json!({ "it": { "items": [{ "id": "a", "note": 1 }] } }),
        ),
        ("$it: Order", json!({ "it": { "items": [], "gift": "yes" } })),
        ("$it: Choice", json!({ "it": {} })),
        ("$it: Choice", json!({ "it": { "saved": null } })),
        (
            "$it: Choice",
            json!({ "it": { "saved": "a", "fresh": { "id": "b" } } }),
        ),
        ("$it: Choice", json!({ "it": { "saved": "a", "fresh": null } })),
        ("$n: Int", json!({ "n": 2_147_483_648_u64 })),
        ("$n: Int", json!({ "n": "1" })),
        ("$list: [Int!]", json!({ "list": [1, null] })),
        // Allowed, and left to others.
        ("$n: Int", json!({})),
        ("$n: Int = 3", json!({})),
        ("$n: Int", json!({ "n": null })),
        ("$list: [Int]", json!({ "list": [null] })),
        ("$list: [Int!]", json!({ "list": 1 })),
        ("$id: ID", json!({ "id": 1 })),
        ("$it: Order", json!({ "it": { "items": [], "waits": 5 } })),
        ("$it: Nobody", json!({ "it": 1 })),
    ] {
        assert!(!are_right(declared, variables.clone()), "{declared} {variables}");
    }
}
