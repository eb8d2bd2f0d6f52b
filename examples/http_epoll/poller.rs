//! Epoll, and whose the descriptors in it are.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use chopin_pg::pool::SourceChange;
use rustix::event::epoll::{self, EventData, EventFlags};

/// Whose a descriptor is: the upper 16 bits of its number in epoll. The 48 bits below are the owner's;
/// the tokens of a pool fit into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// One that listens for clients.
    Listener,
    /// One by which the program is told to end.
    Wake,
    /// A client; the number is its own.
    Client,
    /// A connection of the pool for what is quick.
    QuickPool,
    /// A connection of the pool for what is slow.
    SlowPool,
}

const SPACES: [Space; 5] =
    [Space::Listener, Space::Wake, Space::Client, Space::QuickPool, Space::SlowPool];

const BITS: u32 = 48;

impl Space {
    /// The number of a descriptor of this owner.
    pub(crate) fn with(self, number: u64) -> EventData {
        EventData::new_u64(((self as u64) << BITS) | number)
    }

    /// The owner, and the owner's number.
    pub(crate) fn split(data: EventData) -> Option<(Self, u64)> {
        let data = data.u64();
        let space = usize::try_from(data >> BITS).ok().and_then(|at| SPACES.get(at).copied())?;
        Some((space, data & ((1 << BITS) - 1)))
    }
}

/// Does as a pool says. Descriptors of a pool are never watched for nothing, because epoll tells a
/// hang-up even then.
///
/// # Errors
///
/// Those of epoll.
pub(crate) fn watch(epoll: &OwnedFd, space: Space, change: SourceChange<'_>) -> io::Result<()> {
    let SourceChange { fd, token, before, after, .. } = change;
    let Some(interest) = after else { return Ok(epoll::delete(epoll, fd)?) };
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    set(epoll, fd, space.with(token.into()), before.is_some(), flags)
}

/// Watches a descriptor that is new, or `is_known`, for `flags`.
///
/// # Errors
///
/// Those of epoll.
pub(crate) fn set(
    epoll: &OwnedFd,
    fd: BorrowedFd<'_>,
    data: EventData,
    is_known: bool,
    flags: EventFlags,
) -> io::Result<()> {
    match is_known {
        true => epoll::modify(epoll, fd, data, flags)?,
        false => epoll::add(epoll, fd, data, flags)?,
    }
    Ok(())
}
