//! Groups in turns, while a shop is busy: one is on its way to the disk, and the next is written meanwhile.
//!
//! The next one's transaction is on a connection of its own and ends only when the first one is known to be committed: with it,
//! or not at all. So positions are committed in order, as ever (`docs/decisions/021-groups-in-turns.md`).

use std::time::Instant;

use tokio::sync::mpsc;

use super::{GROUP_LIMIT, Pen, Writer};
use crate::group::{Facts, Proposal, Verdict, all_guarded, judge};
use crate::statements::Columns;

/// Commands that must wait for groups to take turns. A group by itself is one round trip instead of three.
const BUSY: usize = 16;

/// A group that is written and not committed: nobody sees it.
struct Open {
    group: Vec<Proposal>,
    verdicts: Vec<Verdict>,
    /// The head of the log once it is committed.
    head: u64,
    begun: Instant,
}

/// What has become of the commands behind an open group.
enum Behind {
    Open(Open),
    Waiting(Vec<Proposal>),
    Failed(Vec<Proposal>, sqlx::Error),
}

impl Writer {
    /// Whether to begin to take turns with this group: there is much to do, nobody else writes, and nothing must be asked.
    pub(super) fn is_busy(&self, group: &[Proposal]) -> bool {
        self.careful == 0 && group.len() >= BUSY && all_guarded(group)
    }

    /// Writes this group, and those that gather meanwhile, until few do or one must be settled otherwise.
    pub(super) async fn relay(&mut self, group: Vec<Proposal>, receiver: &mut mpsc::Receiver<Proposal>) {
        let mut open = match write(&mut self.pen, group, self.head).await {
            Behind::Open(open) => open,
            Behind::Waiting(group) => return self.settle(group, None).await,
            Behind::Failed(group, error) => return self.settle(group, Some(error)).await,
        };
        loop {
            let next = take(receiver).await;
            let (committed, behind) =
                tokio::join!(self.pen.commit(), write(&mut self.spare, next, open.head));
            if let Err(error) = committed {
                // It may be there all the same. What was written behind it is not, and is decided upon afresh.
                self.spare.roll_back().await;
                self.settle(open.group, Some(error)).await;
                let (Behind::Open(Open { group, .. }) | Behind::Waiting(group) | Behind::Failed(group, _)) =
                    behind;
                return self.settle(group, None).await;
            }
            self.head = open.head;
            self.answer(open.group, open.verdicts, open.begun);
            match behind {
                Behind::Open(next) => {
                    std::mem::swap(&mut self.pen, &mut self.spare);
                    open = next;
                }
                Behind::Waiting(group) => return self.settle(group, None).await,
                Behind::Failed(group, error) => return self.settle(group, Some(error)).await,
            }
        }
    }
}

/// Those who wait, if there are enough of them. Nobody is waited for.
async fn take(receiver: &mut mpsc::Receiver<Proposal>) -> Vec<Proposal> {
    let mut group = Vec::new();
    if receiver.len() >= BUSY {
        receiver.recv_many(&mut group, GROUP_LIMIT).await;
    }
    group
}

/// Writes a group behind that head in a transaction that stays open. One that failed is closed.
async fn write(pen: &mut Pen, group: Vec<Proposal>, head: u64) -> Behind {
    if group.is_empty() || !all_guarded(&group) {
        return Behind::Waiting(group);
    }
    let begun = Instant::now();
    let verdicts = judge(&group, Facts::as_expected(head, &group));
    let columns = Columns::of(&group, &verdicts);
    let head = columns.head().unwrap_or(head);
    let written = async { columns.insert(pen.begin().await?).await }.await;
    match written {
        Ok(()) => Behind::Open(Open {
            group,
            verdicts,
            head,
            begun,
        }),
        Err(error) => {
            pen.roll_back().await;
            Behind::Failed(group, error)
        }
    }
}
