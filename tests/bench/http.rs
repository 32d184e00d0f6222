//! A keep-alive HTTP/1.1 client that costs next to nothing: it shares the two cores with what it measures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One connection, one request at a time.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a whole request as it is; the body of the answer, which must be a 200 with a content length.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<&[u8]> {
        let (start, end) = self.any(request).await?;
        if !self.buffer.starts_with(b"HTTP/1.1 200 ") {
            bail!("the server answered {}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(&self.buffer[start..end])
    }

    /// Sends a whole request, whatever the answer; from where to where its body reaches.
    pub(crate) async fn any(&mut self, request: &[u8]) -> Result<(usize, usize)> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (start, end) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server hung up");
            }
            if let Some(head) = find(&self.buffer, END_OF_HEAD) {
                let start = head + END_OF_HEAD.len();
                break (start, start + content_length(&self.buffer[..head])?);
            }
        };
        while self.buffer.len() < end {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server hung up within an answer");
            }
        }
        Ok((start, end))
    }

    /// Asks GraphQL; the `data` of the answer. Errors and refusals are failures of the bench.
    pub(crate) async fn graphql(
        &mut self,
        token: Option<&str>,
        query: &str,
        variables: Value,
    ) -> Result<Value> {
        let request = post(
            token,
            &json!({ "query": query, "variables": variables }).to_string(),
        );
        let answer = self.send(&request).await?;
        check(answer)?;
        let mut answer: Value = serde_json::from_slice(answer)?;
        Ok(answer["data"].take())
    }
}

/// A `POST /graphql`, ready to be sent.
pub(crate) fn post(token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token
        .map(|token| format!("authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    format!(
        "POST /graphql HTTP/1.1\r\nhost: bench\r\naccept: application/graphql-response+json\r\n{authorization}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A `GET`, ready to be sent.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

/// Fails on an answer with errors, or with a refusal: no measure counts those.
pub(crate) fn check(answer: &[u8]) -> Result<()> {
    let failed = find(answer, br#""errors":"#).is_some();
    let refused = find(answer, br#""userErrors":[{"#).is_some();
    if failed || refused {
        bail!("the server answered {}", String::from_utf8_lossy(answer));
    }
    Ok(())
}

/// When to stop asking.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// When so many requests have been sent.
    Sent(u64),
    /// After so long.
    Elapsed(Duration),
}

/// What a load came to.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Requests that were answered well.
    pub(crate) answered: u64,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

impl Load {
    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

/// Asks over so many connections at once, each with the next request as soon as the last one is answered. `request`
/// writes the n-th request into an empty buffer; answers must pass [`check`].
pub(crate) async fn load(
    address: SocketAddr,
    connections: usize,
    until: Until,
    request: impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static,
) -> Result<Load> {
    let request = Arc::new(request);
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(address).await?);
    }
    let sent = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::with_capacity(connections);
    for mut client in clients {
        let (request, sent) = (Arc::clone(&request), Arc::clone(&sent));
        tasks.push(tokio::spawn(async move {
            let (mut buffer, mut answered) = (Vec::with_capacity(1024), 0);
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Sent(count) => number >= count,
                    Until::Elapsed(duration) => started.elapsed() >= duration,
                };
                if over {
                    return anyhow::Ok(answered);
                }
                buffer.clear();
                request(number, &mut buffer);
                check(client.send(&buffer).await?)?;
                answered += 1;
            }
        }));
    }
    let mut answered = 0;
    for task in tasks {
        answered += task.await??;
    }
    Ok(Load {
        answered,
        took: started.elapsed(),
    })
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    line.and_then(|value| value.parse().ok())
        .context("an answer without content-length")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
