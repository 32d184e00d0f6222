#![expect(clippy::unused_async, reason = "resolvers are async")]
//! Validated once: the second schema here is another one that says so, so that a test can see which was asked.

use async_graphql::{
    Context, EmptyMutation, EmptySubscription, InputObject, Object, Schema, SchemaBuilder, ValidationMode,
};
use serde_json::{Value as Json, json};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DOCUMENT: &str = "query($it: Item, $times: Int = 1) { tell(it: $it, times: $times) }";

#[derive(InputObject)]
struct Item {
    id: String,
    pieces: Option<i32>,
}

struct Query;

#[Object]
impl Query {
    async fn tell(&self, ctx: &Context<'_>, it: Option<Item>, times: i32) -> async_graphql::Result<String> {
        if times < 0 {
            return Err("not so often".into());
        }
        let (id, pieces) = it.map_or_else(Default::default, |it| (it.id, it.pieces.unwrap_or_default()));
        Ok(format!(
            "{} {id} {pieces} {times}",
            ctx.data_unchecked::<&'static str>()
        ))
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

#[tokio::test]
async fn what_was_valid_once_is_not_validated_again() {
    let engine = once();
    let variables = json!({ "it": { "id": "a" }, "times": 2 });
    let first = ask(&engine, DOCUMENT, None, variables.clone()).await;
    assert_eq!(first["data"]["tell"], "validated a 0 2");
    let second = ask(&engine, DOCUMENT, None, variables).await;
    assert_eq!(second["data"]["tell"], "known a 0 2");
    let without = ask(&engine, DOCUMENT, None, json!({})).await;
    assert_eq!(without["data"]["tell"], "validated  0 1");
}

#[tokio::test]
async fn variables_are_looked_at_each_time() {
    let (engine, reference) = (once(), each_time());
    ask(
        &engine,
        DOCUMENT,
        None,
        json!({ "it": { "id": "a" }, "times": 2 }),
    )
    .await;
    let item = json!({ "id": "a" });
    for variables in [
        json!({ "it": { "id": "a", "pieces": 7 }, "times": 2 }),
        json!({ "it": { "id": "a", "pieces": null }, "times": 2 }),
        json!({ "it": { "id": "a", "colour": "red" }, "times": 1 }),
        json!({ "it": { "pieces": 7 }, "times": 1 }),
        json!({ "it": { "id": 7 }, "times": 1 }),
        json!({ "it": { "id": "a", "pieces": "seven" }, "times": 1 }),
        json!({ "it": "a", "times": 1 }),
        json!({ "it": item, "times": "twice" }),
        json!({ "it": item, "times": null }),
        json!({ "it": item, "times": 3_000_000_000_u64 }),
        json!({ "it": item, "times": -1 }),
    ] {
        let answer = ask(&engine, DOCUMENT, None, variables.clone()).await;
        let expected = ask(&reference, DOCUMENT, None, variables.clone()).await;
        assert_eq!(answer, expected, "{variables}");
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
        assert_eq!(answer["data"]["tell"], "validated a 0 1");
        let answer = ask(&engine, two, Some("B"), json!({ "n": 2 })).await;
        assert_eq!(answer["data"]["tell"], "validated  0 2");
        let answer = ask(&engine, fails, None, json!({ "n": -1 })).await;
        assert_eq!(answer["errors"][0]["message"], "not so often");
    }
    let answer = ask(&engine, fails, None, json!({ "n": 1 })).await;
    assert_eq!(answer["data"]["tell"], "validated  0 1");
    let answer = ask(&engine, fails, None, json!({ "n": 1 })).await;
    assert_eq!(answer["data"]["tell"], "known  0 1");
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
