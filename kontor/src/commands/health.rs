//! `kontor health`: what a container asks.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::terminal::say;

/// Asks `/readyz` and prints the answer.
///
/// # Errors
/// When nobody answers. "Not ready" is no error but an exit code of 1.
pub async fn health(listen: SocketAddr) -> Result<ExitCode> {
    let asked = tokio::time::timeout(Duration::from_secs(5), ask(listen)).await;
    let answer = asked
        .context("no answer within 5 s")
        .flatten()
        .with_context(|| format!("no Kontor answers at {listen}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    say(body.trim());
    Ok(
        if head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200") {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}

async fn ask(listen: SocketAddr) -> Result<String> {
    let mut connection = TcpStream::connect(listen).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}
