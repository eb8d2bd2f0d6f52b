//! Messages that are kept for a program that fetches them later: bounded, and no loss is silent.

use std::collections::VecDeque;

use crate::config::PgConfig;
use crate::engine::Notification;
use crate::error::Notice;

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
    /// How many there may be.
    most: usize,
    /// How many bytes their texts may have together.
    most_bytes: usize,
}

impl<T: Weighed> Kept<T> {
    pub(super) fn new(config: &PgConfig) -> Self {
        let (most, most_bytes) = (config.get_max_kept_messages(), config.get_max_kept_bytes());
        Self { queue: VecDeque::new(), bytes: 0, dropped: 0, most, most_bytes }
    }

    /// Keeps a message. The newest one is kept however large it is.
    pub(super) fn keep(&mut self, message: T) {
        self.bytes += message.size();
        self.queue.push_back(message);
        while self.queue.len() > self.most || (self.bytes > self.most_bytes && self.queue.len() > 1)
        {
            if self.pop().is_some() {
                self.dropped += 1;
            }
        }
    }

    /// Takes the oldest message.
    pub(super) fn pop(&mut self) -> Option<T> {
        let oldest = self.queue.pop_front()?;
        self.bytes -= oldest.size();
        Some(oldest)
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
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

    fn kept(most: usize, most_bytes: usize) -> Kept<Notification> {
        let config = PgConfig::new("localhost", 5432, "ada", "", "shop");
        Kept::new(&config.max_kept_messages(most).max_kept_bytes(most_bytes))
    }

    #[test]
    fn h43_the_oldest_give_way_by_number_and_by_size() {
        let mut kept = kept(100, 1000);
        (0..103).for_each(|_| kept.keep(notification(1)));
        assert_eq!((kept.len(), kept.drain().count(), kept.dropped()), (100, 100, 3));

        (0..5).for_each(|_| kept.keep(notification(250)));
        assert_eq!((kept.drain().count(), kept.dropped()), (4, 4));

        kept.keep(notification(1));
        kept.keep(notification(1001));
        let left: Vec<_> = kept.drain().collect();
        assert_eq!((left.len(), left[0].payload.len()), (1, 1001));
    }

    #[test]
    fn what_is_taken_makes_room() {
        let mut kept = kept(100, 1000);
        for _ in 0..10 {
            (0..4).for_each(|_| kept.keep(notification(250)));
            (0..4).for_each(|_| assert!(kept.pop().is_some()));
        }
        assert_eq!((kept.len(), kept.dropped()), (0, 0));
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let mut kept = kept(0, 0);
        kept.keep(notification(1));
        assert_eq!((kept.len(), kept.dropped()), (0, 1));
    }
}
