//! Messages that are kept for a program that fetches them later: bounded, and no loss is silent.

use std::collections::VecDeque;

use crate::engine::Notification;
use crate::error::Notice;

/// The most messages of a kind that a connection keeps.
const MOST: usize = 4096;

/// The most bytes of texts that they may have together.
const MOST_BYTES: usize = 4 << 20;

/// A message with texts in it.
pub(super) trait Weighed {
    /// About how much memory its texts take, in bytes.
    fn size(&self) -> usize;
}

impl Weighed for Notice {
    fn size(&self) -> usize {
        let texts = [
            &self.detail,
            &self.hint,
            &self.internal_query,
            &self.context,
            &self.schema,
            &self.table,
            &self.column,
            &self.data_type,
            &self.constraint,
            &self.file,
            &self.routine,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let others: usize = self.other_fields.iter().map(|(_, value)| value.len()).sum();
        self.localized_severity.len() + self.message.len() + texts + others
    }
}

impl Weighed for Notification {
    fn size(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

/// A queue in which the oldest messages give way to new ones.
#[derive(Debug)]
pub(super) struct Kept<T> {
    queue: VecDeque<T>,
    bytes: usize,
    dropped: u64,
}

impl<T: Weighed> Kept<T> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    /// Keeps a message. The newest one is kept however large it is.
    pub(super) fn keep(&mut self, message: T) {
        self.bytes += message.size();
        self.queue.push_back(message);
        while self.queue.len() > MOST || (self.bytes > MOST_BYTES && self.queue.len() > 1) {
            if let Some(oldest) = self.queue.pop_front() {
                self.bytes -= oldest.size();
                self.dropped += 1;
            }
        }
    }

    /// Takes all messages, oldest first.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.bytes = 0;
        self.queue.drain(..)
    }

    /// How many messages have given way so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(payload: usize) -> Notification {
        Notification { process_id: 1, channel: String::new(), payload: "x".repeat(payload) }
    }

    #[test]
    fn the_oldest_give_way_by_number_and_by_size() {
        let mut kept = Kept::new();
        (0..MOST + 3).for_each(|_| kept.keep(notification(1)));
        assert_eq!((kept.drain().count(), kept.dropped()), (MOST, 3));

        (0..5).for_each(|_| kept.keep(notification(MOST_BYTES / 4)));
        assert_eq!((kept.drain().count(), kept.dropped()), (4, 4));

        kept.keep(notification(1));
        kept.keep(notification(MOST_BYTES + 1));
        let left: Vec<_> = kept.drain().collect();
        assert_eq!((left.len(), left[0].payload.len()), (1, MOST_BYTES + 1));
    }
}
