//! What one transaction's messages mean for who may speak next, and when it is over.
//!
//! Pure: it sees tags and frames, and knows neither sockets nor which server connection is meant.
//! The documentation's chapter "Message Flow" is what it goes by.
//!
//! The messages up to a Sync, a Query or a FunctionCall are a *group*, and the server answers each
//! group with one ReadyForQuery. A group is passed on as it comes, the next one only after that
//! answer: so it never depends on timing whether two pipelined groups share a transaction's server
//! connection. At most one answer is due at any moment.

use crate::frames::{Frame, message};

/// What is to be done with a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server gets it.
    Pass,
    /// It is dropped: a server that gets it says nothing, because the COPY that it belongs to has
    /// failed.
    Ignore,
    /// The client leaves.
    Leave,
    /// It is none of what this pooler understands here; the text says why.
    Refuse(&'static str),
}

/// The message that an awaited ReadyForQuery answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ender {
    /// Query or FunctionCall.
    Query,
    Sync,
}

/// How far a transaction has come; the default is: it has not begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    /// Messages have been passed on that no Sync has ended.
    group_open: bool,
    /// What has been passed on and not been answered with ReadyForQuery.
    due: Option<Ender>,
    /// The server wants COPY data.
    copying_in: bool,
}

impl Exchange {
    /// Whether the client's next message, whatever it is, has to wait for the server's answer.
    pub(super) fn awaits_answer(&self) -> bool {
        self.due.is_some() && !self.copying_in
    }

    /// What to do with the client's next message, by its tag, when it need not wait.
    pub(super) fn verdict(&self, tag: u8) -> Verdict {
        match tag {
            b'X' => Verdict::Leave,
            b'd' | b'c' | b'f' if self.copying_in || self.group_open => Verdict::Pass,
            b'd' | b'c' | b'f' => Verdict::Ignore,
            b'H' | b'S' => Verdict::Pass,
            _ if self.copying_in => {
                Verdict::Refuse("nothing but COPY data can be sent during COPY FROM STDIN")
            }
            b'Q' | b'F' if self.group_open => {
                Verdict::Refuse("a Query came before the Sync of the messages in front of it")
            }
            _ => Verdict::Pass,
        }
    }

    /// A message of the client's has been passed on.
    pub(super) fn said(&mut self, tag: u8) {
        match tag {
            b'c' | b'f' => self.copying_in = false,
            // A server that takes COPY data ignores these two.
            b'H' | b'S' if self.copying_in => {}
            b'd' => {}
            b'Q' | b'F' => self.due = Some(Ender::Query),
            b'S' => (self.group_open, self.due) = (false, Some(Ender::Sync)),
            _ => self.group_open = true,
        }
    }

    /// The server has said something; `true` when the transaction is over.
    pub(super) fn heard(&mut self, frame: &Frame) -> bool {
        match frame.tag {
            b'G' => {
                self.copying_in = true;
                // The Sync behind the Execute is among those that the server ignores.
                if self.due == Some(Ender::Sync) {
                    (self.group_open, self.due) = (true, None);
                }
            }
            b'E' => self.copying_in = false,
            b'Z' => {
                *self = Self::default();
                return frame.body == b"I";
            }
            _ => {}
        }
        false
    }

    /// What is said for a client that is gone and has left its transaction unfinished, when it need
    /// not wait.
    ///
    /// A lone Sync would commit what the client has not. The ROLLBACK is sent by the extended
    /// protocol, so that one ReadyForQuery follows in any case: when the group has failed already,
    /// the server skips everything to the Sync.
    pub(super) fn farewell(&self) -> Vec<u8> {
        if self.copying_in {
            return message(b'f', b"the client has gone\0");
        }
        [
            message(b'P', b"\0ROLLBACK\0\0\0"),
            message(b'B', b"\0\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::FrameBuffer;

    /// Plays a course: `>` and the tags that the client says, which are all to be passed on,
    /// `<` and the tags that the server says, with the status behind each `Z`.
    #[track_caller]
    fn after(course: &str) -> Exchange {
        let mut exchange = Exchange::default();
        let mut from_client = true;
        let mut bytes = course.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b' ' => {}
                b'>' => from_client = true,
                b'<' => from_client = false,
                tag if from_client => {
                    assert!(!exchange.awaits_answer(), "{course}");
                    assert_eq!(exchange.verdict(tag), Verdict::Pass, "{course}");
                    exchange.said(tag);
                }
                tag => {
                    let body = if tag == b'Z' { vec![bytes.next().unwrap()] } else { Vec::new() };
                    let over = exchange.heard(&Frame { tag, body: body.clone() });
                    assert_eq!(over, body == b"I", "{course}");
                }
            }
        }
        exchange
    }

    #[test]
    fn a_group_ends_at_its_sync_and_the_next_one_waits_for_the_answer() {
        for unfinished in ["", ">P", ">PBDE", ">PH <1", ">PBE <E", ">Q <CZT", ">S <ZE"] {
            assert!(!after(unfinished).awaits_answer(), "{unfinished}");
        }
        for ended in [">Q", ">F", ">S", ">PBES", ">PBES <12", ">PBES <E", ">Q <E", ">Q <ZT >S"] {
            assert!(after(ended).awaits_answer(), "{ended}");
        }
    }

    #[test]
    fn copy_data_follows_a_query_that_wants_it() {
        assert!(!after(">Q <G >ddHSd").awaits_answer());
        assert!(after(">Q <G >dc").awaits_answer());
        assert!(after(">Q <G >df").awaits_answer());
        assert!(after(">Q <G >d <E").awaits_answer());
        assert_eq!(after(">Q <G >d <EZI").verdict(b'd'), Verdict::Ignore);
        assert!(matches!(after(">Q <G >d").verdict(b'Q'), Verdict::Refuse(_)));
    }

    #[test]
    fn the_sync_in_front_of_copy_data_is_none() {
        assert!(!after(">PBES <12G >Sdd").awaits_answer());
        assert!(after(">PBES <12G >ddcS").awaits_answer());
        assert_eq!(after(">PBES <12G >ddcS <CZI"), Exchange::default());
        // The data behind an error goes where the server ignores it, up to the Sync.
        assert_eq!(after(">PBES <12G >d <E >ddcS <ZI"), Exchange::default());
    }

    #[test]
    fn a_terminate_is_one_anywhere() {
        for course in ["", ">PB", ">Q <ZT", ">Q <G >d"] {
            assert_eq!(after(course).verdict(b'X'), Verdict::Leave, "{course}");
        }
    }

    #[test]
    fn a_query_inside_a_group_is_refused() {
        assert!(matches!(after(">PBE").verdict(b'Q'), Verdict::Refuse(_)));
        assert!(matches!(after(">PH").verdict(b'F'), Verdict::Refuse(_)));
    }

    #[test]
    fn a_farewell_can_be_said_and_ends_the_transaction() {
        let farewell = |course| {
            let mut buffer = FrameBuffer::new();
            buffer.push(&after(course).farewell());
            let mut tags = String::new();
            while let Some(frame) = buffer.take_frame().unwrap() {
                tags.push(char::from(frame.tag));
            }
            tags
        };
        for course in [">PBE", ">PBE <E", ">Q <ZT", ">Q <ZE"] {
            assert_eq!(farewell(course), "PBES", "{course}");
            assert!(after(&format!("{course} >PBES")).awaits_answer(), "{course}");
        }
        // After COPY it is either the answer to the Query that comes, or another farewell.
        for (course, answered) in [(">Q <G >d", true), (">PBES <12G >d", false)] {
            assert_eq!(farewell(course), "f", "{course}");
            assert_eq!(after(&format!("{course} >f")).awaits_answer(), answered, "{course}");
        }
    }
}
