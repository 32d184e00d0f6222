//! A graphql-transport-ws client on raw frames: a thousand of them share the two cores with the server.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASKED: u8 = 0x80;
const IN_TWO_BYTES: u8 = 0x7e;
const IN_EIGHT_BYTES: u8 = 0x7f;
/// Of most messages here, a third.
const BUFFER: usize = 1024;

/// One socket with one subscription.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out already.
    used: usize,
}

impl Socket {
    /// Opens a socket and subscribes.
    pub(crate) async fn subscribe(
        address: SocketAddr,
        token: &str,
        query: &str,
        variables: Value,
    ) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET /graphql HTTP/1.1\r\nhost: bench\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: a29udG9yIGJlbmNoIGtleQ==\r\n\
             sec-websocket-protocol: graphql-transport-ws\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await?;
        let mut socket = Self {
            stream,
            buffer: Vec::with_capacity(BUFFER),
            used: 0,
        };
        socket.upgraded().await?;
        socket.write(TEXT, br#"{"type":"connection_init"}"#).await?;
        let acknowledged = socket.next().await?;
        if !acknowledged.windows(14).any(|window| window == b"connection_ack") {
            bail!("the server said {}", String::from_utf8_lossy(acknowledged));
        }
        let subscribe =
            json!({ "id": "1", "type": "subscribe", "payload": { "query": query, "variables": variables } });
        socket.write(TEXT, subscribe.to_string().as_bytes()).await?;
        Ok(socket)
    }

    async fn upgraded(&mut self) -> Result<()> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                if !self.buffer.starts_with(b"HTTP/1.1 101 ") {
                    bail!("the server answered {}", String::from_utf8_lossy(&self.buffer));
                }
                self.used = end + 4;
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// The next message; answers pings on the way.
    pub(crate) async fn next(&mut self) -> Result<&[u8]> {
        loop {
            let (opcode, start, end) = loop {
                if let Some(frame) = frame(&self.buffer, self.used) {
                    break frame;
                }
                // Everything before is done with.
                self.buffer.drain(..self.used);
                self.used = 0;
                self.read().await?;
            };
            self.used = end;
            match opcode {
                TEXT => return Ok(&self.buffer[start..end]),
                PING => {
                    let payload = self.buffer[start..end].to_vec();
                    self.write(PONG, &payload).await?;
                }
                CLOSE => bail!(
                    "the server closed: {}",
                    String::from_utf8_lossy(&self.buffer[start..end])
                ),
                other => bail!("a frame of kind {other}"),
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server hung up");
        }
        Ok(())
    }

    /// A masked frame, as a client must (RFC 6455, section 5.3); under a mask of zeros the payload stays as it is.
    async fn write(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u16::try_from(payload.len())? {
            length @ 0..=125 => frame.push(MASKED | length.to_be_bytes()[1]),
            length => {
                frame.push(MASKED | IN_TWO_BYTES);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await?;
        Ok(())
    }
}

/// The frame at `at`, if it is there in full: its kind, and from where to where its payload reaches.
fn frame(buffer: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (first, second) = (*buffer.get(at)?, *buffer.get(at + 1)?);
    let (start, length) = match second & !MASKED {
        IN_TWO_BYTES => (
            at + 4,
            usize::from(u16::from_be_bytes(buffer.get(at + 2..at + 4)?.try_into().ok()?)),
        ),
        IN_EIGHT_BYTES => (
            at + 10,
            usize::try_from(u64::from_be_bytes(buffer.get(at + 2..at + 10)?.try_into().ok()?)).ok()?,
        ),
        length => (at + 2, usize::from(length)),
    };
    let end = start + length;
    (buffer.len() >= end).then_some((first & 0x0f, start, end))
}
