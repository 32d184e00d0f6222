//! Throw-away.
use kontor::import::{Options, online_retail};
use kontor::runtime::Runtime;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kontor::terminal::log_to_stderr("info,sqlx=warn");
    let file = std::env::args().nth(1).unwrap();
    let mut options = Options::default();
    if let Some(n) = std::env::args().nth(2) {
        options.in_flight = n.parse()?;
    }
    let runtime = Runtime::open(&std::env::var("IMPORT_DB")?, &std::env::var("IMPORT_REDIS")?).await?;
    let stop = runtime.stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    if std::env::var("NO_WORKERS").is_err() {
        runtime.spawn_workers();
    }
    if file == "work" { runtime.stop.cancelled().await; runtime.close().await; return Ok(()); }
    let t = std::time::Instant::now();
    let r = online_retail(&runtime, file.as_ref(), options).await;
    match &r {
        Ok(r) => println!("{r}"),
        Err(e) => println!("ERROR {e:#}"),
    }
    println!("wall {:?}", t.elapsed());
    runtime.close().await;
    std::process::exit(i32::from(!r.is_ok_and(|r| r.is_equal())));
}
