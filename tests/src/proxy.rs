//! A way to a server that can be cut off.

use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes connections on to a server, while it is open.
pub struct Proxy {
    port: u16,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy before the server of a URL such as `redis://user:password@host:port/0`.
    pub async fn before(url: &str) -> Self {
        let place = place_of(url).to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = watch::Sender::new(true);
        tokio::spawn(serve(listener, place, open.subscribe()));
        Self { port, open }
    }

    /// The same URL, through the proxy.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replacen(place_of(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Breaks every connection, and takes no more.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

/// `host:port` of a URL.
fn place_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap()
}

async fn serve(listener: TcpListener, place: String, mut open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut near, _)) = accepted else { return };
                if !*open.borrow() {
                    continue;
                }
                let place = place.clone();
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(place).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
            changed = open.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*open.borrow() {
                    connections.shutdown().await;
                }
            }
        }
    }
}
