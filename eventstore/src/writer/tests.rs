//! Commands of several events, which no aggregate of today sends but the log must take whole: against a real Postgres.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use kontor_domain::{ClaimChange, ClaimKind};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, Row};
use tokio::sync::oneshot;

use super::*;
use crate::clock::{Ids, SystemClock};
use crate::group::tests::{Wish, release, take};
use crate::schema;

/// A migrated database of one test's own; gone when the test has passed.
struct Database {
    pool: PgPool,
    server: PgConnectOptions,
    name: String,
}

impl Database {
    async fn fresh() -> Self {
        let url = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL is not set: run `make test`, or scripts/with-servers");
        let server: PgConnectOptions = url.parse().unwrap();
        let name = format!("t_{}", Ids::new(Arc::new(SystemClock)).next()).to_lowercase();
        let mut admin = server.connect().await.unwrap();
        admin
            .execute(format!("CREATE DATABASE {name}").as_str())
            .await
            .unwrap();
        admin.close().await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect_with(server.clone().database(&name))
            .await
            .unwrap();
        schema::migrate(&pool).await.unwrap();
        Self { pool, server, name }
    }

    async fn writer(&self) -> mpsc::Sender<Proposal> {
        let (erased, _) = mpsc::unbounded_channel();
        spawn(&self.pool, Tail::start(self.pool.clone(), erased).await.unwrap())
    }

    async fn remove(self) {
        self.pool.close().await;
        let mut admin = self.server.connect().await.unwrap();
        admin
            .execute(format!("DROP DATABASE {} WITH (FORCE)", self.name).as_str())
            .await
            .unwrap();
    }

    /// Position, stream, sequence and command of every event, in order.
    async fn log(&self) -> Vec<(u64, String, u64, String)> {
        let rows = sqlx::query(
            "SELECT position, aggregate_id, sequence, metadata->>'command_id' AS command FROM events ORDER BY position",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let event = |row: &sqlx::postgres::PgRow| {
            let number = |column| row.get::<i64, _>(column).unsigned_abs();
            (
                number("position"),
                row.get("aggregate_id"),
                number("sequence"),
                row.get::<Option<String>, _>("command").unwrap_or_default(),
            )
        };
        rows.iter().map(event).collect()
    }

    async fn holder(&self, value: &str) -> Option<String> {
        sqlx::query_scalar("SELECT aggregate_id FROM claims WHERE value = $1")
            .bind(value)
            .fetch_optional(&self.pool)
            .await
            .unwrap()
    }
}

type Answered = oneshot::Receiver<Result<Appended, AppendError>>;

fn named(wish: Wish, command: &str) -> (Proposal, Answered) {
    let mut proposal = wish.alone();
    command.clone_into(&mut proposal.command_id);
    proposal.metadata = format!("{{\"command_id\":\"{command}\"}}");
    let (reply, answer) = oneshot::channel();
    proposal.reply = reply;
    (proposal, answer)
}

/// Has proposals judged in one group: they are all waiting when the writer, on this same thread, first looks.
async fn in_one_group(database: &Database, wishes: Vec<(Wish, &str)>) -> Vec<Result<Appended, AppendError>> {
    let writer = database.writer().await;
    let (proposals, answers): (Vec<_>, Vec<_>) = wishes
        .into_iter()
        .map(|(wish, command)| named(wish, command))
        .unzip();
    for proposal in proposals {
        writer.try_send(proposal).unwrap();
    }
    join_all(answers).await.into_iter().map(Result::unwrap).collect()
}

fn commands_of(log: &[(u64, String, u64, String)]) -> BTreeMap<&str, Vec<u64>> {
    let mut commands: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (_, _, sequence, command) in log {
        commands.entry(command).or_default().push(*sequence);
    }
    commands
}

#[tokio::test]
async fn a_stale_command_in_a_group_stores_nothing_and_its_neighbours_everything() {
    let database = Database::fresh().await;
    let before = in_one_group(&database, vec![(Wish::new("b", 0, 2), "before")]).await;
    assert_eq!(before, [Ok(Appended::Written { position: 2 })]);
    let group = vec![
        (Wish::new("a", 0, 3), "first"),
        (Wish::new("b", 1, 3), "stale"), // 2, 3, 4 over 1, 2
        (Wish::new("c", 0, 1), "last"),
    ];
    let answers = in_one_group(&database, group).await;
    assert_eq!(answers[1], Err(AppendError::Stale));
    assert_eq!(answers[0], Ok(Appended::Written { position: 5 }));
    assert_eq!(answers[2], Ok(Appended::Written { position: 6 }));
    let log = database.log().await;
    let commands = commands_of(&log);
    assert_eq!(
        commands,
        BTreeMap::from([
            ("before", vec![1, 2]),
            ("first", vec![1, 2, 3]),
            ("last", vec![1])
        ])
    );
    database.remove().await;
}

/// Two writers on the same streams: whatever the interleaving, a command is there whole and acknowledged, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_several_events_from_two_writers_are_never_half_there() {
    let database = Database::fresh().await;
    let writers = [database.writer().await, database.writer().await];
    let versions: [AtomicU64; 3] = std::array::from_fn(|_| AtomicU64::new(0));
    let sender = async |n: u64| {
        let mut acknowledged = HashMap::new();
        let mut stale = 0;
        for round in 0..60 {
            let command = format!("{n}/{round}");
            let events = 1 + (n + round) % 4;
            // A neighbour that nobody contends with goes along.
            let (neighbour, its_answer) = named(
                Wish::new(&format!("own/{command}"), 0, 2),
                &format!("own/{command}"),
            );
            let stream = usize::try_from((n + round) % 3).unwrap_or(0);
            let expected = versions[stream].load(Ordering::Relaxed);
            let (proposal, answer) =
                named(Wish::new(&format!("shared/{stream}"), expected, events), &command);
            let writer = &writers[usize::try_from(n % 2).unwrap_or(0)];
            writer.send(proposal).await.unwrap();
            writer.send(neighbour).await.unwrap();
            match answer.await.unwrap() {
                Ok(Appended::Written { position }) => {
                    versions[stream].fetch_max(expected + events, Ordering::Relaxed);
                    acknowledged.insert(command, (position, events));
                }
                Err(AppendError::Stale) => {
                    stale += 1;
                    // Somebody else was faster; ask how far they came.
                    let now: Option<i64> =
                        sqlx::query_scalar("SELECT max(sequence) FROM events WHERE aggregate_id = $1")
                            .bind(format!("shared/{stream}"))
                            .fetch_one(&database.pool)
                            .await
                            .unwrap();
                    versions[stream].fetch_max(now.unwrap_or(0).unsigned_abs(), Ordering::Relaxed);
                }
                other => panic!("{other:?}"),
            }
            assert!(
                matches!(its_answer.await.unwrap(), Ok(Appended::Written { .. })),
                "a neighbour failed"
            );
        }
        (acknowledged, stale)
    };
    let results = join_all((0..8).map(sender)).await;

    let log = database.log().await;
    let positions: Vec<u64> = log.iter().map(|(position, ..)| *position).collect();
    assert_eq!(positions, (1..=log.len() as u64).collect::<Vec<_>>());
    let mut streams: HashMap<&str, u64> = HashMap::new();
    for (_, stream, sequence, _) in &log {
        let version = streams.entry(stream).or_default();
        *version += 1;
        assert_eq!(sequence, version, "{stream}");
    }
    let commands = commands_of(&log);
    let mut acknowledged = 0;
    for (command, (position, events)) in results.iter().flat_map(|(acknowledged, _)| acknowledged) {
        assert_eq!(
            commands[command.as_str()].len() as u64,
            *events,
            "{command} is there whole"
        );
        let last = log
            .iter()
            .rev()
            .find(|(.., of)| of == command)
            .map(|(position, ..)| *position);
        assert_eq!(last, Some(*position), "{command} was told its position");
        acknowledged += 1;
    }
    let contended = commands
        .keys()
        .filter(|command| !command.starts_with("own/"))
        .count();
    assert_eq!(contended, acknowledged, "what was not acknowledged is not there");
    assert_eq!(commands.len() - contended, 8 * 60);
    assert!(
        results.iter().map(|(_, stale)| stale).sum::<u32>() > 10,
        "they hardly met"
    );
    drop(writers);
    database.remove().await;
}

#[tokio::test]
async fn claims_that_change_hands_within_a_group_end_with_their_last_holder() {
    let database = Database::fresh().await;
    let claiming = |stream: &str, expected, claims: &[ClaimChange]| Wish {
        claims: claims.to_vec(),
        ..Wish::new(stream, expected, 1)
    };
    let first = in_one_group(&database, vec![(claiming("a", 0, &[take("x")]), "a")]).await;
    assert!(first[0].is_ok());
    let group = vec![
        (claiming("early", 0, &[take("x")]), "early"),
        (claiming("a", 1, &[release("x"), take("y")]), "a moves"),
        (claiming("b", 0, &[take("x")]), "b"),
        (claiming("a", 2, &[release("y")]), "a leaves"),
        (claiming("c", 0, &[take("y")]), "c"),
        (claiming("b", 1, &[release("x")]), "b leaves"),
    ];
    let answers = in_one_group(&database, group).await;
    assert_eq!(
        answers[0],
        Err(AppendError::ClaimTaken {
            kind: ClaimKind::Email,
            holder: "a".to_owned()
        })
    );
    assert!(answers[1..].iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(
        (database.holder("x").await, database.holder("y").await),
        (None, Some("c".to_owned()))
    );
    database.remove().await;
}

/// A command that Postgres will not store must not take its neighbours down with it.
#[tokio::test]
async fn a_command_that_postgres_refuses_fails_alone() {
    let database = Database::fresh().await;
    let writer = database.writer().await;
    let mut answers = Vec::new();
    for n in 0..5 {
        let (mut proposal, answer) = named(Wish::new(&format!("s{n}"), 0, 2), &format!("c{n}"));
        if n == 2 {
            "not json".clone_into(&mut proposal.events[1].payload);
        }
        writer.try_send(proposal).unwrap();
        answers.push(answer);
    }
    let answers: Vec<_> = join_all(answers).await.into_iter().map(Result::unwrap).collect();
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(AppendError::Unavailable(_)) => assert_eq!(n, 2),
            answer => assert!(answer.is_ok() && n != 2, "{n}: {answer:?}"),
        }
    }
    let log = database.log().await;
    assert_eq!(log.len(), 8);
    assert!(commands_of(&log).values().all(|sequences| *sequences == [1, 2]));
    database.remove().await;
}
