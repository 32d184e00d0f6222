//! Verdicts one by one.

use super::*;
use crate::recorded::Unreadable;

mod model;

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

#[test]
fn a_claim_wished_for_twice_in_a_group_is_asked_for() {
    let first = || Wish::new("a", 0, 1).claims(&[take("x")]).alone();
    let second = |value| Wish::new("b", 0, 1).claims(&[take(value)]).alone();
    assert!(all_guarded(&[first(), second("y")]));
    // Had `b` been decided on an old state, it would be told that `x` is taken, and perhaps it need not have asked for it.
    assert!(!all_guarded(&[first(), second("x")]));
}
