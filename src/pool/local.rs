//! The pool of a thread.

use std::cell::RefCell;

use super::{Closing, PgPool, PgPoolConfig};
use crate::config::PgConfig;
use crate::error::{PgError, PgResult};

thread_local! {
    static POOL: RefCell<Option<PgPool>> = const { RefCell::new(None) };
}

/// Makes the pool of this thread: up to `max_size` connections to the server of `url`, of which the
/// first is opened at once. [`pool`] returns it from anywhere on this thread. It is closed when the
/// thread ends.
///
/// ```no_run
/// use std::thread;
///
/// let worker = thread::spawn(|| -> chopin_pg::PgResult<i64> {
///     chopin_pg::init_pool("postgres://frederic:secret@localhost/music", 4)?;
///     chopin_pg::pool().get()?.query_one("select count(*) from works", &[])?.get(0)
/// });
/// # let _ = worker;
/// ```
///
/// For other settings there is [`PgPool::install`].
///
/// # Errors
///
/// [`PgError::Usage`] when this thread has a pool already; those of [`PgPool::connect`].
pub fn init_pool(url: &str, max_size: usize) -> PgResult<()> {
    check_none()?;
    PgPool::connect(PgConfig::from_url(url)?, max_size)?.install()
}

/// The pool of this thread, as a handle of its own.
///
/// On a thread without one, also while the thread ends, it is a closed pool: every call on it fails
/// with an error that says so.
pub fn pool() -> PgPool {
    let found = POOL.try_with(|pool| pool.borrow().clone());
    let why = match found {
        Ok(Some(pool)) => return pool,
        Ok(None) => "this thread has no pool: call init_pool first",
        Err(_) => "this thread ends, and its pool is gone",
    };
    let closing = Some(Closing { why, deadline: None });
    PgPool::with_closing(PgConfig::new("", 0, "", "", ""), PgPoolConfig::new(), closing)
}

impl PgPool {
    /// Makes this the pool of the thread, which [`pool`] returns: [`init_pool`] with settings of your
    /// own, or without waiting.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] when this thread has a pool already, or ends.
    pub fn install(&self) -> PgResult<()> {
        check_none()?;
        let installed = POOL.try_with(|pool| *pool.borrow_mut() = Some(self.clone()));
        installed.map_err(|_| PgError::Usage("this thread ends: it gets no pool".to_owned()))
    }
}

fn check_none() -> PgResult<()> {
    let has_one = POOL.try_with(|pool| pool.borrow().is_some()).unwrap_or(false);
    if has_one {
        return Err(PgError::Usage("this thread has a pool already".to_owned()));
    }
    Ok(())
}
