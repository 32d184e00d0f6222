//! A way to a server that can be cut off.

use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes connections on to a server, while it is open.
pub struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    /// How many cuts have been made good: nothing passes any more that was there before them.
    cuts_made: watch::Receiver<u32>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    open: bool,
    /// How often it was cut: each time counts, however soon it was mended.
    cuts: u32,
}

impl Proxy {
    /// A proxy before the server of a URL such as `redis://user:password@host:port/0`.
    pub async fn before(url: &str) -> Self {
        let place = place_of(url).to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = watch::Sender::new(State { open: true, cuts: 0 });
        let (made, cuts_made) = watch::channel(0);
        tokio::spawn(serve(listener, place, state.subscribe(), made));
        Self {
            port,
            state,
            cuts_made,
        }
    }

    /// The same URL, through the proxy.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replacen(place_of(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Breaks every connection, and takes no more.
    pub async fn cut(&self) {
        self.state.send_modify(|state| {
            *state = State {
                open: false,
                cuts: state.cuts + 1,
            }
        });
        let cuts = self.state.borrow().cuts;
        self.cuts_made
            .clone()
            .wait_for(|made| *made >= cuts)
            .await
            .expect("the proxy lives");
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.open = true);
    }
}

/// `host:port` of a URL.
fn place_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap()
}

async fn serve(
    listener: TcpListener,
    place: String,
    mut state: watch::Receiver<State>,
    made: watch::Sender<u32>,
) {
    let mut connections = JoinSet::new();
    let mut cuts = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut near, _)) = accepted else { return };
                if !state.borrow().open {
                    continue;
                }
                let place = place.clone();
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(place).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *state.borrow_and_update();
                if now.cuts != cuts {
                    cuts = now.cuts;
                    connections.shutdown().await;
                    made.send_replace(cuts);
                }
            }
        }
    }
}
