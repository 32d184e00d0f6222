//! Who kills, whom, and when.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::customers::Customers;
use super::house::{House, Post};
use super::{Dice, Plan, insist};

/// Longer than a lease lasts.
const ASLEEP: Duration = Duration::from_secs(6);

/// Where a worker may die by itself: every step boundary of the process, the cashier, what deals with webhooks, and the consumers.
const POINTS: [&str; 22] = [
    "process.reserve_one",
    "process.reserved",
    "process.decided",
    "process.told",
    "cashier.planned",
    "cashier.claimed",
    "cashier.answered",
    "cashier.told",
    "cashier.settle",
    "cashier.settled",
    "cashier.expire",
    "cashier.expired",
    "webhooks.settle",
    "webhooks.settled",
    "webhooks.asked",
    "webhooks.told",
    "notifications.taken",
    "notifications.delivered",
    "notifications.settled",
    "consumer.before_handle",
    "consumer.after_handle",
    "consumer.after_commit",
];

/// Where the API may.
const WEBHOOK_TAKEN: &str = "webhooks.taken";

/// Everybody who can be killed.
pub(super) struct Killer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) customers: &'a Customers,
    pub(super) house: &'a House,
    /// Of the servers.
    pub(super) data: PathBuf,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub(super) postgres: i64,
    pub(super) redis: i64,
    pub(super) asleep: i64,
}

impl Killer<'_> {
    /// Kills as planned, evenly over the orders.
    pub(super) async fn work(&self) -> Killed {
        let mut dice = Dice::new(self.plan.seed, u64::MAX);
        let (mut killed, mut point) = (Killed::default(), 0);
        // Everybody once, whatever the dice say.
        let sure = [0, 1, 8, 12, 16, 18, 19];
        for nth in 0..self.plan.kills {
            let so_many = self.plan.orders * (nth + 1) / (self.plan.kills + 1);
            while self.customers.placed.load(Ordering::Relaxed) < so_many {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(dice.roll(50))).await;
            let whom = sure.get(nth).copied().unwrap_or_else(|| dice.roll(20));
            match whom {
                0..=7 => {
                    let worker = &self.house.workers[usize::try_from(whom % 2).unwrap()];
                    let next_dies_at = (dice.roll(3) < 2).then(|| {
                        point += 1;
                        format!("{}:{}", POINTS[point % POINTS.len()], 1 + dice.roll(20))
                    });
                    kill(worker, next_dies_at).await;
                }
                8..=11 => {
                    let next_dies_at =
                        (dice.roll(2) == 0).then(|| format!("{WEBHOOK_TAKEN}:{}", 1 + dice.roll(20)));
                    kill(&self.house.api, next_dies_at).await;
                }
                12..=15 => kill(&self.house.gateway, None).await,
                16..=17 => {
                    self.kill_server("postgres/postmaster.pid").await;
                    killed.postgres += 1;
                }
                18 => {
                    self.kill_server("redis/redis.pid").await;
                    killed.redis += 1;
                }
                _ => {
                    let worker = &self.house.workers[usize::try_from(dice.roll(2)).unwrap()];
                    // Awake again it may still believe that its leases are its own.
                    if worker.freeze(true) {
                        tokio::time::sleep(ASLEEP).await;
                        worker.freeze(false);
                        killed.asleep += 1;
                    }
                }
            }
        }
        killed
    }

    /// Kills a server, and waits until it has been brought back as `kontor run` brings it back.
    async fn kill_server(&self, file: &str) {
        let file = self.data.join(file);
        let before = insist("a server runs", async || {
            let pid = pid_in(&file)?;
            kill_process(pid, Signal::KILL).is_ok().then_some(pid)
        })
        .await;
        insist("the server runs again", async || {
            pid_in(&file).filter(|pid| *pid != before)
        })
        .await;
    }
}

/// Kills it as soon as it lives, and waits for its next life.
async fn kill(post: &Post, next_dies_at: Option<String>) {
    let lives = insist(post.name, async || {
        let lives = post.lives();
        post.kill(next_dies_at.clone()).then_some(lives)
    })
    .await;
    insist(post.name, async || (post.lives() > lives).then_some(())).await;
}

fn pid_in(file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    let number = text.lines().next()?.trim().parse().ok()?;
    Pid::from_raw(number)
}
