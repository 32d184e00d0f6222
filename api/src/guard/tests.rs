use std::fmt::Write as _;

use async_graphql::parser::parse_query;
use proptest::prelude::*;

use super::measure::Meter;
use super::*;

fn check(text: &str, limits: &Limits) -> Result<(), Refusal> {
    before_parsing(text, limits)?;
    before_validation(&parse_query(text).unwrap(), limits)
}

fn refused(text: &str) -> &'static str {
    match check(text, &Limits::default()) {
        Err(Refusal::Limit { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// `f0` spreads `f1` twice, which spreads `f2` twice, and so on.
fn doubling(fragments: usize) -> String {
    let mut text = "{...f0}".to_owned();
    for n in 0..fragments {
        write!(text, " fragment f{n} on Q{{...f{m} ...f{m}}}", m = n + 1).unwrap();
    }
    text + &format!(" fragment f{fragments} on Q{{a}}")
}

#[test]
fn a_plain_query_passes() {
    check(
        "query($id: ID!) { product(id: $id) { id name price { amountMinor } } }",
        &Limits::default(),
    )
    .unwrap();
}

#[test]
fn each_limit_has_its_name() {
    assert_eq!(refused(&"#".repeat(64 * 1024 + 1)), "its length in bytes");
    assert_eq!(refused(&format!("{{{}}}", "a ".repeat(5_000))), "tokens");
    assert_eq!(
        refused(&format!("{{a(b:{}{})}}", "[".repeat(40), "]".repeat(40))),
        "brackets inside one another"
    );
    assert_eq!(
        refused(&format!("{}{}", "{a".repeat(21), "}".repeat(21))),
        "fields inside one another"
    );
    assert_eq!(refused(&format!("{{a{{{}}}}}", "x:b ".repeat(101))), "aliases");
    assert_eq!(refused(&format!("{{{}}}", "a ".repeat(31))), "fields at the root");
    assert_eq!(
        refused(&format!("{{a {}}}", "@skip(if:true)".repeat(101))),
        "directives"
    );
    assert_eq!(
        refused(&format!(
            "{{a{{{}}}}} fragment f on Q{{{}}}",
            "...f ".repeat(60),
            "b ".repeat(100)
        )),
        "nodes, with fragments where they are spread"
    );
}

#[test]
fn root_fields_behind_a_fragment_are_root_fields() {
    let text = format!("{{...f ...f}} fragment f on Q{{{}}}", "a ".repeat(20));
    assert_eq!(refused(&text), "fields at the root");
}

#[test]
fn doubling_fragments_are_walked_once_each() {
    let text = doubling(26);
    assert!(text.len() < 1_100, "{}", text.len());
    assert!(matches!(
        check(&text, &Limits::default()),
        Err(Refusal::Limit { .. })
    ));
    let document = parse_query(&text).unwrap();
    let limits = Limits::default();
    let mut meter = Meter::new(&document, &limits);
    meter.document(&document).unwrap_err();
    assert!(meter.steps <= 2 * 26 + 2, "{} steps", meter.steps);
}

#[test]
fn a_fragment_that_contains_itself_is_refused() {
    for text in [
        "{...a} fragment a on Q{...a}",
        "{x} fragment a on Q{y{...b}} fragment b on Q{...a}",
    ] {
        assert!(
            matches!(check(text, &Limits::default()), Err(Refusal::Cycle { .. })),
            "{text}"
        );
    }
}

#[test]
fn no_bracket_hides_in_a_string_that_is_none() {
    // The parser gives up on the block string, and takes `""`, `""` and then the brackets.
    let text = format!("{{a(b:[\"\"\"\" {}", "[".repeat(30_000));
    assert_eq!(
        before_parsing(&text, &Limits::default()),
        Err(Refusal::OpenBlockString)
    );
    let text = format!("{{a(b:\"\\\" [[[[\" c:{}", "[".repeat(30_000));
    assert!(before_parsing(&text, &Limits::default()).is_err());
}

#[test]
fn brackets_in_strings_and_comments_do_not_count() {
    let brackets = "[{(".repeat(50);
    let text =
        format!("{{a(b:\"{brackets}\" c:\"\"\"{brackets} \\\"\"\" \" {brackets}\"\"\")}} # {brackets}");
    check(&text, &Limits::default()).unwrap();
}

#[test]
fn what_graphiql_asks_first_passes() {
    let of_type = "ofType{kind name ".repeat(9) + &"}".repeat(9);
    let text = format!(
        "query IntrospectionQuery {{ __schema {{ description queryType {{ name }} mutationType {{ name }} \
         subscriptionType {{ name }} types {{ ...FullType }} directives {{ name description isRepeatable locations \
         args(includeDeprecated: true) {{ ...InputValue }} }} }} }} \
         fragment FullType on __Type {{ kind name description specifiedByURL isOneOf \
         fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ ...InputValue }} \
         type {{ ...TypeRef }} isDeprecated deprecationReason }} inputFields(includeDeprecated: true) \
         {{ ...InputValue }} interfaces {{ ...TypeRef }} enumValues(includeDeprecated: true) {{ name description \
         isDeprecated deprecationReason }} possibleTypes {{ ...TypeRef }} }} \
         fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue isDeprecated \
         deprecationReason }} fragment TypeRef on __Type {{ kind name {of_type} }}"
    );
    check(&text, &Limits::default()).unwrap();
}

/// Selection sets over fields `a`..`e` and fragments `f0`..`f9`.
fn set() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-e]".prop_map(|f| f),
        (0..10_u8).prop_map(|n| format!("...f{n}"))
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        proptest::collection::vec(inner, 1..4).prop_flat_map(|items| {
            let body = items.join(" ");
            prop_oneof![
                Just(format!("a{{{body}}}")),
                Just(format!("x:b{{{body}}}")),
                Just(format!("... on Q{{{body}}}")),
            ]
        })
    })
}

proptest! {
    #[test]
    fn never_more_steps_than_selections(sets in proptest::collection::vec(set(), 1..10)) {
        let mut text = "{a ...f0}".to_owned();
        for (n, set) in sets.iter().enumerate() {
            write!(text, " fragment f{n} on Q{{{set}}}").unwrap();
        }
        let document = parse_query(&text).unwrap();
        let limits = Limits::default();
        let mut meter = Meter::new(&document, &limits);
        let _ = meter.document(&document);
        prop_assert!(meter.steps <= text.len() as u64);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        let _ = before_parsing(&text, &Limits::default());
    }

    #[test]
    fn any_punctuation_is_answered(text in "[\\[\\]{}()\"\\\\.#a \n]{0,200}") {
        if before_parsing(&text, &Limits::default()).is_ok() && let Ok(document) = parse_query(&text) {
            let _ = before_validation(&document, &Limits::default());
        }
    }
}
