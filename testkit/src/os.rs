//! The two system calls that the standard library (as of Rust 1.85) has no safe name for. The only
//! unsafe code of the cluster half.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether to wait for a lock that somebody else holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Come back with `WouldBlock`.
    Try,
    /// Sleep in the kernel until the lock is free.
    Wait,
}

/// Takes an exclusive `flock` on an open file. It is released when the last descriptor of this
/// open file is closed, so also when the process dies.
#[allow(unsafe_code)]
pub(crate) fn lock_exclusively(file: &File, patience: Patience) -> io::Result<()> {
    let operation = match patience {
        Patience::Try => libc::LOCK_EX | libc::LOCK_NB,
        Patience::Wait => libc::LOCK_EX,
    };
    loop {
        // SAFETY: `file` keeps its descriptor open during the call; no memory is touched.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes the command the leader of a session of its own, out of reach of the terminal's signals
/// and of runners that kill a test's process group.
#[allow(unsafe_code)]
pub(crate) fn in_own_session(command: &mut Command) {
    let become_leader = || {
        // SAFETY: setsid takes no arguments and touches no memory.
        match unsafe { libc::setsid() } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: the closure runs in the child between fork and exec. It calls setsid, which is
    // async-signal-safe, and builds an io::Error from errno, which allocates nothing.
    unsafe { command.pre_exec(become_leader) };
}

/// Whether there is a process with this id, whoever's it is.
#[allow(unsafe_code)]
pub(crate) fn process_exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is not delivered; the call touches no memory.
    let sent = unsafe { libc::kill(pid, 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
