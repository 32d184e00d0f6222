//! Groups in turns, with their connections cut off before, in and behind their commits.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::group::Chain;

const SENDERS: u64 = 40;
const ROUNDS: u64 = 60;
/// Commands sent one upon the other, without waiting: they may come into one group, or into two that follow each other.
const CHAINED: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_one_log_without_gaps_whichever_of_their_connections_breaks() {
    let database = Database::fresh().await;
    let writer = database.writer().await;
    let stop = CancellationToken::new();
    let senders = join_all((0..SENDERS).map(|n| sender(&writer, n)));
    let senders = async {
        let acknowledged = senders.await;
        stop.cancel();
        acknowledged
    };
    let (acknowledged, (cut, most)) = tokio::join!(senders, cut_off(&database, &stop));
    assert!(cut >= 10, "only {cut} connections were cut off");
    assert_eq!(most, 2, "no group was written while another was on its way");

    let log = database.log().await;
    let positions: Vec<u64> = log.iter().map(|(position, ..)| *position).collect();
    assert_eq!(positions, (1..=log.len() as u64).collect::<Vec<_>>());
    let last: HashMap<&str, u64> = log
        .iter()
        .map(|(position, .., command)| (command.as_str(), *position))
        .collect();
    let mut streams: HashMap<&str, u64> = HashMap::new();
    for (_, stream, sequence, _) in &log {
        let version = streams.entry(stream).or_default();
        *version += 1;
        assert_eq!(sequence, version, "{stream}");
    }
    let acknowledged: Vec<(String, u64)> = acknowledged.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), last.len(), "what was not acknowledged is there");
    for (command, position) in &acknowledged {
        assert_eq!(last.get(command.as_str()), Some(position), "{command}");
    }
    drop(writer);
    database.remove().await;
}

/// Sends commands on a stream of its own; what each was answered.
async fn sender(writer: &mpsc::Sender<Proposal>, n: u64) -> Vec<(String, u64)> {
    let (stream, chain) = (format!("s{n}"), Arc::<Chain>::default());
    let (mut expected, mut acknowledged) = (0, Vec::new());
    for round in 0..ROUNDS {
        let mut answers = Vec::new();
        for part in 0..CHAINED {
            let command = format!("{n}/{round}/{part}");
            let events = 1 + (n + round + part) % 3;
            let (mut proposal, answer) = named(Wish::new(&stream, expected, events), &command);
            proposal.chain = Arc::clone(&chain);
            writer.send(proposal).await.unwrap();
            expected += events;
            answers.push((command, answer));
        }
        for (command, answer) in answers {
            match answer.await.unwrap() {
                Ok(Appended::Written { position }) => acknowledged.push((command, position)),
                // Nobody else writes here, so nothing may come in between.
                other => panic!("{command}: {other:?}"),
            }
        }
    }
    acknowledged
}

/// Cuts off one of the writer's connections again and again, once it has written a little more; how often, and how many it had at
/// the most.
async fn cut_off(database: &Database, stop: &CancellationToken) -> (usize, usize) {
    let (mut cut, mut most, mut head): (usize, usize, i64) = (0, 0, 0);
    while !stop.is_cancelled() {
        let writing: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kontor writer'",
        )
        .fetch_all(&database.pool)
        .await
        .unwrap();
        most = most.max(writing.len());
        let now: i64 = sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events")
            .fetch_one(&database.pool)
            .await
            .unwrap();
        if now < head + 150 {
            continue;
        }
        head = now;
        if let Some(pid) = writing.get(cut % writing.len().max(1)) {
            sqlx::query("SELECT pg_terminate_backend($1)")
                .bind(pid)
                .execute(&database.pool)
                .await
                .unwrap();
            cut += 1;
        }
    }
    (cut, most)
}
