//! Limits that the program set, or left at their defaults, and that were reached.

use std::fmt;
use std::time::Duration;

/// Which time limit ran out, and what the driver was doing then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// The setting that allowed this much time, such as `io_timeout`.
    pub setting: &'static str,
    /// The setting's value.
    pub value: Duration,
    /// What was not finished in time, such as `waiting for the answer to a query`.
    pub doing: &'static str,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, doing } = self;
        let value = show_duration(*value);
        write!(f, "timed out after {value} while {doing} ({setting} = {value})")
    }
}

/// Which size limit was reached. Nothing was sent, or the rest of the message was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferOverflow {
    /// How many bytes there would be.
    pub size: u64,
    /// How many are allowed.
    pub limit: u64,
    /// The setting that holds the limit.
    pub setting: &'static str,
}

impl fmt::Display for BufferOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, limit, setting } = self;
        write!(f, "{size} bytes are more than the limit of {limit} bytes ({setting} = {limit})")
    }
}

/// A duration with a blank before its unit: `5 s`, `1.5 s`, `250 ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let text = format!("{duration:?}");
    match text.find(char::is_alphabetic) {
        Some(unit) => {
            let (number, unit) = text.split_at(unit);
            format!("{number} {unit}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_8_a_timeout_names_its_setting_and_its_value() {
        let value = Duration::from_secs(5);
        let doing = "waiting for the answer to a query";
        let timeout = Timeout { setting: "io_timeout", value, doing };
        assert_eq!(
            timeout.to_string(),
            "timed out after 5 s while waiting for the answer to a query (io_timeout = 5 s)"
        );
    }

    #[test]
    fn s4_8_durations_have_the_unit_that_fits() {
        let show = |millis| show_duration(Duration::from_millis(millis));
        assert_eq!(show(0), "0 ns");
        assert_eq!(show(250), "250 ms");
        assert_eq!(show(1_500), "1.5 s");
        assert_eq!(show(90_000), "90 s");
        assert_eq!(show_duration(Duration::from_micros(20)), "20 µs");
    }

    #[test]
    fn s4_8_an_overflow_names_size_and_limit() {
        let overflow = BufferOverflow { size: 2_000, limit: 1_024, setting: "max_message_size" };
        assert_eq!(
            overflow.to_string(),
            "2000 bytes are more than the limit of 1024 bytes (max_message_size = 1024)"
        );
    }
}
