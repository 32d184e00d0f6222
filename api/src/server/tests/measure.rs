use tokio::io::{AsyncReadExt, AsyncWriteExt};
use super::*;
fn rss() -> usize {
    std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
fn frame(text: &str) -> Vec<u8> {
    let b = text.as_bytes();
    let mut f = vec![0x81];
    if b.len() < 126 { f.push(0x80 | b.len() as u8); } else { f.push(0x80 | 126); f.extend((b.len() as u16).to_be_bytes()); }
    f.extend([0,0,0,0]);
    f.extend(b);
    f
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, bench.transport.stop.clone().pipe(bench), CancellationToken::new(), TaskTracker::new()));
    let mut all = Vec::new();
    let mut last = 0;
    for round in 0..5 {
        for _ in 0..1000 {
            let mut s = tokio::net::TcpStream::connect(address).await.unwrap();
            s.write_all(b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n").await.unwrap();
            let mut buf = [0u8; 1024];
            s.read(&mut buf).await.unwrap();
            s.write_all(&frame("{\"type\":\"connection_init\"}")).await.unwrap();
            s.read(&mut buf).await.unwrap();
            s.write_all(&frame("{\"type\":\"subscribe\",\"id\":\"1\",\"payload\":{\"query\":\"subscription($a:Int){idle}\"}}")).await.unwrap();
            s.read(&mut buf).await.unwrap();
            all.push(s);
        }
        let now = rss();
        println!("round {round}: {} B per socket", (now.saturating_sub(last)) / 1000);
        last = now;
    }
}
trait Pipe { fn pipe(self, b: Bench) -> Router; }
impl Pipe for CancellationToken { fn pipe(self, b: Bench) -> Router { b.router() } }
