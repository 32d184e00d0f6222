//! From the input of a mutation to values that cannot be wrong. Every problem is collected, with its path, before anything
//! is refused.

use std::fmt::Write as _;

use async_graphql::{Context, ID, InputType, Value};
use kontor_domain::{IdError, Money, MoneyError, Personal, Quantity, Reason, TextError, TextProblem};
use kontor_eventstore::{Actor, CommandContext, IdempotencyKey};

use super::access::viewer;
use super::reads::app;
use super::scalars::MoneyInput;
use super::user_errors::{InputProblem, InvalidInput, UserError};
use crate::app::RequestInfo;

/// Where in the arguments something stands. On the stack: most inputs are right, and then no path is ever written out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a Self>,
    segment: Segment,
}

#[derive(Debug, Clone, Copy)]
enum Segment {
    Field(&'static str),
    Index(usize),
}

/// The argument that every mutation takes.
pub(crate) const INPUT: At<'static> = At {
    parent: None,
    segment: Segment::Field("input"),
};

impl At<'_> {
    /// A field below this place.
    pub(crate) const fn field(&self, name: &'static str) -> At<'_> {
        At {
            parent: Some(self),
            segment: Segment::Field(name),
        }
    }

    /// An item of the list in this place.
    pub(crate) const fn index(&self, index: usize) -> At<'_> {
        At {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }

    /// As the client is told.
    pub(crate) fn path(&self) -> Vec<String> {
        let mut path = self.parent.map(Self::path).unwrap_or_default();
        path.push(match self.segment {
            Segment::Field(name) => name.to_owned(),
            Segment::Index(index) => index.to_string(),
        });
        path
    }
}

/// Collects what is wrong with an input.
#[derive(Debug, Default)]
pub(crate) struct Check {
    problems: Vec<UserError>,
}

impl Check {
    /// What was found wrong: the refusal.
    pub(crate) fn refusal(self) -> Refusal {
        Refusal::User(self.problems)
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, problem: impl Into<UserError>) {
        self.problems.push(problem.into());
    }

    /// Whether anything is wrong so far.
    pub(crate) fn failed(&self) -> bool {
        !self.problems.is_empty()
    }

    fn value<T>(&mut self, at: At<'_>, value: Result<T, TextError>) -> Option<T> {
        value
            .map_err(|error| self.problem(InvalidInput::of_text(error.problem, at.path())))
            .ok()
    }

    /// A text, or a code.
    pub(crate) fn text<T: std::str::FromStr<Err = TextError>>(
        &mut self,
        at: At<'_>,
        text: &str,
    ) -> Option<T> {
        self.value(at, text.parse())
    }

    /// A text that may be left out; an empty one is left out too, because that is what forms send.
    ///
    /// The outer `Option` is whether it is right, the inner one whether it is there.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    pub(crate) fn optional<T: std::str::FromStr<Err = TextError>>(
        &mut self,
        at: At<'_>,
        text: Option<&str>,
    ) -> Option<Option<T>> {
        match text.filter(|text| !text.trim().is_empty()) {
            Some(text) => self.text(at, text).map(Some),
            None => Some(None),
        }
    }

    /// Why something is done to an order or an account. It is about a person, whatever it says.
    pub(crate) fn reason(&mut self, text: &str) -> Option<Personal<Reason>> {
        self.text(INPUT.field("reason"), text)
            .map(Personal::<Reason>::new)
    }

    /// A number of pieces.
    pub(crate) fn quantity(&mut self, at: At<'_>, pieces: i32) -> Option<Quantity> {
        // Below zero is as far out of bounds as zero itself.
        self.value(at, Quantity::new(u32::try_from(pieces).unwrap_or_default()))
    }

    /// An amount that must not be negative.
    pub(crate) fn amount(&mut self, at: At<'_>, amount: MoneyInput) -> Option<Money> {
        amount
            .non_negative()
            .map_err(|error| {
                let problem = match error {
                    MoneyError::Negative => InputProblem::Negative,
                    _ => InputProblem::OutOfRange,
                };
                let path = at.field("amountMinor").path();
                self.problem(InvalidInput::new(error.to_string(), path, problem, None, None));
            })
            .ok()
    }

    /// An id.
    pub(crate) fn id<I: std::str::FromStr<Err = IdError>>(&mut self, at: At<'_>, id: &ID) -> Option<I> {
        id.parse()
            .map_err(|error: IdError| {
                let problem = InputProblem::NotAnId;
                self.problem(InvalidInput::new(
                    error.to_string(),
                    at.path(),
                    problem,
                    None,
                    None,
                ));
            })
            .ok()
    }

    /// A list with a bounded number of items.
    pub(crate) fn length<T>(&mut self, at: At<'_>, list: &[T], minimum: usize, maximum: usize) {
        if !(minimum..=maximum).contains(&list.len()) {
            self.problem(InvalidInput::of_length(list.len(), minimum, maximum, at.path()));
        }
    }

    /// A new password.
    pub(crate) fn password(&mut self, at: At<'_>, password: String) -> Option<String> {
        let length = password.chars().count();
        let problem = match length {
            0..8 => TextProblem::TooShort { min: 8 },
            8..=128 => return Some(password),
            _ => TextProblem::TooLong { max: 128 },
        };
        self.problem(InvalidInput::of_text(problem, at.path()));
        None
    }

    /// What travels with the command: who sends it, when, as part of what, and that it is to happen once.
    ///
    /// `mutation` and `input`, without the key itself and without passwords, are what a second use of the key must equal.
    pub(crate) fn context(
        &mut self,
        ctx: &Context<'_>,
        mutation: &str,
        input: &impl InputType,
        key: &str,
    ) -> Option<CommandContext> {
        const LONGEST: usize = 200;
        let at = INPUT.field("idempotencyKey");
        let problem = if key.is_empty() {
            TextProblem::Empty
        } else if key.chars().count() > LONGEST {
            TextProblem::TooLong { max: LONGEST }
        } else if key.chars().any(char::is_control) {
            TextProblem::ForbiddenCharacter
        } else {
            let actor = viewer(ctx).map_or(Actor::Anonymous, |viewer| Actor::User(viewer.user_id));
            let key = IdempotencyKey::new(&actor, key, canonical(mutation, input).as_bytes());
            return Some(command_context(ctx, actor).once(key));
        };
        self.problem(InvalidInput::of_text(problem, at.path()));
        None
    }
}

pub(crate) fn command_context(ctx: &Context<'_>, actor: Actor) -> CommandContext {
    let app = app(ctx);
    let mut context = CommandContext::new(app.store.ids().next().to_string(), actor, app.clock.now());
    if let Some(info) = ctx.data_opt::<RequestInfo>() {
        context = context.asked_by(info.origin());
        context.traceparent.clone_from(&info.traceparent);
    }
    context
}

/// Why a mutation does nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// For a reason that belongs in the payload.
    User(Vec<UserError>),
    /// For one that does not.
    Top(async_graphql::Error),
}

impl From<async_graphql::Error> for Refusal {
    fn from(error: async_graphql::Error) -> Self {
        Self::Top(error)
    }
}

/// A refusal for one reason.
pub(crate) fn refuse(error: impl Into<UserError>) -> Refusal {
    Refusal::User(vec![error.into()])
}

/// Fields that do not belong to what was asked, or must not be hashed: a fast hash of a password can be guessed.
const LEFT_OUT: [&str; 4] = ["idempotencyKey", "password", "currentPassword", "newPassword"];

/// The mutation's name and its input as JSON with sorted keys. Fields that are null count as left out, so that an optional
/// field added later changes no fingerprint.
fn canonical(mutation: &str, input: &impl InputType) -> String {
    let mut text = format!("{mutation} ");
    write_canonical(&mut text, &input.to_value());
    text
}

fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .filter(|(name, value)| !LEFT_OUT.contains(&name.as_str()) && **value != Value::Null)
                .collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                // Writing to a string cannot fail; names are GraphQL names and need no escapes.
                let _ = write!(text, "{comma}\"{name}\":");
                write_canonical(text, value);
            }
            text.push('}');
        }
        Value::List(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(text, item);
            }
            text.push(']');
        }
        // As below, and quicker: most texts have nothing to escape.
        Value::String(plain) if !plain.chars().any(|c| c == '"' || c == '\\' || c.is_control()) => {
            text.push('"');
            text.push_str(plain);
            text.push('"');
        }
        // Scalars: `Display` writes them as GraphQL and JSON both do.
        scalar => {
            let _ = write!(text, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::InputObject;

    use super::*;

    #[derive(InputObject)]
    struct Sample {
        zebra: String,
        idempotency_key: String,
        new_password: String,
        note: Option<String>,
        ants: Vec<i32>,
    }

    fn sample(key: &str, note: Option<&str>) -> Sample {
        Sample {
            zebra: "a \"quoted\" one".to_owned(),
            idempotency_key: key.to_owned(),
            new_password: "secret".to_owned(),
            note: note.map(str::to_owned),
            ants: vec![1, 2],
        }
    }

    #[test]
    fn the_fingerprint_is_of_what_was_asked() {
        let canonical_one = canonical("test", &sample("k1", None));
        assert_eq!(canonical_one, r#"test {"ants":[1,2],"zebra":"a \"quoted\" one"}"#);
        assert_eq!(canonical_one, canonical("test", &sample("k2", None)));
        assert_ne!(canonical_one, canonical("test", &sample("k1", Some(""))));
        assert_ne!(canonical_one, canonical("other", &sample("k1", None)));
    }

    #[test]
    fn a_path_goes_from_the_outside_in() {
        let items = INPUT.field("items");
        let item = items.index(3);
        assert_eq!(item.field("quantity").path(), ["input", "items", "3", "quantity"]);
    }

    #[test]
    fn every_problem_is_told() {
        let mut check = Check::default();
        let quantity = check.quantity(INPUT.field("quantity"), -1);
        let id: Option<kontor_domain::ProductId> = check.id(INPUT.field("productId"), &ID::from("ord_1"));
        assert!(quantity.is_none() && id.is_none());
        assert_eq!(check.problems.len(), 2);
    }

    #[test]
    fn an_empty_optional_text_is_left_out() {
        let mut check = Check::default();
        let phone: Option<Option<kontor_domain::Phone>> = check.optional(INPUT.field("phone"), Some(" "));
        assert_eq!(phone, Some(None));
        assert!(!check.failed());
    }
}
