//! How large a document is once every spread is replaced by what it stands for, without replacing anything.

use std::collections::HashMap;

use async_graphql::parser::types::{
    Directive, ExecutableDocument, FragmentDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned};
use async_graphql_value::Value;

use super::{Limits, Refusal, within};

/// The size of a selection set. Sums saturate: what has reached the end of the scale is beyond every limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    nodes: u64,
    aliases: u64,
    directives: u64,
    /// Fields at its own level.
    roots: u64,
    depth: u64,
    nesting: u64,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.roots = self.roots.saturating_add(other.roots);
        self.depth = self.depth.max(other.depth);
        self.nesting = self.nesting.max(other.nesting);
    }

    fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        within("fields inside one another", self.depth, limits.depth)?;
        within(
            "fields and fragments inside one another",
            self.nesting,
            limits.nesting,
        )?;
        within("aliases", self.aliases, limits.aliases)?;
        within("directives", self.directives, limits.directives)?;
        within(
            "nodes, with fragments where they are spread",
            self.nodes,
            limits.nodes,
        )
    }
}

pub(super) fn check(document: &ExecutableDocument, limits: &Limits) -> Result<(), Refusal> {
    Meter::new(document, limits).document(document)
}

/// What is known of a fragment.
enum Known {
    /// It is being measured: whoever meets it now is inside it.
    Underway,
    Measured(Size),
}

pub(super) struct Meter<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    known: HashMap<&'a str, Known>,
    limits: &'a Limits,
    /// Selections looked at, for the test that says each is looked at once.
    pub(super) steps: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(document: &'a ExecutableDocument, limits: &'a Limits) -> Self {
        Self {
            fragments: &document.fragments,
            known: HashMap::with_capacity(document.fragments.len()),
            limits,
            steps: 0,
        }
    }

    /// Validation walks every operation and every fragment, so their sizes add up, whichever operation is executed.
    pub(super) fn document(&mut self, document: &'a ExecutableDocument) -> Result<(), Refusal> {
        let mut total = Size::default();
        for (_, operation) in document.operations.iter() {
            let mut size = self.set(&operation.node.selection_set.node, 0)?;
            directives(&operation.node.directives, &mut size);
            for variable in &operation.node.variable_definitions {
                size.nodes = size.nodes.saturating_add(1);
                directives(&variable.node.directives, &mut size);
            }
            within("fields at the root", size.roots, self.limits.root_fields)?;
            total.add(size);
        }
        for name in self.fragments.keys() {
            let size = self.fragment(name, 0)?;
            // These two cost where they are executed, not where they stand.
            total.add(Size {
                aliases: 0,
                directives: 0,
                ..size
            });
        }
        total.check(self.limits)
    }

    /// `level` bounds the recursion, whatever the document.
    fn set(&mut self, set: &'a SelectionSet, level: u64) -> Result<Size, Refusal> {
        within(
            "fields and fragments inside one another",
            level,
            self.limits.nesting,
        )?;
        let mut total = Size::default();
        for selection in &set.items {
            self.steps += 1;
            let mut size = match &selection.node {
                Selection::Field(field) => {
                    let inner = self.set(&field.node.selection_set.node, level + 1)?;
                    let arguments = field.node.arguments.iter().map(|(_, value)| nodes(&value.node));
                    Size {
                        nodes: arguments.fold(inner.nodes, u64::saturating_add),
                        aliases: inner
                            .aliases
                            .saturating_add(u64::from(field.node.alias.is_some())),
                        directives: inner.directives,
                        roots: 1,
                        depth: inner.depth.saturating_add(1),
                        nesting: inner.nesting,
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.set(&fragment.node.selection_set.node, level + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, level + 1)?
                }
            };
            size.nodes = size.nodes.saturating_add(1);
            size.nesting = size.nesting.saturating_add(1);
            directives(selection.node.directives(), &mut size);
            total.add(size);
        }
        Ok(total)
    }

    fn fragment(&mut self, name: &'a Name, level: u64) -> Result<Size, Refusal> {
        match self.known.get(name.as_str()) {
            Some(Known::Measured(size)) => return Ok(*size),
            Some(Known::Underway) => {
                return Err(Refusal::Cycle {
                    fragment: name.to_string(),
                });
            }
            None => {}
        }
        // One that is not there is for validation to name.
        let Some(fragment) = self.fragments.get(name) else {
            return Ok(Size::default());
        };
        self.known.insert(name, Known::Underway);
        let mut size = self.set(&fragment.node.selection_set.node, level)?;
        directives(&fragment.node.directives, &mut size);
        self.known.insert(name, Known::Measured(size));
        Ok(size)
    }
}

fn directives(directives: &[Positioned<Directive>], size: &mut Size) {
    for directive in directives {
        size.directives = size.directives.saturating_add(1);
        let arguments = directive
            .node
            .arguments
            .iter()
            .map(|(_, value)| nodes(&value.node));
        size.nodes = arguments.fold(size.nodes.saturating_add(1), u64::saturating_add);
    }
}

/// The bracket limit bounds the recursion.
fn nodes(value: &Value) -> u64 {
    match value {
        Value::List(items) => items.iter().map(nodes).fold(1, u64::saturating_add),
        Value::Object(fields) => fields.values().map(nodes).fold(1, u64::saturating_add),
        _ => 1,
    }
}
