#![expect(clippy::unused_async, reason = "resolvers are async")]
//! Validated once: the second schema here is another one that says so, so that a test can see which was asked.

use async_graphql::{
    Context, EmptyMutation, EmptySubscription, Enum, InputObject, Object, OneofObject, Schema, SchemaBuilder,
    ValidationMode,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DOCUMENT: &str = "query($it: Item, $times: Int = 1) { tell(it: $it, times: $times) }";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
enum Colour {
    Red,
    Blue,
}

#[derive(Debug, OneofObject)]
enum Wrapping {
    Plain(bool),
    Gift(Vec<Colour>),
}

#[derive(Debug, InputObject)]
struct Item {
    id: String,
    pieces: Option<i32>,
    #[graphql(default = 1)]
    parcels: i32,
    wrapping: Option<Wrapping>,
}

struct Query;

#[Object]
impl Query {
    async fn tell(&self, ctx: &Context<'_>, it: Option<Item>, times: i32) -> async_graphql::Result<String> {
        if times < 0 {
            return Err("not so often".into());
        }
        Ok(format!("{} {it:?} {times}", ctx.data_unchecked::<&'static str>()))
    }
}

type Tiny = Schema<Query, EmptyMutation, EmptySubscription>;

fn builder() -> SchemaBuilder<Query, EmptyMutation, EmptySubscription> {
    Schema::build(Query, EmptyMutation, EmptySubscription)
}

fn once() -> Engine<Tiny> {
    let [validating, not] = [
        (ValidationMode::Strict, "validated"),
        (ValidationMode::Fast, "known"),
    ]
    .map(|(mode, says)| builder().validation_mode(mode).data(says).finish());
    Engine::new(validating, Limits::default()).validating_once(not, Inputs::of(&builder().finish().sdl()))
}

fn each_time() -> Engine<Tiny> {
    Engine::new(builder().data("known").finish(), Limits::default())
}

async fn ask(engine: &Engine<Tiny>, document: &str, name: Option<&str>, variables: Json) -> Json {
    let asking = Asking {
        prepared: engine.prepare(document).unwrap(),
        operation: Operation {
            name: name.map(str::to_owned),
            variables: Variables::from_json(variables),
            extensions: HashMap::new(),
        },
        viewer: None,
        info: RequestInfo {
            request_id: "one".to_owned(),
            traceparent: None,
            address: None,
            user_agent: None,
            session: None,
            sets_cookies: false,
        },
    };
    serde_json::to_value(engine.execute(asking, SECOND).await).unwrap()
}

/// By which of the two schemas it was answered.
fn told_by(answer: &Json) -> &str {
    let told = answer["data"]["tell"].as_str().unwrap();
    told.split(' ').next().unwrap()
}

#[tokio::test]
async fn what_was_valid_once_is_not_validated_again() {
    let engine = once();
    let variables = json!({ "it": { "id": "a" }, "times": 2 });
    let first = ask(&engine, DOCUMENT, None, variables.clone()).await;
    assert_eq!(told_by(&first), "validated");
    let second = ask(&engine, DOCUMENT, None, variables).await;
    assert_eq!(told_by(&second), "known");
    let without = ask(&engine, DOCUMENT, None, json!({})).await;
    assert_eq!(told_by(&without), "validated");
}

/// Each field as it should be, as it should not, null, or left out.
fn fields() -> impl Strategy<Value = Json> {
    let field = |name: &'static str, values: Vec<Json>| {
        let values = values.into_iter().map(|value| Some((name, value)));
        prop::sample::select(values.chain([None]).collect::<Vec<_>>())
    };
    let wrappings = vec![
        json!({ "plain": true }),
        json!({ "plain": 1 }),
        json!({ "gift": ["RED", "BLUE"] }),
        json!({ "gift": ["RED", "GREEN"] }),
        json!({ "gift": ["RED", null] }),
        json!({ "gift": "RED" }),
        json!({ "plain": true, "gift": [] }),
        json!({ "plain": true, "gift": null }),
        json!({ "plain": null }),
        json!({}),
        json!(null),
    ];
    let fields = (
        field("id", vec![json!("a"), json!("a"), json!(7), json!(null)]),
        field("pieces", vec![json!(7), json!(null), json!("seven"), json!(1.5)]),
        field("parcels", vec![json!(2), json!(null), json!(3_000_000_000_u64)]),
        field("wrapping", wrappings),
        field("colour", vec![json!("RED")]),
    );
    fields.prop_map(|(a, b, c, d, e)| {
        let given = [a, b, c, d, e].into_iter().flatten();
        Json::Object(given.map(|(name, value)| (name.to_owned(), value)).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn variables_are_looked_at_each_time(
        it in prop_oneof![9 => fields(), 1 => Just(json!("a")), 1 => Just(json!([])), 1 => Just(json!(null))],
        times in prop::sample::select(vec![
            json!(1), json!(1), json!(-1), json!(null), json!("twice"), json!(true), json!(3_000_000_000_u64),
        ]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (answer, expected) = runtime.block_on(async {
            let engine = once();
            let known = ask(&engine, DOCUMENT, None, json!({ "it": { "id": "a" }, "times": 2 })).await;
            assert_eq!(told_by(&known), "validated");
            let variables = json!({ "it": it, "times": times });
            let answer = ask(&engine, DOCUMENT, None, variables.clone()).await;
            (answer, ask(&each_time(), DOCUMENT, None, variables).await)
        });
        let words = |answer: &Json| answer.to_string().replace("validated", "known");
        prop_assert_eq!(words(&answer), words(&expected));
    }
}

#[tokio::test]
async fn what_was_not_wholly_looked_at_is_looked_at_again() {
    let engine = once();
    // What stands beside a variable that is not there is not validated.
    let beside = "query($n: Int) { tell(it: { id: \"a\", pieces: $n }, times: 1) }";
    // Nor are the values of another operation.
    let two = "query A($n: Int! = 1) { tell(times: $n) } query B($n: Int! = 2) { tell(times: $n) }";
    let fails = "query($n: Int!) { tell(times: $n) }";
    for _ in 0..2 {
        let answer = ask(&engine, beside, None, json!({})).await;
        assert_eq!(told_by(&answer), "validated");
        let answer = ask(&engine, two, Some("B"), json!({ "n": 2 })).await;
        assert_eq!(told_by(&answer), "validated");
        let answer = ask(&engine, fails, None, json!({ "n": -1 })).await;
        assert_eq!(answer["errors"][0]["message"], "not so often");
    }
    let answer = ask(&engine, fails, None, json!({ "n": 1 })).await;
    assert_eq!(told_by(&answer), "validated");
    let answer = ask(&engine, fails, None, json!({ "n": 1 })).await;
    assert_eq!(told_by(&answer), "known");
}

#[tokio::test]
async fn what_is_not_valid_never_becomes_so() {
    let engine = once();
    for document in ["{ nothing }", "{ tell(times: 1, more: 2) }"] {
        let first = ask(&engine, document, None, json!({ "n": 1 })).await;
        assert!(first["errors"][0]["message"].is_string(), "{first}");
        assert_eq!(ask(&engine, document, None, json!({ "n": 1 })).await, first);
    }
}
