//! Verdicts one by one, and against a database that takes one command at a time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::recorded::Unreadable;

/// What a command asks for; the rest of a proposal does not matter here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) stream: String,
    pub(crate) expected: u64,
    pub(crate) events: u64,
    pub(crate) claims: Vec<ClaimChange>,
    pub(crate) key: Option<(&'static str, u8)>,
    pub(crate) refused: bool,
}

impl Wish {
    pub(crate) fn new(stream: &str, expected: u64, events: u64) -> Self {
        Self {
            stream: stream.to_owned(),
            expected,
            events,
            ..Self::default()
        }
    }

    fn claims(mut self, claims: &[ClaimChange]) -> Self {
        self.claims = claims.to_vec();
        self
    }

    fn key(mut self, key: &'static str, fingerprint: u8) -> Self {
        self.key = Some((key, fingerprint));
        self
    }

    fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    /// Alone in its chain.
    pub(crate) fn alone(self) -> Proposal {
        self.on(&Arc::default())
    }

    pub(crate) fn on(self, chain: &Arc<Chain>) -> Proposal {
        let unreadable = || {
            Body::Unreadable(Box::new(Unreadable {
                aggregate_type: "order".to_owned(),
                aggregate_id: self.stream.clone(),
                event_type: "Tested".to_owned(),
                error: "made up".to_owned(),
            }))
        };
        let event = |n| NewEvent {
            event_type: "Tested".to_owned(),
            event_version: "1".to_owned(),
            payload: format!("{{\"Tested\":{n}}}"),
            body: unreadable(),
        };
        Proposal {
            aggregate_type: "order",
            events: (1..=self.events).map(event).collect(),
            aggregate_id: self.stream,
            expected: self.expected,
            chain: Arc::clone(chain),
            claims: self.claims,
            key: self.key.map(|(key, input)| IdempotencyKey {
                key: key.to_owned(),
                fingerprint: [input; 32],
            }),
            refused: self.refused,
            time: DateTime::UNIX_EPOCH,
            command_id: "command".to_owned(),
            metadata: "{}".to_owned(),
            reply: oneshot::channel().0,
        }
    }
}

pub(crate) fn take(value: &str) -> ClaimChange {
    ClaimChange::Take {
        kind: ClaimKind::Email,
        value: value.to_owned(),
    }
}

pub(crate) fn release(value: &str) -> ClaimChange {
    ClaimChange::Release {
        kind: ClaimKind::Email,
        value: value.to_owned(),
    }
}

fn facts(head: u64, versions: &[(&str, u64)]) -> Facts {
    let versions = versions
        .iter()
        .map(|(id, version)| (("order", (*id).to_owned()), *version))
        .collect();
    Facts {
        head,
        versions,
        ..Facts::default()
    }
}

const STALE: Verdict = Verdict::Answer(Err(AppendError::Stale));

fn write(first_position: u64) -> Verdict {
    Verdict::Write { first_position }
}

fn written(position: u64) -> Verdict {
    Verdict::Answer(Ok(Appended::Written { position }))
}

fn taken(holder: &str) -> Verdict {
    Verdict::Answer(Err(AppendError::ClaimTaken {
        kind: ClaimKind::Email,
        holder: holder.to_owned(),
    }))
}

#[test]
fn a_stale_command_of_several_events_writes_none_of_them_and_fails_alone() {
    // It would write 2, 3, 4 of a stream that has 1 and 2: ON CONFLICT DO NOTHING would store 3 and 4.
    let group = [
        Wish::new("a", 0, 2).alone(),
        Wish::new("b", 1, 3).alone(),
        Wish::new("c", 7, 1).alone(),
    ];
    let verdicts = judge(&group, facts(10, &[("b", 2), ("c", 7)]));
    assert_eq!(verdicts, [write(11), STALE, write(13)]);
}

#[test]
fn a_command_ahead_of_its_stream_is_as_stale_as_one_behind() {
    let group = [Wish::new("a", 3, 1).alone(), Wish::new("nobody", 1, 1).alone()];
    assert_eq!(judge(&group, facts(10, &[("a", 2)])), [STALE, STALE]);
}

#[test]
fn what_was_decided_on_something_that_was_not_written_fails_even_where_its_version_fits() {
    let chain = Arc::default();
    // Decided as 6 and 7 of the stream; meanwhile somebody else has written another 6.
    let group = [
        Wish::new("a", 5, 1).on(&chain),
        Wish::new("a", 6, 1).on(&chain),
        Wish::new("b", 0, 1).alone(),
    ];
    assert_eq!(judge(&group, facts(10, &[("a", 6)])), [STALE, STALE, write(11)]);
    // Nor does it in a later group.
    assert_eq!(
        judge(&[Wish::new("a", 6, 1).on(&chain)], facts(11, &[("a", 6)])),
        [STALE]
    );
    // Who decides afresh may.
    assert_eq!(
        judge(&[Wish::new("a", 6, 1).alone()], facts(11, &[("a", 6)])),
        [write(12)]
    );
}

#[test]
fn a_taken_claim_breaks_the_chain_and_so_does_a_reused_key() {
    for first in [
        Wish::new("a", 0, 1).claims(&[take("x")]),
        Wish::new("a", 0, 1).key("k", 2),
    ] {
        let chain = Arc::default();
        let mut facts = facts(10, &[]);
        facts
            .holders
            .insert((ClaimKind::Email, "x".to_owned()), "b".to_owned());
        facts.answers.insert("k".to_owned(), answer(1));
        let verdicts = judge(&[first.on(&chain), Wish::new("a", 0, 0).on(&chain)], facts);
        assert!(matches!(
            verdicts[0],
            Verdict::Answer(Err(AppendError::ClaimTaken { .. } | AppendError::KeyReused))
        ));
        assert_eq!(verdicts[1], STALE);
    }
}

fn answer(fingerprint: u8) -> Answer {
    Answer {
        fingerprint: vec![fingerprint; 32],
        aggregate_type: "order".to_owned(),
        aggregate_id: "first".to_owned(),
        first_sequence: 1,
        last_sequence: 1,
        position: 3,
    }
}

#[test]
fn a_repeat_is_answered_as_the_first_time_and_breaks_the_chain_if_it_had_changed_anything() {
    let repeat = Verdict::Answer(Ok(Appended::Repeat(answer(1))));
    let facts = || {
        let mut facts = facts(10, &[("a", 1)]);
        facts.answers.insert("k".to_owned(), answer(1));
        facts
    };
    let chain = Arc::default();
    // Also on a version that is not the newest: it is not about now.
    let group = [
        Wish::new("a", 0, 1).key("k", 1).on(&chain),
        Wish::new("a", 1, 1).on(&chain),
    ];
    assert_eq!(judge(&group, facts()), [repeat, STALE]);

    let repeat = Verdict::Answer(Ok(Appended::Repeat(answer(1))));
    let chain = Arc::default();
    let group = [
        Wish::new("a", 1, 0).key("k", 1).on(&chain),
        Wish::new("a", 1, 1).on(&chain),
    ];
    assert_eq!(judge(&group, facts()), [repeat, write(11)]);
}

#[test]
fn of_one_key_twice_in_a_group_the_second_is_told_of_the_first() {
    let group = [
        Wish::new("first", 0, 2).key("k", 1).alone(),
        Wish::new("second", 0, 1).key("k", 1).alone(),
        Wish::new("third", 0, 1).key("k", 2).alone(),
        Wish::new("first", 2, 0).key("k", 1).refused().alone(),
    ];
    let verdicts = judge(&group, facts(10, &[]));
    assert_eq!(verdicts[0], write(11));
    let told = Answer {
        last_sequence: 2,
        position: 12,
        ..answer(1)
    };
    assert_eq!(verdicts[1], Verdict::Answer(Ok(Appended::Repeat(told.clone()))));
    assert_eq!(verdicts[2], Verdict::Answer(Err(AppendError::KeyReused)));
    assert_eq!(
        verdicts[3],
        Verdict::Answer(Ok(Appended::Repeat(told))),
        "also where it is refused now"
    );
}

#[test]
fn a_refusal_is_confirmed_and_leaves_its_key_free() {
    let group = [
        Wish::new("a", 1, 0).key("k", 1).refused().alone(),
        Wish::new("a", 0, 0).refused().alone(),
        Wish::new("a", 1, 1).key("k", 2).alone(),
        Wish::new("a", 2, 0).refused().alone(),
    ];
    let verdicts = judge(&group, facts(10, &[("a", 1)]));
    assert_eq!(verdicts, [written(10), STALE, write(11), written(11)]);
}

#[test]
fn nothing_to_do_is_answered_with_the_head_and_remembered_under_its_key() {
    let group = [
        Wish::new("a", 0, 2).alone(),
        Wish::new("a", 2, 0).alone(),
        Wish::new("a", 2, 0).key("k", 1).alone(),
        Wish::new("a", 2, 0).key("k", 1).alone(),
    ];
    let verdicts = judge(&group, facts(10, &[]));
    assert_eq!(verdicts[..2], [write(11), written(12)]);
    assert_eq!(
        verdicts[2],
        write(13),
        "its answer is written, at the place of the next event"
    );
    assert_eq!(group[2].last_position(13), 12);
    let told = Answer {
        aggregate_id: "a".to_owned(),
        first_sequence: 3,
        last_sequence: 2,
        position: 12,
        ..answer(1)
    };
    assert_eq!(verdicts[3], Verdict::Answer(Ok(Appended::Repeat(told))));
}

#[test]
fn claims_change_hands_in_the_order_of_the_group() {
    let mut known = facts(10, &[("a", 1)]);
    known
        .holders
        .insert((ClaimKind::Email, "x".to_owned()), "a".to_owned());
    let group = [
        Wish::new("early", 0, 1).claims(&[take("x")]).alone(),
        Wish::new("a", 1, 1).claims(&[release("x"), take("y")]).alone(),
        Wish::new("b", 0, 1).claims(&[take("x")]).alone(),
        Wish::new("c", 0, 1).claims(&[take("x")]).alone(),
        Wish::new("d", 0, 1).claims(&[take("y")]).alone(),
        Wish::new("a", 2, 1).claims(&[take("y")]).alone(),
    ];
    let verdicts = judge(&group, known);
    assert_eq!(
        verdicts,
        [
            taken("a"),
            write(11),
            write(12),
            taken("b"),
            taken("a"),
            write(13)
        ]
    );
}

/// A database that takes commands one at a time, with unique indexes where Postgres has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    head: u64,
    versions: BTreeMap<String, u64>,
    holders: BTreeMap<String, String>,
    answers: BTreeMap<String, (Vec<u8>, u64)>,
}

impl Model {
    /// What the writer asks for, about everything.
    fn facts(&self) -> Facts {
        let holders = self
            .holders
            .iter()
            .map(|(value, holder)| ((ClaimKind::Email, value.clone()), holder.clone()));
        let answers = self.answers.iter().map(|(key, (fingerprint, position))| {
            (
                key.clone(),
                Answer {
                    fingerprint: fingerprint.clone(),
                    position: *position,
                    ..answer(0)
                },
            )
        });
        Facts {
            head: self.head,
            versions: self
                .versions
                .iter()
                .map(|(id, version)| (("order", id.clone()), *version))
                .collect(),
            holders: holders.collect(),
            answers: answers.collect(),
        }
    }

    /// Writes one command whole; false if a unique index forbids it.
    fn write(&mut self, proposal: &Proposal, first_position: u64) -> bool {
        let version = self.versions.get(&proposal.aggregate_id).copied().unwrap_or(0);
        let events = proposal.events.len() as u64;
        if events > 0 && (proposal.expected != version || first_position != self.head + 1) {
            return false;
        }
        for change in &proposal.claims {
            match change {
                ClaimChange::Release { value, .. } => drop(self.holders.remove(value)),
                ClaimChange::Take { value, .. } => {
                    let held = self.holders.insert(value.clone(), proposal.aggregate_id.clone());
                    if held.is_some_and(|holder| holder != proposal.aggregate_id) {
                        return false;
                    }
                }
            }
        }
        if events > 0 {
            self.head += events;
            self.versions
                .insert(proposal.aggregate_id.clone(), version + events);
        }
        if let Some(key) = &proposal.key {
            let answer = (key.fingerprint.to_vec(), proposal.last_position(first_position));
            return self.answers.insert(key.key.clone(), answer).is_none();
        }
        true
    }
}

/// Wishes with the number of their chain: by few, about little, so that they meet.
fn wishes() -> impl Strategy<Value = Vec<(usize, Wish)>> {
    let claims = prop::collection::vec(
        (any::<bool>(), 0..3_u8).prop_map(|(takes, n)| {
            if takes {
                take(&n.to_string())
            } else {
                release(&n.to_string())
            }
        }),
        0..2,
    );
    let key = prop::option::weighted(0.3, (prop::sample::select(vec!["k", "l", "m"]), 0..2_u8));
    let wish = (0..3_u8, 0..5_u64, 0..4_u64, claims, key, any::<bool>()).prop_map(
        |(n, expected, events, claims, key, refused)| {
            // Only what changes something can claim, and only what does not can have been refused.
            let claims = if events == 0 { Vec::new() } else { claims };
            Wish {
                stream: n.to_string(),
                expected,
                events,
                claims,
                key,
                refused: refused && events == 0,
            }
        },
    );
    // One chain is about one stream: three each.
    prop::collection::vec((0..3_usize, wish), 0..12).prop_map(|wishes| {
        wishes
            .into_iter()
            .map(|(n, wish)| (wish.stream.parse::<usize>().unwrap_or(0) * 3 + n, wish))
            .collect()
    })
}

fn model() -> impl Strategy<Value = Model> {
    prop::collection::vec(0..5_u64, 3).prop_map(|versions| Model {
        head: versions.iter().sum(),
        versions: versions
            .into_iter()
            .enumerate()
            .map(|(n, version)| (n.to_string(), version))
            .filter(|(_, v)| *v > 0)
            .collect(),
        ..Model::default()
    })
}

fn proposals(wishes: &[(usize, Wish)]) -> Vec<Proposal> {
    let chains: Vec<Arc<Chain>> = (0..9).map(|_| Arc::default()).collect();
    wishes
        .iter()
        .map(|(chain, wish)| wish.clone().on(&chains[*chain]))
        .collect()
}

proptest! {
    /// A group is judged as if each of its commands had a transaction of its own.
    #[test]
    fn a_group_comes_to_what_its_commands_come_to_one_by_one(before in model(), wishes in wishes()) {
        let verdicts = judge(&proposals(&wishes), before.facts());

        let mut one_by_one = before.clone();
        for (proposal, together) in proposals(&wishes).into_iter().zip(&verdicts) {
            let group = [proposal];
            let alone = judge(&group, one_by_one.facts()).remove(0);
            match (&alone, together) {
                // The model does not keep all of an answer.
                (Verdict::Answer(Ok(Appended::Repeat(a))), Verdict::Answer(Ok(Appended::Repeat(b)))) => {
                    prop_assert_eq!((&a.fingerprint, a.position), (&b.fingerprint, b.position));
                }
                _ => prop_assert_eq!(&alone, together),
            }
            if let Verdict::Write { first_position } = alone {
                prop_assert!(one_by_one.write(&group[0], first_position), "what may be written can be");
            }
        }
        // And written together, with the verdicts of the group, it is the same.
        let mut together = before;
        for (proposal, verdict) in proposals(&wishes).iter().zip(&verdicts) {
            if let Verdict::Write { first_position } = verdict {
                prop_assert!(together.write(proposal, *first_position));
            }
        }
        prop_assert_eq!(together, one_by_one);
    }

    /// Written at once, on expectations: either a unique index objects, or it is what asking first would have given.
    #[test]
    fn what_no_unique_index_objects_to_is_what_asking_first_gives(before in model(), wishes in wishes()) {
        let wishes: Vec<_> = wishes.into_iter().filter(|(_, wish)| wish.clone().alone().is_guarded()).collect();
        // Streams only grow, so nobody expects more than there is, or has been decided on what is still to be written.
        let group = proposals(&wishes);
        let at_once = judge(&group, Facts::as_expected(before.head, &group));
        let mut after = before.clone();
        let objected = group.iter().zip(&at_once).any(|(proposal, verdict)| match verdict {
            Verdict::Write { first_position } => !after.write(proposal, *first_position),
            Verdict::Answer(_) => false,
        });
        let ahead = wishes.iter().any(|(_, wish)| wish.expected > before.versions.get(&wish.stream).copied().unwrap_or(0));
        if !objected && !ahead {
            let asked = judge(&proposals(&wishes), before.facts());
            prop_assert_eq!(at_once, asked);
        }
    }
}
