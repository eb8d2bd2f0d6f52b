//! Errors on their way through [`std::io`]: into the traits `Read` and `Write`, and out again.

use std::io;

use super::PgError;

impl From<io::Error> for PgError {
    /// What [`io::Error::from`] has put into it comes out again. Else `WouldBlock` becomes
    /// [`PgError::WouldBlock`]; every other kind stays [`PgError::Io`].
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::WouldBlock,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<PgError> for io::Error {
    /// An I/O error stays what it is; any other error is inside, and `PgError::from` gets it out
    /// again.
    fn from(error: PgError) -> Self {
        let kind = match &error {
            PgError::Timeout(_) => io::ErrorKind::TimedOut,
            PgError::ConnectionClosed(_) => io::ErrorKind::ConnectionAborted,
            PgError::WouldBlock => io::ErrorKind::WouldBlock,
            PgError::Usage(_) | PgError::Parameter(_) => io::ErrorKind::InvalidInput,
            PgError::Protocol(_) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        match error {
            PgError::Io(error) => error,
            error => Self::new(kind, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_out_as_it_went_in() {
        let usage = PgError::Usage("not like this".to_owned());
        let error = io::Error::from(usage.clone());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), usage.to_string());
        assert!(matches!(PgError::from(error), PgError::Usage(_)));

        let error = io::Error::from(PgError::Io(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(matches!(PgError::from(error), PgError::Io(_)));

        for error in [PgError::WouldBlock, PgError::RolledBack, PgError::Busy] {
            let text = error.to_string();
            assert_eq!(PgError::from(io::Error::from(error)).to_string(), text);
        }
        let plain = io::Error::from(io::ErrorKind::WouldBlock);
        assert!(matches!(PgError::from(plain), PgError::WouldBlock));
    }
}
