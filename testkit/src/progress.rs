//! Says on standard error what takes long: a spinner on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One thing that takes long. Ends with [`Progress::done`]; dropped before that, it failed.
pub(crate) struct Progress {
    what: String,
    since: Instant,
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Announces what is being done, such as "fetching PostgreSQL 18 with npm".
    pub(crate) fn start(what: impl Into<String>) -> Progress {
        let what = what.into();
        let spinner = stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(what.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            say(&format!("{what} ..."));
        }
        Progress { what, since: Instant::now(), spinner }
    }

    /// The thing is done.
    pub(crate) fn done(mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        say(&format!("{}: done in {:.1} s", self.what, self.since.elapsed().as_secs_f32()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

/// One line to standard error itself: `eprintln!` would be swallowed by a test's output capture.
pub(crate) fn say(line: &str) {
    // Nobody can be told that telling failed.
    let _ = writeln!(stderr(), "testkit: {line}");
}
