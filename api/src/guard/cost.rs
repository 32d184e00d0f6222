//! What an operation may cost: the fields it is answered with at most, pages multiplied in.
//!
//! Which field is a list, and how long, is read from the schema. Each fragment is measured once, as in
//! [`super::measure`]: its cost is a sum of what is there once and what is there for each node of the page round it.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field as Selected, FieldDefinition, OperationDefinition, OperationType,
    Selection, SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Variables};
use async_graphql_value::{ConstValue, Value};

/// How long a list is taken to be that has no page size: the lines of an order, the entries of its timeline.
const USUAL: u64 = 10;
/// Nodes on a page at most; whoever asks for more is refused by the list itself, with a sentence of its own.
const LONGEST_PAGE: u64 = 100;
/// A change is written to disk, and some hash a password first.
const CHANGE: u64 = 50;
/// Reads all there is of somebody, in one field.
const EXPORT: (&str, u64) = ("exportMyData", 1_000);
/// What describes the schema, as far as an operation sees it. Costs little a field, but is large.
const INTROSPECTION: &str = "
type __Schema { types: [__Type] queryType: __Type mutationType: __Type subscriptionType: __Type directives: [__Directive] }
type __Type { fields: [__Field] interfaces: [__Type] possibleTypes: [__Type] enumValues: [__EnumValue]
    inputFields: [__InputValue] ofType: __Type }
type __Field { args: [__InputValue] type: __Type }
type __InputValue { type: __Type }
type __EnumValue { name: String }
type __Directive { args: [__InputValue] }";
/// Fields of the description that cost as much as one that is resolved.
const DESCRIBED: u64 = 8;

/// How many of a field there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Many {
    /// One, or a list of scalars, which is written in one go.
    One,
    /// Of these.
    List(u64),
    /// As many as the page round it has nodes.
    OfPage,
    /// Itself once, round a page of nodes.
    Page { usual: u64 },
    /// A list of as many as asked for.
    PagedList { usual: u64 },
}

#[derive(Debug)]
struct Field {
    of: String,
    many: Many,
}

/// What the fields of a schema cost.
#[derive(Debug, Default)]
pub struct Costs {
    types: HashMap<String, HashMap<String, Field>>,
}

impl Costs {
    /// Of a schema, in the schema definition language. Of a text that is none every field costs one.
    #[must_use]
    pub fn of(sdl: &str) -> Self {
        let mut costs = Self::default();
        let Ok(schema) = async_graphql::parser::parse_schema(sdl) else {
            return costs;
        };
        let types = || {
            schema
                .definitions
                .iter()
                .filter_map(|definition| match definition {
                    TypeSystemDefinition::Type(definition) => Some(&definition.node),
                    _ => None,
                })
        };
        let fields = || types().filter_map(|it| Some((it.name.node.as_str(), fields_of(&it.kind)?)));
        let composite: HashSet<&str> = types()
            .filter(|it| {
                matches!(
                    it.kind,
                    TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_)
                )
            })
            .map(|it| it.name.node.as_str())
            .collect();
        let pages: HashSet<&str> = fields()
            .flat_map(|(_, fields)| fields)
            .filter(|field| page_size(field).is_some() && !is_list(&field.ty.node))
            .map(|field| named(&field.ty.node))
            .collect();
        for (name, definitions) in fields() {
            let of_type = definitions.map(|field| {
                let of = named(&field.ty.node);
                let many = match (page_size(field), is_list(&field.ty.node)) {
                    _ if !composite.contains(of) => Many::One,
                    (Some(usual), false) => Many::Page { usual },
                    (Some(usual), true) => Many::PagedList { usual },
                    (None, true) if pages.contains(name) => Many::OfPage,
                    (None, true) => Many::List(USUAL),
                    (None, false) => Many::One,
                };
                let of = of.to_owned();
                (field.name.node.to_string(), Field { of, many })
            });
            costs.types.insert(name.to_owned(), of_type.collect());
        }
        let count = types().count() as u64;
        if !sdl.contains("type __Schema") {
            costs.describe(count);
        }
        costs
    }

    /// Adds what describes the schema, with lists about as long as they are there.
    fn describe(&mut self, types: u64) {
        let description = Self::of(INTROSPECTION)
            .types
            .into_iter()
            .map(|(name, mut fields)| {
                for (field, it) in &mut fields {
                    if matches!(it.many, Many::List(_)) {
                        it.many = Many::List(match field.as_str() {
                            "types" => types,
                            "interfaces" => 1,
                            "args" => 2,
                            _ => 8,
                        });
                    }
                }
                (name, fields)
            });
        self.types.extend(description);
        if let Some(query) = self.types.get_mut(root(OperationType::Query)) {
            for (field, of) in [("__schema", "__Schema"), ("__type", "__Type")] {
                let (of, many) = (of.to_owned(), Many::One);
                query.insert(field.to_owned(), Field { of, many });
            }
        }
    }

    /// What an operation costs with these variables.
    #[must_use]
    pub fn cost(
        &self,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> u64 {
        let mut walk = Walk {
            costs: self,
            document,
            operation,
            variables,
            fragments: HashMap::new(),
        };
        walk.set(root(operation.ty), &operation.selection_set.node)
            .whole()
            .max(1)
    }
}

/// Whether the page sizes of a document are written in it, so that it costs the same each time.
#[must_use]
pub fn is_fixed(document: &ExecutableDocument) -> bool {
    document
        .operations
        .iter()
        .all(|(_, operation)| operation.node.variable_definitions.is_empty())
        || !mentions_page_variable(document)
}

fn mentions_page_variable(document: &ExecutableDocument) -> bool {
    fn uses(set: &SelectionSet) -> bool {
        set.items.iter().any(|selection| match &selection.node {
            Selection::Field(field) => {
                let first = field.node.get_argument("first");
                first.is_some_and(|value| matches!(value.node, Value::Variable(_)))
                    || uses(&field.node.selection_set.node)
            }
            Selection::InlineFragment(fragment) => uses(&fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => false,
        })
    }
    let operations = document
        .operations
        .iter()
        .map(|(_, it)| &it.node.selection_set.node);
    let fragments = document.fragments.values().map(|it| &it.node.selection_set.node);
    operations.chain(fragments).any(uses)
}

/// The part that is there once, and the part that is there for each node of the page round it.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    once: u64,
    each: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.once = self.once.saturating_add(other.once);
        self.each = self.each.saturating_add(other.each);
    }

    fn on_page(self, nodes: u64) -> u64 {
        self.once.saturating_add(self.each.saturating_mul(nodes))
    }

    /// Where no page is round it.
    fn whole(self) -> u64 {
        self.on_page(USUAL)
    }
}

struct Walk<'a> {
    costs: &'a Costs,
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    variables: &'a Variables,
    fragments: HashMap<&'a Name, Cost>,
}

impl<'a> Walk<'a> {
    /// [`super::measure`] has bounded the recursion and found no fragment within itself.
    fn set(&mut self, of: &str, set: &'a SelectionSet) -> Cost {
        let mut total = Cost::default();
        for selection in &set.items {
            total.add(match &selection.node {
                Selection::Field(field) => self.field(of, &field.node),
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let on = on.map_or(of, |condition| condition.node.on.node.as_str());
                    self.set(on, &fragment.node.selection_set.node)
                }
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node),
            });
        }
        total
    }

    fn fragment(&mut self, name: &'a Name) -> Cost {
        if let Some(cost) = self.fragments.get(name) {
            return *cost;
        }
        let Some(fragment) = self.document.fragments.get(name) else {
            return Cost::default();
        };
        let on = fragment.node.type_condition.node.on.node.as_str();
        let cost = self.set(on, &fragment.node.selection_set.node);
        self.fragments.insert(name, cost);
        cost
    }

    fn field(&mut self, of: &str, field: &'a Selected) -> Cost {
        let costs = self.costs;
        let Some(known) = costs
            .types
            .get(of)
            .and_then(|it| it.get(field.name.node.as_str()))
        else {
            return Cost {
                // Names and words of the description are read from memory.
                once: u64::from(!of.starts_with("__")),
                each: 0,
            };
        };
        let inner = self.set(&known.of, &field.selection_set.node);
        let (mut once, mut each) = (0, 0);
        match known.many {
            Many::One if of.starts_with("__") => once = inner.whole(),
            Many::One => once = inner.whole().saturating_add(1),
            Many::List(length) => once = inner.whole().saturating_add(1).saturating_mul(length),
            Many::OfPage => each = inner.whole().saturating_add(1),
            Many::Page { usual } => once = inner.on_page(self.page(field, usual)).saturating_add(1),
            Many::PagedList { usual } => {
                let each = inner.whole().saturating_add(1);
                once = each.saturating_mul(self.page(field, usual)).saturating_add(1);
            }
        }
        if field.name.node.starts_with("__") {
            once = once.div_ceil(DESCRIBED).max(1);
        } else if of == root(OperationType::Mutation) {
            once = once.saturating_add(CHANGE);
        } else if of == root(OperationType::Query) && field.name.node == EXPORT.0 {
            once = once.saturating_add(EXPORT.1);
        }
        Cost { once, each }
    }

    fn page(&self, field: &Selected, usual: u64) -> u64 {
        let given = match field.get_argument("first").map(|value| &value.node) {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::Variable(name)) => match self.variables.get(name) {
                Some(value) => whole(value),
                None => self.default_of(name),
            },
            _ => None,
        };
        given.unwrap_or(usual).min(LONGEST_PAGE)
    }

    fn default_of(&self, name: &Name) -> Option<u64> {
        let definitions = &self.operation.variable_definitions;
        let definition = definitions.iter().find(|it| it.node.name.node == *name)?;
        definition
            .node
            .default_value
            .as_ref()
            .and_then(|value| whole(&value.node))
    }
}

const fn root(of: OperationType) -> &'static str {
    match of {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    }
}

fn fields_of(kind: &TypeKind) -> Option<impl Iterator<Item = &FieldDefinition>> {
    let fields = match kind {
        TypeKind::Object(object) => &object.fields,
        TypeKind::Interface(interface) => &interface.fields,
        _ => return None,
    };
    Some(fields.iter().map(|field| &field.node))
}

fn page_size(field: &FieldDefinition) -> Option<u64> {
    let first = field.arguments.iter().find(|it| it.node.name.node == "first")?;
    let usual = first
        .node
        .default_value
        .as_ref()
        .and_then(|value| whole(&value.node));
    Some(usual.unwrap_or(USUAL))
}

fn is_list(ty: &Type) -> bool {
    matches!(ty.base, BaseType::List(_))
}

fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(inner),
    }
}

fn whole(value: &ConstValue) -> Option<u64> {
    match value {
        ConstValue::Number(number) => number.as_u64(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
