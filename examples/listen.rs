//! Prints what is notified, for as long as one likes: connects again when the connection is lost,
//! and says when something may have been missed.
//!
//! `cargo run --example listen -- jobs news`; DATABASE_URL says where the server is. Then, in psql:
//! `notify jobs, '42'`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chopin_pg::{ListenerEvent, PgConfig, PgListener};
use clap::Parser;

/// How long Ctrl-C may take to be noticed.
const LOOK: Duration = Duration::from_millis(200);

/// Prints the notifications of channels.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where the server is
    #[arg(long, env = "DATABASE_URL", default_value = "postgres://localhost/postgres")]
    pub(crate) url: String,
    /// End after so many notifications
    #[arg(long)]
    pub(crate) count: Option<usize>,
    /// What to listen to
    #[arg(required = true)]
    pub(crate) channels: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    ctrlc::set_handler(move || stopped.store(true, Ordering::Relaxed))?;
    let heard = run(&options, &stop, &mut io::stdout().lock())?;
    eprintln!("{heard} notifications");
    Ok(())
}

/// Listens until it is stopped or has heard enough; how many notifications came.
pub(crate) fn run(
    options: &Options,
    stop: &AtomicBool,
    out: &mut impl Write,
) -> Result<usize, Box<dyn std::error::Error>> {
    let config = PgConfig::from_url(&options.url)?.application_name("listen");
    // The first connect tells its error: most likely the URL is wrong.
    let mut listener = PgListener::connect(&config, options.channels.iter().map(String::as_str))?;
    writeln!(out, "listening to {}", options.channels.join(", "))?;
    let mut heard = 0;
    while !stop.load(Ordering::Relaxed) && options.count.is_none_or(|count| heard < count) {
        match listener.wait_event(LOOK) {
            Some(ListenerEvent::Notification(notification)) => {
                heard += 1;
                let (channel, payload) = (notification.channel, notification.payload);
                writeln!(out, "{channel} (process {}): {payload}", notification.process_id)?;
            }
            Some(ListenerEvent::Lost { error }) => writeln!(out, "connection lost: {error}")?,
            Some(ListenerEvent::ConnectFailed { error }) => {
                writeln!(out, "no connection: {error}")?
            }
            // A program that keeps something in step reads all of it anew here.
            Some(ListenerEvent::Reconnected) => {
                writeln!(out, "connected again; notifications may have been missed")?;
            }
            Some(ListenerEvent::Notice(notice)) => writeln!(out, "{notice}")?,
            _ => {}
        }
    }
    Ok(heard)
}
