//! What a group of commands may write, decided purely: facts in, verdicts out.
//!
//! The writer holds the log's lock while it asks for the facts, judges, and writes, so the facts cannot change
//! in between and the verdicts are exact: every command is written whole or not at all (L2).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use kontor_domain::{ClaimChange, ClaimKind};
use tokio::sync::oneshot;

use crate::context::IdempotencyKey;
use crate::recorded::Body;

/// Commands decided one upon the other in this process. Once one of them is not written as decided, none of
/// those behind it may be: their state never existed. A bare version check would not notice when another
/// process has meanwhile filled the gap.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    broken: AtomicBool,
    /// The version up to which its proposals are known to be written.
    written: AtomicU64,
}

impl Chain {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Everything up to this version is in the log. They are written in turn, and answered in any.
    pub(crate) fn written(&self, version: u64) {
        self.written.fetch_max(version, Ordering::AcqRel);
    }

    pub(crate) fn is_written(&self, version: u64) -> bool {
        self.written.load(Ordering::Acquire) >= version
    }
}

/// One command's wish: append these events to this stream, if it is at `expected`.
/// Without events it asks to have the version confirmed: so that a refusal, too, rests on the truth.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: String,
    pub(crate) expected: u64,
    pub(crate) chain: Arc<Chain>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) claims: Vec<ClaimChange>,
    pub(crate) key: Option<IdempotencyKey>,
    /// Whether the aggregate said no. A refusal leaves its key free; but if the key has been answered, that is the answer.
    pub(crate) refused: bool,
    pub(crate) time: DateTime<Utc>,
    pub(crate) command_id: String,
    pub(crate) metadata: String,
    pub(crate) reply: oneshot::Sender<Result<Appended, AppendError>>,
}

#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) event_type: String,
    pub(crate) event_version: String,
    pub(crate) payload: String,
    pub(crate) body: Body,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Written: position of its last event, or the head of the log if there were none.
    Written { position: u64 },
    /// The key has been answered before.
    Repeat(Answer),
}

/// What an idempotency key was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// SHA-256 of the input it was given with.
    pub fingerprint: Vec<u8>,
    /// The aggregate that took the command.
    pub aggregate_type: String,
    /// Its id.
    pub aggregate_id: String,
    /// First event of the command in its stream.
    pub first_sequence: u64,
    /// Last event; below `first_sequence` when the command changed nothing.
    pub last_sequence: u64,
    /// The position the command was answered with.
    pub position: u64,
}

/// Why a proposal was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("decided on a state that is not the newest")]
    Stale,
    #[error("{kind:?} is already taken")]
    ClaimTaken { kind: ClaimKind, holder: String },
    #[error("the idempotency key was used with another input")]
    KeyReused,
    #[error("the log cannot be written: {0}")]
    Unavailable(String),
}

/// What the database says about everything the group names.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) head: u64,
    /// Per proposal's stream; absent: 0.
    pub(crate) versions: HashMap<(&'static str, String), u64>,
    pub(crate) holders: HashMap<(ClaimKind, String), String>,
    pub(crate) answers: HashMap<String, Answer>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Write its events from this position on.
    Write { first_position: u64 },
    /// Nothing to write; the answer is ready.
    Answer(Result<Appended, AppendError>),
}

/// Judges the group in order; each verdict sees what the ones before it will write.
pub(crate) fn judge(group: &[Proposal], mut facts: Facts) -> Vec<Verdict> {
    group.iter().map(|proposal| facts.judge(proposal)).collect()
}

impl Facts {
    fn judge(&mut self, proposal: &Proposal) -> Verdict {
        match self.check(proposal) {
            Ok(None) => self.admit(proposal),
            Ok(Some(answer)) => {
                if !proposal.events.is_empty() {
                    proposal.chain.break_off();
                }
                Verdict::Answer(Ok(Appended::Repeat(answer)))
            }
            Err(error) => {
                proposal.chain.break_off();
                Verdict::Answer(Err(error))
            }
        }
    }

    fn check(&self, proposal: &Proposal) -> Result<Option<Answer>, AppendError> {
        if let Some(key) = &proposal.key
            && let Some(answer) = self.answers.get(&key.key)
        {
            return if answer.fingerprint == key.fingerprint {
                Ok(Some(answer.clone()))
            } else {
                Err(AppendError::KeyReused)
            };
        }
        let stream = (proposal.aggregate_type, proposal.aggregate_id.clone());
        if proposal.chain.is_broken() || self.versions.get(&stream).copied().unwrap_or(0) != proposal.expected
        {
            return Err(AppendError::Stale);
        }
        for change in &proposal.claims {
            if let ClaimChange::Take { kind, value } = change
                && let Some(holder) = self.holders.get(&(*kind, value.clone()))
                && *holder != proposal.aggregate_id
            {
                return Err(AppendError::ClaimTaken {
                    kind: *kind,
                    holder: holder.clone(),
                });
            }
        }
        Ok(None)
    }

    fn admit(&mut self, proposal: &Proposal) -> Verdict {
        let first_position = self.head + 1;
        self.head += proposal.events.len() as u64;
        let version = proposal.expected + proposal.events.len() as u64;
        if !proposal.events.is_empty() {
            self.versions
                .insert((proposal.aggregate_type, proposal.aggregate_id.clone()), version);
        }
        for change in &proposal.claims {
            match change {
                ClaimChange::Take { kind, value } => {
                    self.holders
                        .insert((*kind, value.clone()), proposal.aggregate_id.clone());
                }
                ClaimChange::Release { kind, value } => {
                    self.holders.remove(&(*kind, value.clone()));
                }
            }
        }
        if let Some(key) = &proposal.key
            && !proposal.refused
        {
            self.answers
                .insert(key.key.clone(), proposal.answer(key, self.head));
        } else if proposal.events.is_empty() {
            return Verdict::Answer(Ok(Appended::Written { position: self.head }));
        }
        Verdict::Write { first_position }
    }
}

impl Facts {
    /// What this process expects the facts to be, having seen the log up to `head`. Only for groups whose proposals are
    /// [all guarded](all_guarded).
    pub(crate) fn as_expected(head: u64, group: &[Proposal]) -> Self {
        let mut facts = Self {
            head,
            ..Self::default()
        };
        for proposal in group.iter().filter(|proposal| !proposal.chain.is_broken()) {
            let stream = (proposal.aggregate_type, proposal.aggregate_id.clone());
            facts.versions.entry(stream).or_insert(proposal.expected);
        }
        facts
    }
}

/// Whether everything the group expects is guarded by a unique index. A claim that two of them wish for is not: the second
/// would be refused without the index being asked, and perhaps because of a state that is not the newest.
pub(crate) fn all_guarded(group: &[Proposal]) -> bool {
    let mut wished = HashSet::new();
    group.iter().all(|proposal| {
        proposal.is_guarded()
            && proposal.claims.iter().all(|change| match change {
                ClaimChange::Take { kind, value } => wished.insert((*kind, value.as_str())),
                ClaimChange::Release { .. } => true,
            })
    })
}

impl Proposal {
    /// Whether everything it expects is guarded by a unique index: its version by that of its first event, its claims
    /// and its key by theirs. Wishes without events, and the giving back of claims, are not.
    fn is_guarded(&self) -> bool {
        !self.events.is_empty()
            && !self
                .claims
                .iter()
                .any(|change| matches!(change, ClaimChange::Release { .. }))
    }

    /// What its key is answered from now on, its last event standing at `position`.
    pub(crate) fn answer(&self, key: &IdempotencyKey, position: u64) -> Answer {
        Answer {
            fingerprint: key.fingerprint.to_vec(),
            aggregate_type: self.aggregate_type.to_owned(),
            aggregate_id: self.aggregate_id.clone(),
            first_sequence: self.expected + 1,
            last_sequence: self.expected + self.events.len() as u64,
            position,
        }
    }

    /// Where the log stands after its events, the first of which is at `first_position`.
    pub(crate) fn last_position(&self, first_position: u64) -> u64 {
        first_position + self.events.len() as u64 - 1
    }
}

#[cfg(test)]
pub(crate) mod tests;
