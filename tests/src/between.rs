//! Between a built function and the emulator: a proxy on loopback that names every call, and holds one.
//!
//! A process is ended at a call by holding the call here, before it reaches the emulator or before its answer reaches the
//! process, and killing the process then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::emulator::Emulator;
use crate::faults::{Moment, operation, signed_by};

/// The most that a request or an answer may have.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The proxy.
#[derive(Debug)]
pub struct Between {
    /// Where it listens: the endpoint of the function.
    pub url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    emulator: String,
    inner: Mutex<Inner>,
    held: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    calls: Vec<String>,
    hold: Option<(Moment, usize)>,
    was_held: bool,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Between {
    /// Listens for a function's calls.
    pub async fn open(emulator: &Emulator) -> Result<Self> {
        let endpoint = emulator.endpoint();
        let emulator = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { emulator, inner: Mutex::default(), held: Notify::new() });
        let of_tasks = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A connection that breaks is the client's to notice.
                tokio::spawn(pass_on(client, Arc::clone(&of_tasks)));
            }
        });
        Ok(Self { url, shared, listening })
    }

    /// Counts from here, and holds the call of this number; the first is 0.
    pub fn begin(&self, hold: Option<(Moment, usize)>) {
        *self.shared.inner() = Inner { hold, ..Inner::default() };
    }

    /// The calls since it began, `ec2:DescribeInstances`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.inner().calls.clone()
    }

    /// Waits until the call is held.
    pub async fn held(&self) {
        self.shared.held.notified().await;
    }

    /// Whether it came to the call.
    #[must_use]
    pub fn was_held(&self) -> bool {
        self.shared.inner().was_held
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// One request and its answer. The client is told that the connection ends with it.
async fn pass_on(mut client: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let Some(request) = Message::read(&mut client).await? else { return Ok(()) };
    let held = {
        let mut inner = shared.inner();
        let number = inner.calls.len();
        inner.calls.push(request.call());
        inner.hold.filter(|(_, of)| *of == number).map(|(moment, _)| moment)
    };
    if held == Some(Moment::Before) {
        return hold(&shared).await;
    }
    let mut emulator = TcpStream::connect(&shared.emulator).await?;
    emulator.write_all(&request.closing()).await?;
    let Some(answer) = Message::read(&mut emulator).await? else { bail!("no answer") };
    if held == Some(Moment::After) {
        return hold(&shared).await;
    }
    client.write_all(&answer.closing()).await?;
    client.shutdown().await.context("the function has gone")
}

/// The function waits for ever.
async fn hold(shared: &Shared) -> Result<()> {
    shared.inner().was_held = true;
    shared.held.notify_one();
    std::future::pending().await
}

/// A request or an answer of HTTP/1.1.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Nothing where the connection ends instead.
    async fn read(stream: &mut TcpStream) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !more(stream, &mut bytes).await? {
                return Ok(None);
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).context("a head that is no text")?;
        let message = Self { head, body: bytes.split_off(end + 4) };
        message.with_body(stream).await.map(Some)
    }

    async fn with_body(mut self, stream: &mut TcpStream) -> Result<Self> {
        let chunked = self.header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked"));
        let is_answer = self.head.starts_with("HTTP/");
        match self.header("content-length").map(str::parse::<usize>).transpose()? {
            Some(length) => {
                while self.body.len() < length {
                    if !more(stream, &mut self.body).await? {
                        bail!("a body is cut off");
                    }
                }
            }
            // It is passed on as it is.
            None if chunked => {
                while !self.body.ends_with(b"0\r\n\r\n") {
                    if !more(stream, &mut self.body).await? {
                        bail!("a body is cut off");
                    }
                }
            }
            None if is_answer && !self.is_without_body() => while more(stream, &mut self.body).await? {},
            None => {}
        }
        Ok(self)
    }

    fn is_without_body(&self) -> bool {
        matches!(self.head.split(' ').nth(1), Some("204" | "304"))
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    }

    fn call(&self) -> String {
        let mut first = self.head.split(' ');
        let (method, uri) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let (_, service) = signed_by(self.header("authorization").unwrap_or_default());
        let target = self.header("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(&self.body);
        format!("{service}:{}", operation(&service, method, uri, target, &body))
    }

    /// The bytes of it, which say that the connection ends here.
    fn closing(&self) -> Vec<u8> {
        let is_other = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
        let lines: Vec<&str> = self.head.split("\r\n").filter(is_other).chain(["connection: close"]).collect();
        let mut bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Whether there was more.
async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<bool> {
    let mut piece = [0; 8192];
    let read = stream.read(&mut piece).await?;
    bytes.extend_from_slice(&piece[..read]);
    if bytes.len() > MOST_BYTES {
        bail!("longer than {MOST_BYTES} bytes");
    }
    Ok(read > 0)
}
