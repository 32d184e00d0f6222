//! A group against a database that takes one command at a time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

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
            if let (Verdict::Answer(Ok(Appended::Repeat(a))), Verdict::Answer(Ok(Appended::Repeat(b)))) = (&alone, together) {
                // The model does not keep all of an answer.
                prop_assert_eq!((&a.fingerprint, a.position), (&b.fingerprint, b.position));
            } else {
                prop_assert_eq!(&alone, together);
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
        if all_guarded(&group) && !objected && !ahead {
            let asked = judge(&proposals(&wishes), before.facts());
            prop_assert_eq!(at_once, asked);
        }
    }
}
