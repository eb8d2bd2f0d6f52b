//! Two sockets joined so that what one says, the other hears: what the relay and the recorder
//! have in common. Knows no protocol; what happens to the bytes on their way is the caller's.

use std::io;
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::thread;

use crate::socket::{Stream, read_some};

/// What a direction does with bytes it has read: pass them on and continue, or stop the direction
/// and leave both sockets as they are. An error says that the other side takes no more.
pub(crate) type Passed = io::Result<ControlFlow<()>>;

/// Runs both directions until each has ended or was stopped. The end of file of one side becomes
/// the end of file for the other, while the opposite direction goes on.
pub(crate) fn join<C, S>(client: &Stream, server: &Stream, to_server: C, to_client: S)
where
    C: FnMut(&[u8]) -> Passed + Send,
    S: FnMut(&[u8]) -> Passed,
{
    thread::scope(|scope| {
        scope.spawn(move || pump(client, server, to_server));
        pump(server, client, to_client);
    });
}

fn pump(from: &Stream, to: &Stream, mut pass: impl FnMut(&[u8]) -> Passed) {
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = match read_some(from, &mut buffer) {
            Ok(count @ 1..) => count,
            Ok(0) | Err(_) => return to.shutdown(Shutdown::Write),
        };
        match pass(buffer.get(..count).unwrap_or_default()) {
            Ok(ControlFlow::Continue(())) => {}
            // When the listener has gone, the opposite direction reads its end of file, tells
            // the speaker, and with both directions done the sockets are closed.
            Ok(ControlFlow::Break(())) | Err(_) => return,
        }
    }
}
