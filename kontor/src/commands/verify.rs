//! `kontor verify`.

use std::process::ExitCode;

use anyhow::Result;
use kontor_projections::best_sellers::BestSellerMirror;
use kontor_projections::cards::ProductCardMirror;
use kontor_projections::statuses::OrderStatusMirror;
use kontor_projections::verify::{How, Verdict, verify as verify_views, verify_mirror};
use kontor_projections::views;

use crate::runtime::Runtime;
use crate::terminal::{event_bar, say};

/// Compares every view with what the log makes of it.
///
/// # Errors
/// When it could not be compared. Differences are no error but an exit code of 1.
pub async fn verify(runtime: &Runtime) -> Result<ExitCode> {
    let bar = event_bar();
    let mut verdicts = verify_views(runtime.pool(), &views(), |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })
    .await?;
    bar.finish_and_clear();
    verdicts.push(verify_mirror::<ProductCardMirror>(runtime.pool(), &runtime.redis).await?);
    verdicts.push(verify_mirror::<OrderStatusMirror>(runtime.pool(), &runtime.redis).await?);
    verdicts.push(verify_mirror::<BestSellerMirror>(runtime.pool(), &runtime.redis).await?);
    verdicts.iter().for_each(report);
    let equal = verdicts.iter().all(|verdict| verdict.different == 0);
    Ok(if equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(verdict: &Verdict) {
    let Verdict {
        view,
        position,
        behind,
        rows,
        different,
        differences,
    } = verdict;
    if let Some(behind) = behind {
        say(format!(
            "{view:<14} not compared: it is at position {position}, its view at {behind}, and no worker moves it"
        ));
        return;
    }
    let place = format!("at position {position}");
    if *different == 0 {
        say(format!("{view:<14} {rows} rows {place}: equal"));
        return;
    }
    say(format!("{view:<14} {rows} rows {place}: {different} DIFFERENT"));
    for it in differences {
        let how = match &it.how {
            How::Missing => "missing from the live view".to_owned(),
            How::Unfounded => "not founded in the log".to_owned(),
            How::Columns(columns) => format!("differs in {}", columns.join(", ")),
        };
        say(format!("  {}: {how}", it.key));
    }
}
