//! One execution for everybody who asks the same.
//!
//! A thousand people who watch one product send the same document with the same variables, and each event would be resolved a
//! thousand times over, to the same answer. The first of them has an execution of their own. From the second on there is a
//! common one beside: each new one starts with their own, which checks what they may and catches up with what they missed,
//! and goes over to the common one as soon as that has told something which their own has told, too. From there on the two
//! say the same, so nothing is missed or said twice. Whoever is too slow for the common one goes back to their own, which
//! reads what was missed from the log.
//!
//! Nobody hears what was resolved for somebody else: the same are those who are the same session, or nobody. What comes with
//! an error is not passed on; everybody meets their own.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{Response, Value};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::broadcast::{Receiver, Sender, WeakSender, error::TryRecvError};

use crate::auth::Viewer;
use crate::documents::Prepared;
use crate::metrics::CommonExecution;

/// Answers kept for a subscriber that is busy. One that falls further behind goes back to their own execution.
const BUFFER: usize = 16;

/// Where the resolver of a subscription writes down the position of the update it hands out. In every subscription's data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<AtomicU64>);

impl Place {
    /// What is resolved next is the update at `position`.
    pub(crate) fn set(&self, position: u64) {
        self.0.store(position, Ordering::Relaxed);
    }

    /// The position of what was just resolved, if it was an update.
    fn take(&self) -> Option<u64> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|position| *position > 0)
    }
}

/// An operation's responses, and where it says which update each is.
pub(crate) struct Execution {
    pub(crate) responses: BoxStream<'static, Response>,
    pub(crate) place: Place,
}

/// All that the answers to a subscription depend on, besides what happens.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Parsed once, so the same one is the same text.
    pub(crate) document: Arc<Prepared>,
    /// Which of its operations.
    pub(crate) operation: Option<String>,
    /// As JSON.
    pub(crate) variables: String,
    pub(crate) viewer: Option<Viewer>,
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.document, &other.document)
            && self.operation == other.operation
            && self.variables == other.variables
            && self.viewer == other.viewer
    }
}

impl Eq for Asked {}

impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.document).hash(state);
        self.variables.hash(state);
        self.viewer.as_ref().map(|viewer| viewer.session).hash(state);
    }
}

/// Who asks what. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Multiplexer(Arc<Mutex<Groups>>);

type Groups = HashMap<Arc<Asked>, Group>;

/// Those who ask the same.
#[derive(Debug, Default)]
struct Group {
    members: usize,
    /// Of the common execution, which ends when nobody listens to it.
    common: Option<WeakSender<Arc<Told>>>,
}

/// What the common execution said.
#[derive(Debug)]
struct Told {
    position: u64,
    data: Value,
}

impl Multiplexer {
    /// The responses to one who asks, whose own execution is `own`. `again` makes another one, for all.
    pub(crate) fn follow(
        &self,
        asked: Asked,
        own: Execution,
        again: impl FnOnce() -> Execution,
    ) -> BoxStream<'static, Response> {
        let (member, common) = self.join(asked, again);
        let Execution {
            responses: mut own,
            place,
        } = own;
        Box::pin(async_stream::stream! {
            let _member = member;
            let mut common = common;
            // The last update that was handed out.
            let mut reached = 0;
            loop {
                loop {
                    let Some(response) = own.next().await else { return };
                    match place.take() {
                        // The common execution has told of it.
                        Some(position) if position <= reached => {}
                        Some(position) => {
                            reached = position;
                            yield response;
                        }
                        None => yield response,
                    }
                    if common.as_mut().is_some_and(|common| common.covers(reached)) {
                        break;
                    }
                }
                while let Some(told) = next(&mut common, reached).await {
                    reached = told.position;
                    yield Response::new(told.data.clone());
                }
            }
        })
    }

    /// Counts somebody in, and lets them hear the common execution if they are not the only one.
    fn join(&self, asked: Asked, again: impl FnOnce() -> Execution) -> (Member, Option<Common>) {
        let asked = Arc::new(asked);
        let mut groups = self.groups();
        let group = groups.entry(Arc::clone(&asked)).or_default();
        group.members += 1;
        let receiver = (group.members > 1).then(|| group.listen(again));
        drop(groups);
        let member = Member {
            multiplexer: self.clone(),
            asked,
        };
        let common = receiver.map(|receiver| Common {
            receiver,
            from: None,
            ahead: None,
        });
        (member, common)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn listen(&mut self, again: impl FnOnce() -> Execution) -> Receiver<Arc<Told>> {
        if let Some(common) = self.common.as_ref().and_then(WeakSender::upgrade) {
            return common.subscribe();
        }
        let (sender, receiver) = tokio::sync::broadcast::channel(BUFFER);
        self.common = Some(sender.downgrade());
        tokio::spawn(tell(again(), sender));
        receiver
    }
}

/// Executes for all, until nobody listens or something goes wrong.
async fn tell(mut execution: Execution, sender: Sender<Arc<Told>>) {
    let _counted = CommonExecution::new();
    loop {
        let response = tokio::select! {
            () = sender.closed() => return,
            response = execution.responses.next() => response,
        };
        match (response, execution.place.take()) {
            (Some(response), Some(position)) if response.errors.is_empty() => {
                // Fails when nobody listens.
                let _ = sender.send(Arc::new(Told {
                    position,
                    data: response.data,
                }));
            }
            _ => return,
        }
    }
}

/// The common execution, as one of them hears it.
struct Common {
    receiver: Receiver<Arc<Told>>,
    /// From this update on it was heard without a gap.
    from: Option<u64>,
    /// Heard, and not handed out yet.
    ahead: Option<Arc<Told>>,
}

impl Common {
    /// Whether it tells all that comes after `reached`. It does if it told something up to there, and all since.
    fn covers(&mut self, reached: u64) -> bool {
        loop {
            if self.ahead.as_ref().is_some_and(|told| told.position > reached) {
                break;
            }
            match self.receiver.try_recv() {
                Ok(told) => {
                    self.from.get_or_insert(told.position);
                    self.ahead = Some(told);
                }
                Err(TryRecvError::Lagged(_)) => (self.from, self.ahead) = (None, None),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.from.is_some_and(|from| from <= reached)
    }
}

/// What comes after `reached`; nothing if some of it was missed, or nothing will come any more.
async fn next(common: &mut Option<Common>, reached: u64) -> Option<Arc<Told>> {
    let heard = common.as_mut()?;
    if let Some(told) = heard.ahead.take().filter(|told| told.position > reached) {
        return Some(told);
    }
    loop {
        match heard.receiver.recv().await {
            Ok(told) if told.position > reached => return Some(told),
            Ok(_) => {}
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                heard.from = None;
                return None;
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                *common = None;
                return None;
            }
        }
    }
}

/// One who asks, as long as they do.
struct Member {
    multiplexer: Multiplexer,
    asked: Arc<Asked>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut groups = self.multiplexer.groups();
        if let Some(group) = groups.get_mut(&self.asked) {
            group.members -= 1;
            if group.members == 0 {
                groups.remove(&self.asked);
            }
        }
    }
}

#[cfg(test)]
mod tests;
