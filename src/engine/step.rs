//! Consuming what was received: one message after the other, until one leads to something.

use super::Engine;
use super::buffer::Next;
use crate::error::{BufferOverflow, PgError, PgResult};

/// What one step over the receive buffer led to. It points to nothing: the borrow of the buffer
/// begins after the loop, by what the engine has noted of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next of the events that stand in no received byte.
    Pending,
    /// No whole message is there.
    Starved,
    /// A message was consumed; what it caused, if anything, is in `pending`.
    Consumed,
    /// A row of the current request was found.
    Row,
    /// The columns of the current request are known.
    Columns,
    /// A command is done; its tag was found.
    Command,
    /// A request is complete.
    Complete,
    /// A piece of the data of the current request, a COPY, was found.
    CopyData,
    /// The connection is broken, and everything has been told before.
    Broken,
}

impl Engine {
    /// [`next_event`](Self::next_event) in two halves: this one moves on, and returns what
    /// [`event`](Self::event) makes the event of. It borrows nothing, so a caller can look at it in
    /// a loop and keep the one event that it wants.
    #[inline]
    pub(crate) fn advance(&mut self) -> Step {
        if !self.pending.is_empty() {
            debug_assert!(self.row_run.is_none(), "rows would be taken before what is pending");
            return Step::Pending;
        }
        // What goes on here is found without the preparations for what can be anything.
        if self.ended > 0 {
            debug_assert!(
                self.row_run.is_none(),
                "rows would be taken behind the end of their group"
            );
            let step = self.complete_next();
            if step != Step::Consumed {
                return step;
            }
        } else if self.is_idle() {
            return Step::Starved;
        }
        self.step_on()
    }

    /// [`advance`](Self::advance) by what has been received, most of all.
    fn step_on(&mut self) -> Step {
        self.row_run = None;
        loop {
            if !self.pending.is_empty() {
                return Step::Pending;
            }
            let step = if self.ended > 0 { self.complete_next() } else { self.step() };
            if step != Step::Consumed {
                return step;
            }
        }
    }

    /// Whether nothing has been received that has not been looked at, and nothing else is to be told.
    #[inline]
    fn is_idle(&self) -> bool {
        self.recv.is_released()
            && self.startup.is_none()
            && self.broken.is_none()
            && self.end.is_none()
    }

    /// Consumes one message, or several that lead to nothing.
    #[inline]
    fn step(&mut self) -> Step {
        if self.startup.is_none() && self.broken.is_none() {
            let step = self.step_usual();
            if step != Step::Starved {
                return step;
            }
        }
        self.step_unusual()
    }

    /// Consumes one message of any kind, or finds that there is none.
    fn step_unusual(&mut self) -> Step {
        if self.broken.is_some() {
            return Step::Broken;
        }
        let step = match self.startup {
            None => self.step_any(),
            Some(_) => self.step_before_ready(),
        };
        match step {
            Ok(Step::Starved) => self.starved(),
            Ok(step) => step,
            Err(error) => {
                self.break_with(error);
                Step::Consumed
            }
        }
    }

    /// No whole message is there, and if the transport has ended none will come.
    fn starved(&mut self) -> Step {
        if let Some(error) = self.end.take() {
            self.break_with(error);
            return Step::Consumed;
        }
        // What passed through a login is wiped first, at its end.
        if self.startup.is_none() {
            self.recv.release_if_empty();
        }
        Step::Starved
    }

    /// Consumes one message, whatever it is.
    fn step_any(&mut self) -> PgResult<Step> {
        match self.recv.next(self.limits.message_size)? {
            Next::Message(message) => {
                if let (true, Some(frame)) = (self.tracing.is_on(), self.recv.frame(message)) {
                    self.tracing.received(frame);
                }
                self.step_answer(message)
            }
            Next::Incomplete => Ok(Step::Starved),
            Next::TooLong(size) => Err(too_long(size, self.limits.message_size)),
        }
    }
}

#[cold]
fn too_long(size: u64, limit: usize) -> PgError {
    PgError::BufferOverflow(Box::new(BufferOverflow {
        size,
        limit: limit as u64,
        setting: "max_message_size",
    }))
}
