//! Rude transports: the same bytes in other pieces, later, or not all of them.
//!
//! In memory, for parsers and engines that take bytes: [`cuts`] divides a byte string at random,
//! [`prefixes`] stops it everywhere, [`flips`] damages each of its bytes.
//!
//! On sockets, for everything above: a [`Relay`] stands between a client and a real server and
//! treats the stream as its [`Policy`] says. The kernel may join pieces again before the client
//! reads them; a pause between them makes that unlikely, and only the helpers in memory rule it
//! out.
//!
//! ```
//! use testkit::transport::{cuts, flips, prefixes};
//!
//! let message = b"Z\0\0\0\x05I";
//! for pieces in cuts(message, 7, 100) {
//!     assert_eq!(pieces.concat(), message);
//! }
//! assert_eq!(prefixes(message).count(), message.len());
//! assert!(flips(message).all(|damaged| damaged.bytes != message));
//! ```

use std::io::{self, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::acceptor::{Acceptor, LIMIT, Live, address_methods};
use crate::bridge;
use crate::socket::Stream;

pub use crate::socket::Target;

/// Divides `bytes` in `n` ways: first not at all, then into single bytes, then at random places
/// that depend on `seed` alone. No piece is empty, and together they are `bytes`.
pub fn cuts(bytes: &[u8], seed: u64, n: usize) -> impl Iterator<Item = Vec<&[u8]>> {
    let mut random = Random(seed);
    (0..n).map(move |way| match way {
        0 if bytes.is_empty() => Vec::new(),
        0 => vec![bytes],
        1 => bytes.chunks(1).collect(),
        _ => {
            let most = random.up_to(bytes.len().max(1));
            random_pieces(bytes, &mut random, most)
        }
    })
}

fn random_pieces<'a>(bytes: &'a [u8], random: &mut Random, most: usize) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(random.up_to(most).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// All beginnings of `bytes`, from the empty one to the one that lacks only the last byte.
pub fn prefixes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..bytes.len()).map(move |end| &bytes[..end])
}

/// A byte string with one byte that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Where the damage is.
    pub at: usize,
    /// The whole string, damage included.
    pub bytes: Vec<u8>,
}

/// `bytes` with each byte damaged in turn, in several ways: each of its eight bits flipped, all of
/// them flipped, and set to 0x00, 0x7f, 0x80 and 0xff. No two results are the same, and none is
/// `bytes`.
pub fn flips(bytes: &[u8]) -> impl Iterator<Item = Flip> {
    bytes.iter().enumerate().flat_map(move |(at, &byte)| {
        let bits = (0..8).map(|bit| byte ^ (1 << bit));
        let mut values: Vec<u8> = bits.chain([!byte, 0x00, 0x7f, 0x80, 0xff]).collect();
        values.sort_unstable();
        values.dedup();
        values.retain(|value| *value != byte);
        values.into_iter().map(move |value| {
            let mut damaged = bytes.to_vec();
            damaged[at] = value;
            Flip { at, bytes: damaged }
        })
    })
}

/// SplitMix64: all that is wanted here is that a seed gives the same numbers everywhere.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 1 to `most`, which must not be 0.
    fn up_to(&mut self, most: usize) -> usize {
        let most = u64::try_from(most).expect("a length of at most 64 bits");
        usize::try_from(self.next() % most + 1).expect("no more than `most`")
    }
}

/// How a [`Relay`] divides the stream into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As it comes.
    Whole,
    /// Pieces of this many bytes, at least 1.
    Every(usize),
    /// Pieces of 1 to `most` bytes; the same seed gives each connection the same sizes.
    Random {
        /// Where the sizes come from.
        seed: u64,
        /// The longest piece, at least 1.
        most: usize,
    },
}

/// What a [`Relay`] does to the client when it has passed on as much as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: the connection stays open, and no byte comes any more.
    Hang,
    /// The end of file, as when the server process exits.
    Close,
    /// A RST, as when the server machine has lost the connection. Through a unix socket, which
    /// has no such thing, the same as `Close`.
    Reset,
}

/// How a [`Relay`] treats each connection. Cuts and pauses apply to both directions.
///
/// ```
/// use std::time::Duration;
/// use testkit::transport::{Cut, Ending, Policy};
///
/// let slow = Policy::cut(Cut::Every(1)).pause(Duration::from_millis(1));
/// let dying = Policy::default().stop_after(100, Ending::Reset);
/// # let _ = (slow, dying);
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    cut: Cut,
    pause: Duration,
    stop: Option<(u64, Ending)>,
}

impl Default for Policy {
    /// Everything as it comes, to the end.
    fn default() -> Self {
        Self::cut(Cut::Whole)
    }
}

impl Policy {
    /// Divides the stream, without a pause, to the end.
    ///
    /// # Panics
    /// If the pieces would be empty.
    pub fn cut(cut: Cut) -> Self {
        assert!(
            !matches!(cut, Cut::Every(0) | Cut::Random { most: 0, .. }),
            "{cut:?}: a piece has at least one byte"
        );
        Self { cut, pause: Duration::ZERO, stop: None }
    }

    /// One byte at a time.
    pub fn one_byte() -> Self {
        Self::cut(Cut::Every(1))
    }

    /// Waits after each piece.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Passes on exactly this many bytes of the server's on each connection, then does as `ending`
    /// says.
    #[must_use]
    pub fn stop_after(self, bytes_from_server: u64, ending: Ending) -> Self {
        Self { stop: Some((bytes_from_server, ending)), ..self }
    }
}

/// A relay in front of a real server, on a loopback port and a unix socket of its own.
///
/// Dropping it ends all connections. If the server cannot be reached, clients see the end of
/// file, as they would when it dies.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use testkit::fake::FakeServer;
/// use testkit::transport::{Ending, Policy, Relay, Target};
///
/// let server = FakeServer::start(|conn| {
///     conn.send(b"a long answer")?;
///     conn.drain()
/// });
/// let policy = Policy::one_byte().stop_after(6, Ending::Close);
/// let relay = Relay::start(Target::port(server.port()), policy);
///
/// let mut answer = String::new();
/// TcpStream::connect(("127.0.0.1", relay.port()))?.read_to_string(&mut answer)?;
/// assert_eq!(answer, "a long");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Relay {
    acceptor: Acceptor<()>,
    from_server: Arc<AtomicU64>,
    /// The connections before this one are silent.
    first_heard: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts a relay in front of `target`.
    ///
    /// # Panics
    /// If the machine has no free port or no folder for temporary files.
    pub fn start(target: Target, policy: Policy) -> Self {
        let from_server = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&from_server);
        let first_heard = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&first_heard);
        let session = move |index, client: Arc<Stream>, live: &Live| {
            if let Ok(server) = target.connect(LIMIT) {
                let server = Arc::new(server);
                live.add(&server);
                let is_silent = || index < heard.load(Ordering::SeqCst);
                relay(&client, &server, &policy, &passed, is_silent);
            }
            Ok(())
        };
        let acceptor = Acceptor::start(session).expect("a loopback port and a unix socket");
        Self { acceptor, from_server, first_heard }
    }

    address_methods!();

    /// From now on nothing is passed on any more, in either direction, on the connections that there
    /// are; later ones are relayed as before. So it is when a firewall forgets its connections, or
    /// another machine takes over a server's address: nobody tells the client.
    pub fn silence(&self) {
        self.first_heard.store(self.acceptor.accepted(), Ordering::SeqCst);
    }

    /// How many bytes of the server's have been passed on, on all connections together: one
    /// undisturbed run tells where [`Policy::stop_after`] can stop the next ones.
    pub fn bytes_from_server(&self) -> u64 {
        self.from_server.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.acceptor.cut();
    }
}

fn relay(
    client: &Stream,
    server: &Stream,
    policy: &Policy,
    from_server: &AtomicU64,
    is_silent: impl Fn() -> bool + Sync,
) {
    let mut to_server = Chopper::new(server, policy);
    let mut to_client = Chopper::new(client, policy);
    let mut left = policy.stop.map_or(u64::MAX, |(bytes, _)| bytes);
    let ending = policy.stop.map_or(Ending::Hang, |(_, ending)| ending);
    if left == 0 && ending != Ending::Hang {
        return end(client, server, ending);
    }
    bridge::join(
        client,
        server,
        |bytes| match is_silent() {
            true => Ok(ControlFlow::Continue(())),
            false => to_server.write(bytes).map(ControlFlow::Continue),
        },
        |bytes| {
            if is_silent() {
                return Ok(ControlFlow::Continue(()));
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let passed = bytes.get(..most).unwrap_or(bytes);
            let count = u64::try_from(passed.len()).unwrap_or(u64::MAX);
            // Counted first: whoever has received the bytes finds them counted.
            from_server.fetch_add(count, Ordering::SeqCst);
            to_client.write(passed)?;
            left -= count;
            if left > 0 {
                return Ok(ControlFlow::Continue(()));
            }
            end(client, server, ending);
            Ok(ControlFlow::Break(()))
        },
    );
}

/// Ends both directions as the policy says; the thread that reads from the client wakes up.
fn end(client: &Stream, server: &Stream, ending: Ending) {
    match ending {
        Ending::Hang => {}
        Ending::Close => {
            client.shutdown(Shutdown::Both);
            server.shutdown(Shutdown::Both);
        }
        Ending::Reset => match client.reset_on_close() {
            // Shut for reading only: shut for writing, it would send a FIN before the RST.
            Ok(true) => {
                client.shutdown(Shutdown::Read);
                server.shutdown(Shutdown::Both);
            }
            _ => end(client, server, Ending::Close),
        },
    }
}

/// Writes in pieces, as a policy says.
struct Chopper<'a> {
    to: &'a Stream,
    cut: Cut,
    random: Random,
    pause: Duration,
}

impl<'a> Chopper<'a> {
    fn new(to: &'a Stream, policy: &Policy) -> Self {
        let seed = match policy.cut {
            Cut::Random { seed, .. } => seed,
            Cut::Whole | Cut::Every(_) => 0,
        };
        Self { to, cut: policy.cut, random: Random(seed), pause: policy.pause }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = match self.cut {
                Cut::Whole => rest.len(),
                Cut::Every(size) => size,
                Cut::Random { most, .. } => self.random.up_to(most),
            };
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            self.to.write_all(piece)?;
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
            rest = tail;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn cuts_are_partitions_and_the_first_two_are_the_extremes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let ways: Vec<_> = cuts(&bytes, 42, 200).collect();
        assert_eq!(ways.len(), 200);
        assert_eq!(ways[0], [&bytes[..]]);
        assert_eq!(ways[1].len(), bytes.len());
        for pieces in &ways {
            assert_eq!(pieces.concat(), bytes);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
        let different: HashSet<Vec<usize>> =
            ways.iter().map(|pieces| pieces.iter().map(|piece| piece.len()).collect()).collect();
        assert!(different.len() > 190, "only {} different ways", different.len());
        assert!(ways.iter().any(|pieces| pieces.len() == 2), "some cuts are coarse");
    }

    #[test]
    fn a_seed_gives_the_same_cuts_and_another_one_others() {
        let cut = |seed| cuts(GREEK, seed, 10).collect::<Vec<_>>();
        assert_eq!(cut(1), cut(1));
        assert_ne!(cut(1), cut(2));
        assert!(cuts(b"", 1, 3).all(|pieces| pieces.is_empty()));
    }

    const GREEK: &[u8] = b"alpha beta gamma delta epsilon";

    #[test]
    fn prefixes_are_all_but_the_whole() {
        let all: Vec<_> = prefixes(b"abc").collect();
        assert_eq!(all, [b"".as_slice(), b"a", b"ab"]);
    }

    #[test]
    fn flips_damage_each_byte_in_every_way_once() {
        let all: Vec<_> = flips(b"\0\xffA").collect();
        let different: HashSet<_> = all.iter().map(|flip| flip.bytes.clone()).collect();
        assert_eq!(different.len(), all.len(), "none comes twice");
        for flip in &all {
            let differing: Vec<_> = (0..3).filter(|i| flip.bytes[*i] != b"\0\xffA"[*i]).collect();
            assert_eq!(differing, [flip.at]);
        }
        let values = |at| all.iter().filter(move |flip| flip.at == at).map(move |f| f.bytes[at]);
        assert_eq!(values(0).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 0x7f, 128, 255]);
        assert_eq!(values(2).count(), 13);
    }
}
