//! Following, over a WebSocket or Server-Sent Events.

use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use kontor_domain::ProductId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::Client;
use crate::wait::PATIENCE;

/// How updates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// graphql-transport-ws.
    Socket,
    /// Server-Sent Events.
    Events,
}

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    field: &'static str,
    id: Option<(&'static str, String)>,
    node: &'static str,
}

impl Topic {
    /// One order.
    #[must_use]
    pub fn order(id: &str) -> Self {
        Self {
            id: Some(("orderId", id.to_owned())),
            ..Self::orders("orderUpdates")
        }
    }

    /// The customer's own orders.
    #[must_use]
    pub fn my_orders() -> Self {
        Self::orders("myOrderUpdates")
    }

    /// Everybody's orders.
    #[must_use]
    pub fn all_orders() -> Self {
        Self::orders("allOrderUpdates")
    }

    fn orders(field: &'static str) -> Self {
        let node = "id version status timeline { __typename ... on OrderRejectedEntry { refusedItems
            { productId requested available reason } } }";
        Self {
            field,
            id: None,
            node,
        }
    }

    /// One product.
    #[must_use]
    pub fn product(id: ProductId) -> Self {
        Self {
            field: "productUpdates",
            id: Some(("productId", id.to_string())),
            node: "id version available price { amountMinor }",
        }
    }

    fn document(&self, after: Option<&str>) -> String {
        let Self { field, id, node } = self;
        let id = id.as_ref().map(|(name, id)| format!("{name}: {id:?}"));
        let after = after.map(|cursor| format!("after: {cursor:?}"));
        let arguments: Vec<String> = id.into_iter().chain(after).collect();
        let arguments = if arguments.is_empty() {
            String::new()
        } else {
            format!("({})", arguments.join(", "))
        };
        format!("subscription {{ {field}{arguments} {{ cursor node {{ {node} }} }} }}")
    }
}

/// One update.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What to come back with.
    pub cursor: String,
    /// What was asked for of the order or product.
    pub node: Value,
}

/// What a feed can bring.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Something happened.
    Change(Change),
    /// It was refused, or broke: the codes.
    Errors(Vec<String>),
    /// No more will come; the socket's close code, if it has one.
    Ended(Option<u16>),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

enum Source {
    Socket(Box<Socket>),
    Events(BoxStream<'static, Vec<u8>>, Vec<u8>),
    /// Refused before it began.
    Refused(Value),
}

/// A subscription that is going on. Dropped, its connection is simply gone.
pub struct Feed {
    field: &'static str,
    source: Source,
}

impl Client {
    /// Subscribes.
    pub async fn follow(&self, way: Way, topic: &Topic, after: Option<&str>) -> Feed {
        let document = topic.document(after);
        let source = match way {
            Way::Socket => Source::Socket(Box::new(self.socket(&document).await)),
            Way::Events => self.events(&document).await,
        };
        Feed {
            field: topic.field,
            source,
        }
    }

    async fn socket(&self, document: &str) -> Socket {
        let mut request = format!("ws://{}/graphql", self.address())
            .into_client_request()
            .unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (mut socket, _) = connect_async(request).await.unwrap();
        let mut init = json!({ "type": "connection_init" });
        if let Some(token) = self.token() {
            init["payload"] = json!({ "authorization": format!("Bearer {token}") });
        }
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": document } });
        for message in [init, subscribe] {
            socket.send(Message::text(message.to_string())).await.unwrap();
            if message["type"] == "connection_init" {
                let acknowledged = socket.next().await.unwrap().unwrap().into_text().unwrap();
                let acknowledged: Value = serde_json::from_str(&acknowledged).unwrap();
                assert_eq!(acknowledged["type"], "connection_ack");
            }
        }
        socket
    }

    /// Whatever a subscription brings first, or the refusal.
    pub async fn first_event(&self, document: &str) -> Value {
        let request = self.request(document, &json!({}), "text/event-stream");
        let mut response = request.send().await.unwrap();
        if response.headers()["content-type"] != "text/event-stream" {
            return response.json().await.unwrap();
        }
        let mut text = String::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            if let Some((event, _)) = text.split_once("\n\n")
                && let Some(data) = event.strip_prefix("event: next\ndata: ")
            {
                return serde_json::from_str(data).unwrap();
            }
        }
        Value::Null
    }

    async fn events(&self, document: &str) -> Source {
        let request = self.request(document, &json!({}), "text/event-stream");
        let response = request.send().await.unwrap();
        let kind = response.headers()["content-type"].clone();
        if kind != "text/event-stream" {
            return Source::Refused(response.json().await.unwrap());
        }
        let bytes = response
            .bytes_stream()
            // A connection that breaks off ends the stream, as a browser sees it.
            .take_while(|chunk| std::future::ready(chunk.is_ok()))
            .filter_map(|chunk| std::future::ready(chunk.ok()))
            .map(|chunk| chunk.to_vec());
        Source::Events(bytes.boxed(), Vec::new())
    }
}

impl Feed {
    /// The next update. Whatever else comes is a failure of the test.
    pub async fn next(&mut self) -> Change {
        match self.hear().await {
            Heard::Change(change) => change,
            other => panic!("{} brought {other:?}", self.field),
        }
    }

    /// The next thing that comes.
    pub async fn hear(&mut self) -> Heard {
        let field = self.field;
        let heard = async {
            match &mut self.source {
                Source::Socket(socket) => hear_socket(socket, field).await,
                Source::Events(chunks, buffer) => hear_events(chunks, buffer, field).await,
                Source::Refused(body) => said(body, field),
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("{field} says no more"))
    }
}

async fn hear_socket(socket: &mut Socket, field: &str) -> Heard {
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(frame))) => return Heard::Ended(frame.map(|it| it.code.into())),
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => return Heard::Ended(None),
        };
        let mut message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "next" => return said(&message["payload"], field),
            "error" => return said(&json!({ "errors": message["payload"].take() }), field),
            "complete" => return Heard::Ended(None),
            other => panic!("the socket says {other}"),
        }
    }
}

async fn hear_events(chunks: &mut BoxStream<'static, Vec<u8>>, buffer: &mut Vec<u8>, field: &str) -> Heard {
    loop {
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            let event = String::from_utf8(event).unwrap();
            if event.starts_with("event: complete") {
                return Heard::Ended(None);
            }
            if let Some(data) = event.strip_prefix("event: next\ndata: ") {
                return said(&serde_json::from_str(data).unwrap(), field);
            }
        }
        match chunks.next().await {
            Some(chunk) => buffer.extend(chunk),
            None => return Heard::Ended(None),
        }
    }
}

fn said(body: &Value, field: &str) -> Heard {
    let errors = super::errors_of(body);
    if !errors.is_empty() {
        let code = |error: &Value| error["extensions"]["code"].as_str().unwrap_or("none").to_owned();
        return Heard::Errors(errors.iter().map(code).collect());
    }
    let update = &body["data"][field];
    Heard::Change(Change {
        cursor: update["cursor"].as_str().unwrap().to_owned(),
        node: update["node"].clone(),
    })
}
