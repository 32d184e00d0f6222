//! The guard of documents (`api/src/guard.rs`) under whatever libFuzzer thinks of, in the order in which the endpoint asks it.
//! `make fuzz` says how long, and that no document may take a second.

#![no_main]

use std::sync::LazyLock;

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use libfuzzer_sys::fuzz_target;

use self::api::guard::cost::{Costs, is_fixed};
use self::api::guard::{Limits, asks_for_the_schema, before_parsing, before_validation};

/// The guard's own source, without the rest of its crate: that would have to be instrumented too.
#[path = "../../api/src"]
#[allow(dead_code)]
mod api {
    pub mod guard;
}

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
static COSTS: LazyLock<Costs> = LazyLock::new(|| Costs::of(include_str!("../../schema.graphql")));

fuzz_target!(|text: &str| {
    if before_parsing(text, &LIMITS).is_err() {
        return;
    }
    let Ok(document) = parse_query(text) else { return };
    if before_validation(&document, &LIMITS).is_err() {
        return;
    }
    asks_for_the_schema(&document);
    is_fixed(&document);
    for (_, operation) in document.operations.iter() {
        COSTS.cost(&document, &operation.node, &Variables::default());
    }
});
