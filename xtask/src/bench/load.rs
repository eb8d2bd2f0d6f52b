//! Clients of a web server: each a thread that asks, waits for the answer, and asks again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::report::Latencies;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many clients that ask for the same.
#[derive(Clone, Copy)]
pub(super) struct Clients {
    pub(super) count: usize,
    pub(super) target: &'static str,
}

/// The server that is asked.
pub(super) struct Load {
    address: SocketAddr,
}

impl Load {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Lets clients ask for so long; the latencies that each kind of them has seen.
    ///
    /// # Errors
    /// When an answer is not "200 OK", or none comes.
    pub(super) fn run(&self, duration: Duration, kinds: &[Clients]) -> Result<Vec<Latencies>> {
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            let mut running = Vec::new();
            for kind in kinds {
                let ask = || {
                    let found = ask(self.address, kind.target, is_over);
                    // One that fails ends all of them.
                    is_over.fetch_or(found.is_err(), Ordering::Relaxed);
                    found.with_context(|| format!("a client that asks for {}", kind.target))
                };
                running.push((0..kind.count).map(|_| scope.spawn(ask)).collect::<Vec<_>>());
            }
            let end = Instant::now() + duration;
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(left.min(Duration::from_millis(100)));
            }
            is_over.store(true, Ordering::Relaxed);
            let mut found = Vec::new();
            for clients in running {
                let mut latencies = Latencies::default();
                for client in clients {
                    let ended = client.join().map_err(|_| anyhow::anyhow!("a client panicked"));
                    latencies.extend(ended??);
                }
                found.push(latencies);
            }
            Ok(found)
        })
    }
}

/// Asks again and again; how long each answer took.
fn ask(address: SocketAddr, target: &str, is_over: &AtomicBool) -> Result<Latencies> {
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut input = Vec::new();
    let mut latencies = Latencies::default();
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        stream.write_all(request.as_bytes())?;
        receive(&mut stream, &mut input)?;
        latencies.add(start.elapsed());
    }
    Ok(latencies)
}

/// Reads one answer, and nothing behind it.
fn receive(stream: &mut impl Read, input: &mut Vec<u8>) -> Result<()> {
    input.clear();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk).context("no answer")?;
        ensure!(count > 0, "the server has closed the connection");
        input.extend_from_slice(chunk.get(..count).unwrap_or_default());
        match length(input)? {
            Some(length) if input.len() > length => bail!("more than one answer"),
            Some(length) if input.len() == length => return Ok(()),
            _ => {}
        }
    }
}

/// The length of the answer that begins here, if its head is there.
fn length(input: &[u8]) -> Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(input)? else { return Ok(None) };
    ensure!(
        response.code == Some(200),
        "the answer is {} {}",
        response.code.unwrap_or_default(),
        response.reason.unwrap_or_default()
    );
    let is_it = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("content-length");
    let field = response.headers.iter().find(is_it).context("an answer without a length")?;
    let length: usize = str::from_utf8(field.value)?.parse()?;
    Ok(Some(head + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let mut input = Vec::new();
        receive(&mut answer.as_bytes(), &mut input).unwrap();
        assert_eq!(input, answer.as_bytes());
        let error = |text: &str| {
            format!("{:#}", receive(&mut text.as_bytes(), &mut Vec::new()).unwrap_err())
        };
        assert_eq!(error(&answer[..answer.len() - 1]), "the server has closed the connection");
        assert_eq!(error(&format!("{answer}!")), "more than one answer");
        assert_eq!(error("HTTP/1.1 503 Full\r\n\r\n"), "the answer is 503 Full");
        assert_eq!(error("HTTP/1.1 200 OK\r\n\r\n"), "an answer without a length");
    }
}
