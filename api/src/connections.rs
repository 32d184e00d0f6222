//! Connections as they come in: at once on their way, and cut off when the other end does not read.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

/// A listener whose connections break when a write has waited for so long: whoever reads a stream slower than that comes back
/// with its last cursor, and holds no more than the buffers of one connection until then.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) listener: TcpListener,
    pub(crate) stalled: Duration,
}

impl Listener for Connections {
    type Io = Pin<Box<TimeoutStream<TcpStream>>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (connection, peer) = Listener::accept(&mut self.listener).await;
        // Without it a message that fits no full packet waits for the last one's acknowledgement: 40 ms.
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY not set");
        }
        let mut connection = TimeoutStream::new(connection);
        connection.set_write_timeout(Some(self.stalled));
        (Box::pin(connection), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(*stream.remote_addr())
    }
}
