//! Heads of requests that do not come to an end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::Socket;
use super::*;

const WHOLE: &str =
    "GET /graphql?query=%7Bhello%7D HTTP/1.1\r\nhost: here\r\naccept: application/json\r\n\r\n";
const HALF: &str = "GET /graphql?query=%7Bhello%7D HTTP/1.1\r\nhost: he";
/// Rather than for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the server closes the connection, with nothing more said.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    ended.is_ok() && rest.is_empty()
}

async fn asks(connection: &mut TcpStream) {
    connection.write_all(WHOLE.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"data":{"hello":"hello "}}"#) {
        assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for_and_what_is_idle_stays_open() {
    let mut bench = Bench::new();
    bench.transport.timing.head = Duration::from_millis(50);
    let mut socket = Socket::ready(bench).await;
    let connect = async || TcpStream::connect(socket.address).await.unwrap();
    let mut kept = connect().await;
    asks(&mut kept).await;
    // Half a head, nothing at all, and half of a second one.
    let (mut half, mut silent, mut second) = (connect().await, connect().await, connect().await);
    half.write_all(HALF.as_bytes()).await.unwrap();
    asks(&mut second).await;
    second.write_all(HALF.as_bytes()).await.unwrap();
    for connection in [&mut half, &mut silent, &mut second] {
        assert!(is_closed(connection).await);
    }
    // The limit has passed for these as well, which have said all there was to say.
    asks(&mut kept).await;
    socket.subscribe("one", "{hello}").await;
    assert_eq!(socket.hear().await["type"], "next");
    // A head may come piece by piece, as long as it comes.
    let (first, rest) = WHOLE.split_at(20);
    kept.write_all(first.as_bytes()).await.unwrap();
    kept.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
