//! The versions of the frontend/backend protocol, as a setting.

use std::fmt;

use crate::wire::frontend::{PROTOCOL_3_0, PROTOCOL_3_2};

/// The newest protocol version to ask the server for.
///
/// ```
/// use chopin_pg::ProtocolVersion;
///
/// assert!(ProtocolVersion::V3_0 < ProtocolVersion::V3_2);
/// assert_eq!(ProtocolVersion::LATEST.to_string(), "3.2");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// 3.0, which every server and every pooler speaks.
    #[default]
    V3_0,
    /// 3.2 (PostgreSQL 18): longer keys for cancelling.
    V3_2,
}

impl ProtocolVersion {
    /// The newest version that this driver speaks.
    pub const LATEST: Self = Self::V3_2;

    /// The minor version: 0 or 2.
    pub const fn minor(self) -> u16 {
        match self {
            Self::V3_0 => 0,
            Self::V3_2 => 2,
        }
    }

    /// The version as it stands in a startup packet: major * 65536 + minor.
    ///
    /// ```
    /// # use chopin_pg::ProtocolVersion;
    /// assert_eq!(ProtocolVersion::V3_2.code(), 0x0003_0002);
    /// ```
    pub const fn code(self) -> i32 {
        match self {
            Self::V3_0 => PROTOCOL_3_0,
            Self::V3_2 => PROTOCOL_3_2,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_0 => "3.0",
            Self::V3_2 => "3.2",
        })
    }
}
