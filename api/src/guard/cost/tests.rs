use async_graphql::parser::parse_query;

use super::*;

const SCHEMA: &str = "
    type Query { orders(first: Int! = 20, after: String): Orders! order(id: ID!): Order best(first: Int! = 5): [Order!]! exportMyData: JSON! }
    type Orders { edges: [Edge!]! nodes: [Order!]! pageInfo: PageInfo! }
    type Edge { cursor: String! node: Order! }
    type PageInfo { hasNextPage: Boolean! }
    type Order { id: ID! tags: [String!]! items: [Item!]! others(first: Int! = 20): Orders! }
    type Item { name: String! }
    type Mutation { change: Order }";

fn cost_with(text: &str, variables: serde_json::Value) -> u64 {
    let document = parse_query(text).unwrap();
    let (_, operation) = document.operations.iter().next().unwrap();
    Costs::of(SCHEMA).cost(&document, &operation.node, &Variables::from_json(variables))
}

fn cost(text: &str) -> u64 {
    cost_with(text, serde_json::Value::Null)
}

#[test]
fn a_field_costs_one() {
    assert_eq!(cost("{ order(id: 1) { id tags __typename } }"), 4);
}

#[test]
fn a_page_multiplies_its_nodes_and_nothing_else() {
    assert_eq!(cost("{ orders { nodes { id } } }"), 1 + 20 * 2);
    assert_eq!(cost("{ orders(first: 3) { nodes { id } } }"), 1 + 3 * 2);
    assert_eq!(
        cost("{ orders(first: 3) { edges { cursor node { id } } pageInfo { hasNextPage } } }"),
        1 + 3 * 4 + 2
    );
    assert_eq!(cost("{ best(first: 3) { id } }"), 1 + 3 * 2);
}

#[test]
fn lists_in_lists_multiply() {
    let page = cost("{ orders(first: 100) { nodes { items { name } } } }");
    assert_eq!(page, 1 + 100 * (1 + 10 * 2));
    let pages = cost("{ orders(first: 100) { nodes { others(first: 100) { nodes { id } } } } }");
    assert_eq!(pages, 1 + 100 * (1 + 1 + 100 * 2));
}

#[test]
fn page_sizes_come_from_variables_and_their_defaults() {
    let text = "query($n: Int! = 7) { orders(first: $n) { nodes { id } } }";
    assert_eq!(cost(text), 1 + 7 * 2);
    assert_eq!(cost_with(text, serde_json::json!({ "n": 50 })), 1 + 50 * 2);
    assert_eq!(
        cost_with(text, serde_json::json!({ "n": 2_000_000_000 })),
        1 + 100 * 2
    );
    assert!(!is_fixed(&parse_query(text).unwrap()));
    assert!(is_fixed(
        &parse_query("query($id: ID!) { order(id: $id) { id } }").unwrap()
    ));
}

#[test]
fn a_fragment_costs_what_it_stands_for() {
    let text = "{ orders(first: 3) { ...page } again: orders(first: 5) { ...page } }
        fragment page on Orders { nodes { ...order } } fragment order on Order { id }";
    assert_eq!(cost(text), 2 + (3 + 5) * 2);
}

#[test]
fn doubling_fragments_are_measured_once_each() {
    let doubling = |n| format!(" fragment f{n} on Query {{ ...f{m} ...f{m} }}", m = n + 1);
    let fragments: Vec<String> = (0..64).map(doubling).collect();
    let text = format!(
        "{{ ...f0 }}{} fragment f64 on Query {{ best {{ id }} }}",
        fragments.concat()
    );
    assert_eq!(cost(&text), u64::MAX);
}

#[test]
fn a_change_costs_more_than_a_look() {
    assert_eq!(cost("mutation { change { id } }"), CHANGE + 2);
    assert_eq!(cost("{ exportMyData }"), EXPORT.1 + 1);
}

#[test]
fn lists_of_the_description_multiply_too() {
    let types = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }";
    let plain = "{ __schema { types { name } } }";
    assert!(
        cost(types) > 50 * cost(plain),
        "{} and {}",
        cost(types),
        cost(plain)
    );
}
