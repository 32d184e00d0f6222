//! Whether variables are right beyond doubt. A document that was found valid before need not be validated again with those.
//!
//! Says what is certain, and no more: whatever is wrong or unusual is left to validation, which has the words for it.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{BaseType, OperationDefinition, Type, TypeKind, TypeSystemDefinition};
use async_graphql::{Name, Variables};
use async_graphql_value::{ConstValue, indexmap::IndexMap};

/// What values a named type has.
#[derive(Debug)]
enum Input {
    Text,
    Integer,
    Boolean,
    Enum(HashSet<String>),
    Object {
        one_of: bool,
        fields: HashMap<String, Field>,
    },
}

#[derive(Debug)]
struct Field {
    of: Type,
    has_default: bool,
}

/// The types of a schema that arguments can have.
#[derive(Debug)]
pub struct Inputs {
    types: HashMap<String, Input>,
}

impl Inputs {
    /// Of a schema, in the schema definition language. Of a text that is none only GraphQL's own types are known. Scalars of
    /// a schema's own are not: only their code can read them.
    #[must_use]
    pub fn of(sdl: &str) -> Self {
        let own = [
            ("String", Input::Text),
            ("ID", Input::Text),
            ("Int", Input::Integer),
            ("Boolean", Input::Boolean),
        ];
        let mut types: HashMap<String, Input> =
            own.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        let schema = async_graphql::parser::parse_schema(sdl);
        for definition in schema.into_iter().flat_map(|schema| schema.definitions) {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let definition = definition.node;
            let input = match definition.kind {
                TypeKind::Enum(it) => Input::Enum(
                    it.values
                        .into_iter()
                        .map(|it| it.node.value.node.to_string())
                        .collect(),
                ),
                TypeKind::InputObject(it) => Input::Object {
                    one_of: definition
                        .directives
                        .iter()
                        .any(|it| it.node.name.node == "oneOf"),
                    fields: it
                        .fields
                        .into_iter()
                        .map(|field| {
                            let field = field.node;
                            let has_default = field.default_value.is_some();
                            (
                                field.name.node.to_string(),
                                Field {
                                    of: field.ty.node,
                                    has_default,
                                },
                            )
                        })
                        .collect(),
                },
                _ => continue,
            };
            types.insert(definition.name.node.to_string(), input);
        }
        Self { types }
    }

    /// Whether all variables that the operation declares are given, and are what it declares.
    ///
    /// None may be null or left out, nor may an item of a list: async-graphql 7.2 lets a nullable variable stand where null is
    /// not allowed, and looks at its value each time.
    #[must_use]
    pub fn are_right(&self, operation: &OperationDefinition, variables: &Variables) -> bool {
        operation.variable_definitions.iter().all(|definition| {
            let declared = &definition.node;
            variables
                .get(&declared.name.node)
                .is_some_and(|value| self.is(&declared.var_type.node, value))
        })
    }

    fn is(&self, of: &Type, value: &ConstValue) -> bool {
        match (&of.base, value) {
            (BaseType::List(of), ConstValue::List(items)) => items.iter().all(|item| self.is(of, item)),
            (BaseType::Named(name), value) => {
                let of = self.types.get(name.as_str());
                of.is_some_and(|of| self.is_input(of, value))
            }
            // One item for a list of one is allowed, and rare.
            (BaseType::List(_), _) => false,
        }
    }

    fn is_input(&self, of: &Input, value: &ConstValue) -> bool {
        match (of, value) {
            (Input::Text, ConstValue::String(_)) | (Input::Boolean, ConstValue::Boolean(_)) => true,
            (Input::Integer, ConstValue::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Input::Enum(values), ConstValue::String(value)) => values.contains(value),
            (Input::Object { one_of, fields }, ConstValue::Object(given)) => {
                self.are_fields(fields, given) && (!one_of || is_one(given))
            }
            _ => false,
        }
    }

    fn are_fields(&self, fields: &HashMap<String, Field>, given: &IndexMap<Name, ConstValue>) -> bool {
        let fits = |field: &Field, value: &ConstValue| {
            self.is(&field.of, value) || (field.of.nullable && *value == ConstValue::Null)
        };
        let missing = |(name, field): (&String, &Field)| {
            !field.of.nullable && !field.has_default && !given.contains_key(name.as_str())
        };
        given
            .iter()
            .all(|(name, value)| fields.get(name.as_str()).is_some_and(|field| fits(field, value)))
            && !fields.iter().any(missing)
    }
}

fn is_one(given: &IndexMap<Name, ConstValue>) -> bool {
    given.len() == 1 && !given.values().any(|value| *value == ConstValue::Null)
}

#[cfg(test)]
mod tests;
