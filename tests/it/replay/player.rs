//! A transcript that plays the server for an engine without a socket.
//!
//! What the server said is handed out by one rule: an answer can be received as soon as the engine
//! has sent as many messages as stand before it in the transcript.

use std::path::PathBuf;

use chopin_pg::engine::{Encryption, Engine, Statement};
use chopin_pg::{Delivery, PgConfig, ProtocolVersion, Request, Submit};
use testkit::frames::{self, FirstPacket, Frame, FrameBuffer};
use testkit::transcript::{Direction, Transcript};

use super::client::{Client, Log};
use crate::support;

/// Of every role that logs in with one. `cargo xtask transcripts` knows it too.
pub(crate) const PASSWORD: &str = "prelude op. 28";

/// A recorded session.
pub(crate) struct Recorded {
    pub(crate) transcript: Transcript,
    backend: Vec<u8>,
    /// Of each message of the server's: how many of the client's stand before it, and where it ends
    /// in `backend`.
    answers: Vec<(usize, usize)>,
}

impl Recorded {
    /// The session in tests/transcripts with this name.
    #[track_caller]
    pub(crate) fn load(name: &str) -> Self {
        let path = folder().join(name).with_extension("txt");
        let transcript = Transcript::load(path).unwrap_or_else(|error| panic!("{error}"));
        assert!(transcript.is_exact(), "{name}: what is masked cannot be replayed");
        let (mut said, mut end) = (0, 0);
        let mut answers = Vec::new();
        for entry in transcript.entries() {
            match entry.direction() {
                Direction::Frontend => said += 1,
                Direction::Backend => {
                    end += entry.bytes().len();
                    answers.push((said, end));
                }
            }
        }
        Self { backend: transcript.bytes(Direction::Backend), answers, transcript }
    }

    /// Everything that the server said.
    pub(crate) fn backend(&self) -> &[u8] {
        &self.backend
    }

    /// How much the server has said to a client that has sent this many messages.
    fn available(&self, sent: usize) -> usize {
        let heard = self.answers.iter().take_while(|(before, _)| *before <= sent);
        heard.last().map_or(0, |(_, end)| *end)
    }

    /// The configuration that leads to the same first packets.
    fn config(&self) -> (PgConfig, Encryption) {
        let mut packets = self.transcript.entries().iter().filter_map(|entry| {
            let is_ours = entry.direction() == Direction::Frontend;
            is_ours.then(|| FirstPacket::decode(entry.bytes()).expect("a first packet"))
        });
        let (startup, encryption) = match packets.next() {
            Some(FirstPacket::SslRequest) => (packets.next(), Encryption::Preferred),
            first => (first, Encryption::None),
        };
        let Some(FirstPacket::Startup(startup)) = startup else { panic!("no StartupMessage") };
        let param = |name| startup.param(name).unwrap_or_default();
        assert_eq!(startup.version, (3, 0));
        let config = PgConfig::new("localhost", 5432, param("user"), PASSWORD, param("database"))
            .application_name(param("application_name"))
            .max_protocol_version(ProtocolVersion::V3_0);
        (config, encryption)
    }
}

/// The folder of the transcripts.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// An engine that talks to a transcript.
pub(crate) struct Player<'r> {
    pub(crate) engine: Engine,
    recorded: &'r Recorded,
    /// How much of what the server said the engine has received.
    fed: usize,
    /// What the engine has sent.
    said: Vec<u8>,
    said_frames: FrameBuffer,
    /// How many messages that is.
    said_messages: usize,
    in_startup: bool,
}

impl<'r> Player<'r> {
    /// An engine with the first packet pending.
    pub(crate) fn new(recorded: &'r Recorded) -> Self {
        let (config, encryption) = recorded.config();
        Self {
            engine: Engine::start(&config, encryption, None).expect("a configuration"),
            recorded,
            fed: 0,
            said: Vec::new(),
            said_frames: FrameBuffer::new(),
            said_messages: 0,
            in_startup: true,
        }
    }

    /// An engine that is logged in: the recorded login, which has to be one by trust, is passed over
    /// for a shorter one.
    pub(crate) fn logged_in(recorded: &'r Recorded) -> Self {
        let mut player = Self::new(recorded);
        player.send();
        let login = [frames::authentication_ok(), frames::ready_for_query(b'I')].concat();
        support::feed(&mut player.engine, &login);
        while player.engine.next_event().expect("a login").is_some() {}
        assert!(player.engine.is_ready());
        player.fed = player.available();
        player
    }

    /// Everything that is pending goes out.
    pub(crate) fn send(&mut self) {
        self.send_but(|_| false);
    }

    /// Everything that is pending goes out; what `is_other` takes is no part of the recorded
    /// session.
    pub(crate) fn send_but(&mut self, mut is_other: impl FnMut(&Frame) -> bool) {
        let bytes = support::send_all(&mut self.engine);
        if bytes.is_empty() {
            return;
        }
        self.said_frames.push(&bytes);
        self.said.extend(bytes);
        while self.in_startup && self.take_first_packet() {}
        while let Some(frame) = self.take_frame() {
            self.said_messages += usize::from(!is_other(&frame));
        }
    }

    fn take_first_packet(&mut self) -> bool {
        let packet = self.said_frames.take_first_packet().expect("a first packet");
        let Some(packet) = packet else { return false };
        self.said_messages += 1;
        self.in_startup = !matches!(FirstPacket::decode(&packet), Ok(FirstPacket::Startup(_)));
        true
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let frames = (!self.in_startup).then_some(&mut self.said_frames);
        frames.and_then(|frames| frames.take_frame().expect("a message"))
    }

    /// How many bytes the engine can receive now.
    pub(crate) fn available(&self) -> usize {
        self.recorded.available(self.said_messages) - self.fed
    }

    /// The engine receives the next `count` bytes.
    pub(crate) fn feed(&mut self, count: usize) {
        let bytes = &self.recorded.backend[self.fed..self.fed + count];
        support::feed(&mut self.engine, bytes);
        self.fed += count;
    }
}

/// A client whose server is a transcript, which is received in given pieces.
pub(crate) struct Replay<'r> {
    player: Player<'r>,
    /// How long the pieces are, in reverse order.
    pieces: Vec<usize>,
    delivery: Delivery,
    log: Log,
}

/// What came of a replay.
pub(crate) struct Replayed {
    pub(crate) log: Log,
    /// What the engine has sent.
    pub(crate) said: Vec<u8>,
}

impl<'r> Replay<'r> {
    /// Plays a whole session: the login, the script, and the Terminate unless it has ended before.
    pub(crate) fn run(
        recorded: &'r Recorded,
        script: &dyn Fn(&mut dyn Client),
        delivery: Delivery,
        pieces: &[&[u8]],
    ) -> Replayed {
        let pieces = pieces.iter().rev().map(|piece| piece.len()).collect();
        let player = Player::new(recorded);
        let mut replay = Self { player, pieces, delivery, log: Log::default() };
        replay.settle();
        script(&mut replay);
        replay.player.engine.terminate();
        replay.player.send();
        let (log, player) = (replay.log, replay.player);
        assert_eq!(player.fed, recorded.backend.len(), "not all was heard:\n{}", log.text());
        Replayed { log, said: player.said }
    }
}

impl Client for Replay<'_> {
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn submit(&mut self, request: Request<'_>, submit: Submit) {
        let ticket = self.player.engine.submit(request, submit).expect("a request");
        self.log.submitted(ticket);
    }

    fn end_group(&mut self) {
        self.player.engine.end_group();
    }

    fn settle(&mut self) {
        loop {
            self.player.send();
            let available = self.player.available();
            if available == 0 {
                break;
            }
            let piece = self.pieces.pop().expect("the pieces are all of it");
            // A piece cannot hold what the server has not said yet.
            let count = piece.min(available);
            self.pieces.extend((piece > count).then_some(piece - count));
            self.player.feed(count);
            self.log.hear(&mut self.player.engine);
        }
        let engine = &self.player.engine;
        let text = format!("status {:?}", engine.session().transaction_status());
        assert_eq!(engine.in_flight(), 0, "the transcript has no answer:\n{}", self.log.text());
        self.log.line(None, &text);
    }

    fn statement(&mut self) -> Statement {
        self.log.statement.take().expect("a statement was prepared")
    }
}
