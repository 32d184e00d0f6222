//! What a document may cost, decided before anything walks it.
//!
//! async-graphql 7 walks every fragment spread again, also in validation: one kilobyte of fragments that each spread the
//! next one twice is some 2^31 steps. Here each fragment is measured once. Three gates, each cheap enough for what it
//! stands in front of: the length, in front of everything; tokens and brackets, in front of the recursive parser;
//! the measured size, in front of validation.

pub mod cost;
pub mod inputs;
mod measure;
mod tokens;

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

/// Bounds on one request. Every bound is inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an HTTP body or a socket message.
    pub body_bytes: usize,
    /// Bytes of a document.
    pub document_bytes: usize,
    /// Lexical tokens of a document.
    pub tokens: u64,
    /// Brackets of any kind open at once; also fields, inline fragments and fragment spreads inside one another.
    /// async-graphql refuses 33 by itself, with an error that has no code.
    pub nesting: u64,
    /// Fields inside one another.
    pub depth: u64,
    /// Fields with an alias.
    pub aliases: u64,
    /// Fields at the root of an operation.
    pub root_fields: u64,
    /// Directives.
    pub directives: u64,
    /// Selections, arguments, values inside arguments and directives, with every spread counted as what it stands for.
    pub nodes: u64,
    /// Fields that an operation may be answered with, pages multiplied in; see [`cost`]. At `u64::MAX` nobody counts.
    pub complexity: u64,
    /// Operations that one socket may have going.
    pub operations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            document_bytes: 64 * 1024,
            tokens: 5_000,
            nesting: 30,
            depth: 20,
            aliases: 100,
            root_fields: 30,
            directives: 100,
            nodes: 5_000,
            complexity: 13_000,
            operations: 100,
        }
    }
}

/// Why a document is not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`Limits`] allow.
    #[error("the document is too large: {what}, at most {limit} allowed")]
    Limit {
        /// Which limit, in plain words.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// A fragment that contains itself.
    #[error("the fragment `{fragment}` spreads itself")]
    Cycle {
        /// Its name.
        fragment: String,
    },
    /// A `"""` that nothing closes. What follows it would be read one way here and another way by the parser.
    #[error("a block string is not closed")]
    OpenBlockString,
}

/// Refuses what is too large to be parsed.
///
/// # Errors
/// See [`Refusal`].
pub fn before_parsing(text: &str, limits: &Limits) -> Result<(), Refusal> {
    within(
        "its length in bytes",
        text.len() as u64,
        limits.document_bytes as u64,
    )?;
    tokens::check(text, limits)
}

/// Refuses what is too large to be validated.
///
/// # Errors
/// See [`Refusal`].
pub fn before_validation(document: &ExecutableDocument, limits: &Limits) -> Result<(), Refusal> {
    measure::check(document, limits)
}

/// Whether any selection asks what the schema looks like.
#[must_use]
pub fn asks_for_the_schema(document: &ExecutableDocument) -> bool {
    fn asks(set: &SelectionSet) -> bool {
        set.items.iter().any(|selection| match &selection.node {
            Selection::Field(field) => {
                matches!(field.node.name.node.as_str(), "__schema" | "__type")
                    || asks(&field.node.selection_set.node)
            }
            Selection::InlineFragment(fragment) => asks(&fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => false,
        })
    }
    let operations = document
        .operations
        .iter()
        .map(|(_, it)| &it.node.selection_set.node);
    let fragments = document.fragments.values().map(|it| &it.node.selection_set.node);
    operations.chain(fragments).any(asks)
}

fn within(what: &'static str, count: u64, limit: u64) -> Result<(), Refusal> {
    if count > limit {
        return Err(Refusal::Limit { what, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
