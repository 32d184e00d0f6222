//! `kontor replay`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use kontor_eventstore::deeds::Kind;
use kontor_eventstore::{Actor, Deed};
use kontor_projections::{rebuild, views};

use crate::runtime::{MIRRORS, Runtime, mirrors_of};
use crate::terminal::{event_bar, say};

/// Rebuilds views while the shop goes on. Views in Redis are emptied of their position, and whoever works fills them.
///
/// # Errors
/// When there is no such view, or it could not be rebuilt; it is as it was then.
pub async fn replay(runtime: &Runtime, names: &[String]) -> Result<ExitCode> {
    let every = names.iter().any(|name| name == "all");
    let known = views();
    for name in names {
        if name != "all" && !MIRRORS.contains(&name.as_str()) && !known.iter().any(|view| view.name() == name)
        {
            let all: Vec<&str> = known.iter().map(|view| view.name()).chain(MIRRORS).collect();
            bail!("there is no view {name:?}; there are: all, {}", all.join(", "));
        }
    }
    let wanted = |name: &str| every || names.iter().any(|it| it == name);
    let chosen: Vec<_> = known.into_iter().filter(|view| wanted(view.name())).collect();
    if !chosen.is_empty() {
        let bar = event_bar();
        let started = Instant::now();
        let rebuilt = rebuild::rebuild(runtime.pool(), &chosen, |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        })
        .await?;
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        for view in &rebuilt {
            let parked = if view.parked == 0 {
                String::new()
            } else {
                format!(", {} events parked", view.parked)
            };
            say(format!(
                "{:<10} rebuilt to position {}{parked}",
                view.view, view.position
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = bar.length().unwrap_or(0) as f64 / seconds;
        say(format!(
            "{} events in {seconds:.1} s, {rate:.0} events/s",
            bar.length().unwrap_or(0)
        ));
    }
    let replayed = Deed::new(Kind::ViewsReplayed, Actor::OPERATOR, None);
    runtime.deeds.note(replayed.detail(names.join(", ")));
    // What was made from the old rows is made again from the new ones.
    let made_from = |mirror: &str| {
        chosen
            .iter()
            .any(|view| mirrors_of(view.name()).any(|it| it == mirror))
    };
    for mirror in MIRRORS.into_iter().filter(|name| wanted(name) || made_from(name)) {
        runtime.redis.forget(mirror).await?;
        say(format!(
            "{mirror:<14} in Redis: will be filled again by the workers"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
