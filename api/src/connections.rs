//! Connections as they come in: at once on their way, and cut off when the other end does not read, or does not say what it wants.

mod head;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Layer, ServiceExt};
use tracing::debug;

use self::head::HeadTimer;
use crate::transport::Timing;

/// The other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Takes connections in until `stop`, then waits until those that are open have ended the requests they are at. As
/// `axum::serve` does it, which has no way to limit how long a head may take.
pub(crate) async fn serve(
    mut listener: TcpListener,
    router: Router,
    timing: Timing,
    stop: CancellationToken,
) {
    let open = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            // Waits a moment by itself when the process has no more descriptors.
            accepted = Listener::accept(&mut listener) => accepted,
            () = stop.cancelled() => break,
        };
        open.spawn(attend(stream, peer, router.clone(), timing, stop.clone()));
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// One connection, until it is closed or has become a socket.
async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    timing: Timing,
    stop: CancellationToken,
) {
    // Without it a message that fits no full packet waits for the last one's acknowledgement: 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY not set");
    }
    let head = HeadTimer::new(timing.head);
    let heard = Arc::clone(&head.heard);
    let stream = InspectReader::new(stream, move |_| {
        heard.fetch_add(1, Ordering::Relaxed);
    });
    // Whoever reads a stream slower than this comes back with its last cursor, and holds no more than the buffers of one
    // connection until then.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timing.stalled));
    // With the peer's address, for who counts by it.
    let service = Extension(ConnectInfo(Peer(peer)))
        .layer(router)
        .map_request(|request: Request<Incoming>| request.map(Body::new));
    let connection = http1::Builder::new()
        .timer(head)
        .header_read_timeout(timing.head)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection has broken");
    }
}
