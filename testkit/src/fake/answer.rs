//! The everyday answers, so that a script need not spell them out.

use super::{FakeConn, FakeError};
use crate::frames::{self, Bind, Column, Frame, Subject};

/// The result of a statement: a command tag, with or without rows.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// `None` for a command that returns no rows.
    columns: Option<Vec<Column<'a>>>,
    /// DataRow messages.
    rows: Vec<Vec<u8>>,
    tag: Option<String>,
    parameters: Option<Vec<u32>>,
    /// The transaction status in ReadyForQuery.
    status: u8,
}

impl<'a> Answer<'a> {
    /// No rows, just a command tag such as `INSERT 0 1`.
    pub fn command(tag: &str) -> Self {
        Self { columns: None, tag: Some(tag.to_owned()), ..Self::rows(&[]) }
    }

    /// Rows of these columns, none at first; the tag is `SELECT` with their number.
    pub fn rows(columns: &[Column<'a>]) -> Self {
        let columns = Some(columns.to_vec());
        Self { columns, rows: Vec::new(), tag: None, parameters: None, status: b'I' }
    }

    /// Sets another transaction status than idle: `b'T'`, or `b'E'` for a failed transaction.
    #[must_use]
    pub fn status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// Adds a row; `None` is NULL. The bytes are sent as they are, in whatever format they are.
    #[must_use]
    pub fn row(mut self, cells: &[Option<&[u8]>]) -> Self {
        self.rows.push(frames::data_row(cells));
        self
    }

    /// Sets another command tag.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Sets the types that ParameterDescription reports, instead of those that the client's
    /// Parse declared.
    #[must_use]
    pub fn parameters(mut self, type_oids: &[u32]) -> Self {
        self.parameters = Some(type_oids.to_vec());
        self
    }

    fn execution(&self) -> Vec<u8> {
        let mut bytes = self.rows.concat();
        match &self.tag {
            Some(tag) => bytes.extend(frames::command_complete(tag)),
            None => {
                bytes.extend(frames::command_complete(&format!("SELECT {}", self.rows.len())));
            }
        }
        bytes
    }

    /// RowDescription, its formats as `format` says for each column, or NoData.
    fn description(&self, format: impl Fn(usize) -> i16) -> Vec<u8> {
        let Some(columns) = &self.columns else {
            return frames::no_data();
        };
        let with_format =
            |(index, column): (usize, &Column<'a>)| Column { format: format(index), ..*column };
        let columns: Vec<_> = columns.iter().enumerate().map(with_format).collect();
        frames::row_description(&columns)
    }
}

impl FakeConn {
    /// Answers a simple Query that has been received: RowDescription and rows if there are
    /// columns, CommandComplete, and ReadyForQuery with status idle.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn answer_query(&mut self, answer: &Answer<'_>) -> Result<(), FakeError> {
        let mut bytes = Vec::new();
        if let Some(columns) = &answer.columns {
            bytes.extend(frames::row_description(columns));
        }
        bytes.extend(answer.execution());
        bytes.extend(frames::ready_for_query(answer.status));
        self.send(&bytes)
    }

    /// Receives the messages of one group of the extended protocol, whichever the client chooses,
    /// and answers each as a server would, ReadyForQuery at the Sync. Gives back
    /// what was received, the Sync included.
    ///
    /// As a server does, it sends when a Flush or the Sync comes, describes a statement with
    /// the formats 0, and a portal with those that its Bind asked for. The cells must have that
    /// format already.
    ///
    /// ```
    /// use testkit::fake::{Answer, FakeServer};
    /// use testkit::frames::Column;
    /// # use std::io::{Read, Write};
    ///
    /// let server = FakeServer::start(|conn| {
    ///     conn.login()?;
    ///     let answer = Answer::rows(&[Column::int4("n")]).row(&[Some(&1i32.to_be_bytes())]);
    ///     let group = conn.answer_extended(&answer)?;
    ///     assert_eq!(group[0].as_parse()?.sql, "SELECT $1");
    ///     assert_eq!(group[1].as_bind()?.params, [Some(b"1".to_vec())]);
    ///     conn.expect_eof()
    /// });
    /// # let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port()))?;
    /// # client.write_all(b"\0\0\0\x11\0\x03\0\0user\0me\0\0")?;
    /// # client.write_all(b"P\0\0\0\x11\0SELECT $1\0\0\0")?;
    /// # client.write_all(b"B\0\0\0\x11\0\0\0\0\0\x01\0\0\0\x011\0\0")?;
    /// # client.write_all(b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04")?;
    /// # client.shutdown(std::net::Shutdown::Write)?;
    /// # client.read_to_end(&mut Vec::new())?;
    /// # server.join();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// A message that does not belong into such a group, an Execute with a row limit that the
    /// rows exceed (suspending a portal has to be scripted), or as [`receive`](Self::receive)
    /// and [`send`](Self::send).
    pub fn answer_extended(&mut self, answer: &Answer<'_>) -> Result<Vec<Frame>, FakeError> {
        let mut received = Vec::new();
        let mut declared = Vec::new();
        let mut bind: Option<Bind> = None;
        let mut pending = Vec::new();
        loop {
            let frame = self.receive()?;
            match frame.tag {
                b'P' => {
                    declared = frame.as_parse()?.type_oids;
                    pending.extend(frames::parse_complete());
                }
                b'B' => {
                    bind = Some(frame.as_bind()?);
                    pending.extend(frames::bind_complete());
                }
                b'D' => match frame.as_describe()? {
                    Subject::Statement(_) => {
                        let oids = answer.parameters.as_ref().unwrap_or(&declared);
                        pending.extend(frames::parameter_description(oids));
                        pending.extend(answer.description(|_| 0));
                    }
                    Subject::Portal(_) => {
                        let format =
                            |index| bind.as_ref().map_or(0, |bind| bind.result_format(index));
                        pending.extend(answer.description(format));
                    }
                },
                b'E' => {
                    let limit = frame.as_execute()?.max_rows;
                    if limit > 0 && usize::try_from(limit).is_ok_and(|n| n < answer.rows.len()) {
                        return Err("answer_extended cannot suspend a portal".into());
                    }
                    pending.extend(answer.execution());
                }
                b'C' => {
                    frame.as_close()?;
                    pending.extend(frames::close_complete());
                }
                b'H' => self.send(&std::mem::take(&mut pending))?,
                b'S' => {
                    pending.extend(frames::ready_for_query(answer.status));
                    self.send(&pending)?;
                    received.push(frame);
                    return Ok(received);
                }
                _ => {
                    let came = frame.describe(frames::Direction::Frontend);
                    return Err(format!("no part of an extended query: {came}").into());
                }
            }
            received.push(frame);
        }
    }
}
