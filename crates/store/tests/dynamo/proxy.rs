//! A network that loses answers, and a DynamoDB that has enough of us.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the proxy does with requests, by their operation.
#[derive(Debug, Default)]
pub(crate) struct Whims {
    /// Answers to such operations that are lost: of every so many, one. 0 for none.
    pub(crate) loses_one_in: AtomicUsize,
    /// So many of the next requests are answered with an error that asks to come again.
    pub(crate) throttles: AtomicUsize,
    /// How many answers were lost.
    pub(crate) lost: AtomicU64,
    /// How many requests were throttled.
    pub(crate) throttled: AtomicU64,
    seen: AtomicUsize,
}

/// A proxy before the stand-in; its port, and what it may be told to do.
pub(crate) async fn start(to: u16) -> (u16, Arc<Whims>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let whims = Arc::new(Whims::default());
    let shared = Arc::clone(&whims);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, to, Arc::clone(&shared)));
        }
    });
    (port, whims)
}

/// Requests of one connection; it ends where an answer is lost.
async fn serve(mut client: TcpStream, to: u16, whims: Arc<Whims>) {
    while let Some(request) = message(&mut client).await {
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let take = |left: usize| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if whims.throttles.fetch_update(order, order, take).is_ok() {
            whims.throttled.fetch_add(1, order);
            // With what DynamoDB answers then, and at times with what a load balancer does.
            let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;
            let status = if whims.throttled.load(order).is_multiple_of(3) {
                "503 Service Unavailable"
            } else {
                "400 Bad Request"
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if client.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
        if server.write_all(&request).await.is_err() {
            return;
        }
        let Some(answer) = message(&mut server).await else { return };
        let one_in = whims.loses_one_in.load(order);
        let writes = head.contains("x-amz-target: dynamodb_20120810.transactwriteitems")
            || head.contains("x-amz-target: dynamodb_20120810.putitem");
        if one_in > 0 && writes && whims.seen.fetch_add(1, order).is_multiple_of(one_in) {
            // It was done, and nobody learns of it.
            whims.lost.fetch_add(1, order);
            return;
        }
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// One request or answer, head and body.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut wanted = None;
    loop {
        if let Some(wanted) = wanted
            && bytes.len() >= wanted
        {
            return Some(bytes);
        }
        let read = stream.read(&mut buffer).await.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..read]);
        if wanted.is_none()
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            wanted = Some(end + 4 + length);
        }
    }
}
