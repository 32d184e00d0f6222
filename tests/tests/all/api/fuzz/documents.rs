//! Documents as a client of this schema might write them, and as nobody would.

use std::collections::HashMap;
use std::fmt::Write;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use serde_json::{Value, json};

/// Decisions, taken from a list that proptest made. At its end every decision is the first one.
pub(super) struct Choices {
    numbers: std::vec::IntoIter<u32>,
}

impl Choices {
    pub(super) fn new(numbers: Vec<u32>) -> Self {
        Self {
            numbers: numbers.into_iter(),
        }
    }

    /// From 0 to one less than `count`.
    pub(super) fn up_to(&mut self, count: usize) -> usize {
        self.numbers.next().unwrap_or(0) as usize % count.max(1)
    }

    /// As [`Self::up_to`], but the first of them three times in four.
    pub(super) fn mostly_first(&mut self, count: usize) -> usize {
        if self.one_in(4) { self.up_to(count) } else { 0 }
    }

    /// Seldom; never at the end.
    pub(super) fn one_in(&mut self, count: u32) -> bool {
        self.numbers.next().is_some_and(|number| number % count == 1)
    }

    fn is_over(&self) -> bool {
        self.numbers.as_slice().is_empty()
    }

    /// Changes, takes out, doubles or adds some bytes.
    pub(super) fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.up_to(4) {
            let at = self.up_to(bytes.len());
            match self.up_to(4) {
                _ if bytes.is_empty() => return,
                0 => bytes[at] = self.byte(),
                1 => {
                    bytes.remove(at);
                }
                2 => {
                    let length = self.up_to(64).min(bytes.len() - at);
                    let piece = bytes[at..at + length].to_vec();
                    for _ in 0..self.up_to(40) {
                        bytes.splice(at..at, piece.iter().copied());
                    }
                }
                _ => bytes.insert(at, self.byte()),
            }
        }
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"{}[]()\"\\:,!$@#&|=._-0e+ \n\t\0\x7f\x80\xff";
        if self.one_in(2) {
            TELLING[self.up_to(TELLING.len())]
        } else {
            self.up_to(256).try_into().unwrap()
        }
    }
}

/// Makes documents for a schema.
pub(super) struct Documents {
    fields: HashMap<String, Vec<FieldDefinition>>,
    inputs: HashMap<String, Vec<InputValueDefinition>>,
    enums: HashMap<String, Vec<String>>,
    members: HashMap<String, Vec<String>>,
    ids: Vec<String>,
}

impl Documents {
    /// `ids` are of things that are there.
    pub(super) fn of(sdl: &str, ids: Vec<String>) -> Self {
        let mut made = Self {
            fields: HashMap::new(),
            inputs: HashMap::new(),
            enums: HashMap::new(),
            members: HashMap::new(),
            ids,
        };
        for definition in parse_schema(sdl).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let name = definition.node.name.node.to_string();
            match definition.node.kind {
                TypeKind::Object(object) => {
                    for interface in &object.implements {
                        made.members
                            .entry(interface.node.to_string())
                            .or_default()
                            .push(name.clone());
                    }
                    made.fields
                        .insert(name, object.fields.into_iter().map(|it| it.node).collect());
                }
                TypeKind::Interface(interface) => {
                    made.fields
                        .insert(name, interface.fields.into_iter().map(|it| it.node).collect());
                }
                TypeKind::Union(union) => {
                    made.members
                        .insert(name, union.members.iter().map(|it| it.node.to_string()).collect());
                }
                TypeKind::Enum(values) => {
                    let values = values.values.iter().map(|it| it.node.value.node.to_string());
                    made.enums.insert(name, values.collect());
                }
                TypeKind::InputObject(input) => {
                    made.inputs
                        .insert(name, input.fields.into_iter().map(|it| it.node).collect());
                }
                TypeKind::Scalar => {}
            }
        }
        made
    }

    /// A document and its variables.
    pub(super) fn document(&self, choices: &mut Choices) -> (String, Value) {
        let root = ["Query", "Query", "Query", "Mutation", "Subscription"][choices.up_to(5)];
        let count = if root == "Query" { choices.up_to(4) } else { 0 };
        let mut fields = String::new();
        self.set(root, count, choices, 0, &mut fields);
        // A variable that nothing uses is refused, and nearly always it should not be.
        let used = fields.contains("$first") || choices.one_in(16);
        let declared = if used { "($first: Int = 3)" } else { "" };
        let mut document = format!("{} Fuzzed{declared}{fields}", root.to_lowercase());
        if choices.one_in(6) {
            document.push_str(" fragment Other on Query { ...Other __typename }");
        }
        let first = [json!(2), json!(-1), json!(1_000_000), json!("x"), Value::Null];
        let variables = json!({ "first": first[choices.mostly_first(first.len())] });
        (document, variables)
    }

    /// A selection set of one field more than `more`.
    fn set(&self, of: &str, more: usize, choices: &mut Choices, depth: usize, out: &mut String) {
        out.push_str(" {");
        let mut written = false;
        if let Some(members) = self
            .members
            .get(of)
            .filter(|_| !self.fields.contains_key(of) || choices.one_in(3))
        {
            let member = &members[choices.up_to(members.len())];
            let _ = write!(out, " __typename ... on {member}");
            self.set(member, choices.up_to(3), choices, depth + 1, out);
            written = true;
        }
        if let Some(fields) = self.fields.get(of) {
            for number in 0..=more {
                let field = &fields[choices.up_to(fields.len())];
                let inner = named(&field.ty.node);
                let composite = self.fields.contains_key(inner) || self.members.contains_key(inner);
                // Deep enough: only what has nothing below it.
                if composite && (depth > 7 || choices.is_over()) {
                    continue;
                }
                // Under a name of its own, also beside what a fragment selects, since arguments differ.
                let _ = write!(out, " f{depth}_{number}: {}", field.name.node);
                self.arguments(field, choices, out);
                if choices.one_in(16) {
                    out.push_str(
                        [
                            "@skip(if: false)",
                            "@include(if: true)",
                            "@skip(if: 1)",
                            "@nothing",
                        ][choices.up_to(4)],
                    );
                }
                if composite {
                    self.set(inner, choices.up_to(4), choices, depth + 1, out);
                }
                written = true;
            }
        }
        if !written || choices.one_in(10) {
            out.push_str(" __typename");
        }
        out.push_str(" }");
    }

    fn arguments(&self, field: &FieldDefinition, choices: &mut Choices, out: &mut String) {
        let mut given = Vec::new();
        for argument in &field.arguments {
            let argument = &argument.node;
            let needed = !argument.ty.node.nullable && argument.default_value.is_none();
            if needed || choices.one_in(3) {
                let mut text = format!("{}: ", argument.name.node);
                if argument.name.node == "first" && choices.one_in(2) {
                    text.push_str("$first");
                } else {
                    self.value(
                        &argument.ty.node,
                        argument.name.node.as_str(),
                        choices,
                        0,
                        &mut text,
                    );
                }
                given.push(text);
            }
        }
        if !given.is_empty() {
            let _ = write!(out, "({})", given.join(", "));
        }
    }

    fn value(&self, ty: &Type, called: &str, choices: &mut Choices, depth: usize, out: &mut String) {
        if choices.one_in(24) {
            let odd = [
                "null",
                "-1",
                "\"\"",
                "[]",
                "{}",
                "NOTHING",
                "1e999",
                "\"\\u0000\"",
                "9223372036854775808",
                "[[[1]]]",
            ];
            out.push_str(odd[choices.up_to(odd.len())]);
            return;
        }
        let name = match &ty.base {
            BaseType::List(inner) => {
                out.push('[');
                for _ in 0..choices.up_to(3) {
                    self.value(inner, called, choices, depth + 1, out);
                    out.push(' ');
                }
                out.push(']');
                return;
            }
            BaseType::Named(name) => name.as_str(),
        };
        if let Some(fields) = self.inputs.get(name) {
            out.push('{');
            for field in fields {
                let needed = !field.ty.node.nullable && field.default_value.is_none();
                if depth < 5 && (needed || choices.one_in(2)) {
                    let _ = write!(out, " {}: ", field.name.node);
                    self.value(&field.ty.node, field.name.node.as_str(), choices, depth + 1, out);
                }
            }
            out.push('}');
            return;
        }
        if let Some(values) = self.enums.get(name) {
            out.push_str(&values[choices.up_to(values.len())]);
            return;
        }
        let text = match name {
            "Int" => ["1", "20", "100", "101", "0", "-2147483648"][choices.up_to(6)].to_owned(),
            "Float" => "1.5".to_owned(),
            "Boolean" => ["true", "false"][choices.up_to(2)].to_owned(),
            "ID" => match self.ids.get(choices.up_to(self.ids.len() + 1)) {
                Some(id) => format!("\"{id}\""),
                None => "\"ord_01ARZ3NDEKTSV4RRFFQ69G5FAV\"".to_owned(),
            },
            "DateTime" => "\"2026-01-01T00:00:00Z\"".to_owned(),
            "Position" => ["\"0\"", "\"1\""][choices.up_to(2)].to_owned(),
            _ if called == "currency" => "\"GBP\"".to_owned(),
            "String" if called == "email" => format!("\"a{}@example.com\"", choices.up_to(50)),
            _ => [
                "\"a b\"",
                "\"12345\"",
                "\"\u{1F600}\"",
                "\"%_\\\\\"",
                "\"<script>\"",
                "\"'; --\"",
                "7",
            ][choices.up_to(7)]
            .to_owned(),
        };
        out.push_str(&text);
    }
}

fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(inner),
    }
}
