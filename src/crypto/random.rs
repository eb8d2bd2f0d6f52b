//! Random bytes from the operating system.
//!
//! A nonce that can be guessed lets a recorded SCRAM exchange be replayed, so there is one source,
//! the operating system's, and its failure is an error: no weaker one is put in its place.
//!
//! | system | source |
//! |---|---|
//! | Linux, Android | the `getrandom` system call; `/dev/urandom` on kernels before 3.17 that lack it |
//! | macOS, iOS | `getentropy` |
//! | any other | `/dev/urandom` |

use std::io;

/// Fills `buffer` with random bytes fit for cryptography.
///
/// It may wait early during the system's start, until the kernel has gathered enough entropy.
///
/// # Errors
///
/// If the operating system has none to give. The buffer's content is of no use then.
pub(crate) fn random(buffer: &mut [u8]) -> io::Result<()> {
    #[cfg(test)]
    if chosen::fill(buffer) {
        return Ok(());
    }
    system::random(buffer)
}

/// Bytes that a test has chosen: the replay of a recorded exchange needs those of back then.
#[cfg(test)]
pub(crate) mod chosen {
    use std::cell::RefCell;

    thread_local! {
        static NEXT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    }

    /// The next call on this thread that asks for so many bytes gets these.
    pub(crate) fn choose(bytes: Vec<u8>) {
        NEXT.set(Some(bytes));
    }

    pub(super) fn fill(buffer: &mut [u8]) -> bool {
        let fits = |bytes: &mut Vec<u8>| bytes.len() == buffer.len();
        let next = NEXT.with_borrow_mut(|next| next.take_if(fits));
        if let Some(bytes) = &next {
            buffer.copy_from_slice(bytes);
        }
        next.is_some()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use super::{fill, fill_from_device, io};

    pub(super) fn random(buffer: &mut [u8]) -> io::Result<()> {
        fill_or_fall_back(buffer, getrandom, fill_from_device)
    }

    /// Fills from `call`, or from `device` where the kernel does not know the call.
    pub(super) fn fill_or_fall_back(
        buffer: &mut [u8],
        call: impl FnMut(&mut [u8]) -> io::Result<usize>,
        device: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match fill(buffer, call) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => device(buffer),
            result => result,
        }
    }

    /// One `getrandom` call; it may be interrupted and it may give less than was asked for.
    ///
    /// By number, because the C libraries that Rust still supports do not all have the function.
    #[allow(unsafe_code)]
    fn getrandom(buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the kernel writes at most `len` bytes to the address, and both describe
        // `buffer`, which is exclusively borrowed for the call.
        let written =
            unsafe { libc::syscall(libc::SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(any(target_os = "macos", target_os = "ios"))]
mod system {
    use super::{fill, io};

    /// The most that one `getentropy` call gives.
    const CALL_LIMIT: usize = 256;

    pub(super) fn random(buffer: &mut [u8]) -> io::Result<()> {
        fill(buffer, getentropy)
    }

    /// One `getentropy` call for as much of `buffer` as it may ask for.
    #[allow(unsafe_code)]
    fn getentropy(buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(CALL_LIMIT);
        // SAFETY: the call writes `length` bytes to the address, which are within `buffer`,
        // exclusively borrowed for the call.
        match unsafe { libc::getentropy(buffer.as_mut_ptr().cast(), length) } {
            0 => Ok(length),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios"
)))]
mod system {
    pub(super) use super::fill_from_device as random;
}

/// Fills `buffer` from the kernel's random device.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
fn fill_from_device(buffer: &mut [u8]) -> io::Result<()> {
    use io::Read as _;

    let mut device = std::fs::File::open("/dev/urandom")?;
    fill(buffer, |rest| device.read(rest))
}

/// Calls `source` until it has filled `buffer`, again after an interruption by a signal.
///
/// `source` returns how many bytes it wrote to the front of what it was given.
fn fill(
    buffer: &mut [u8],
    mut source: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let missing = buffer.len() - filled;
        match source(&mut buffer[filled..]) {
            Ok(written) if (1..=missing).contains(&written) => filled += written,
            Ok(_) => {
                return Err(io::Error::other(
                    "the operating system's random source gave no usable answer",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h32_random_fills_every_length() {
        for length in [0, 1, 18, 255, 256, 257, 4096, 100_000] {
            let mut bytes = vec![0; length];
            random(&mut bytes).expect("the system has random bytes");
            // 2^-256 that the last 32 of a filled buffer are zeros.
            if let Some(end) = bytes.last_chunk::<32>() {
                assert_ne!(end, &[0; 32], "{length} bytes asked for");
            }
        }
    }

    #[test]
    fn h32_random_differs_each_time() {
        let draws: std::collections::HashSet<[u8; 18]> = (0..1000)
            .map(|_| {
                let mut bytes = [0; 18];
                random(&mut bytes).expect("the system has random bytes");
                bytes
            })
            .collect();
        assert_eq!(draws.len(), 1000);
    }

    #[test]
    fn h32_random_source_failing_is_an_error() {
        let mut bytes = [0; 8];
        let denied = fill(&mut bytes, |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(denied.unwrap_err().kind(), io::ErrorKind::PermissionDenied);

        let ended = fill(&mut bytes, |_| Ok(0));
        assert!(ended.unwrap_err().to_string().contains("no usable answer"));

        let lying = fill(&mut bytes, |rest| Ok(rest.len() + 1));
        assert!(lying.unwrap_err().to_string().contains("no usable answer"));

        let mut calls = 0;
        let late = fill(&mut bytes, |rest| {
            calls += 1;
            if rest.len() > 4 { Ok(1) } else { Err(io::Error::other("gone")) }
        });
        assert_eq!(late.unwrap_err().to_string(), "gone");
        assert_eq!(calls, 5);
    }

    #[test]
    fn h32_random_goes_on_after_interruptions_and_short_answers() {
        let mut bytes = [0; 7];
        let mut next = 0;
        fill(&mut bytes, |rest| {
            next += 1;
            if next % 2 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let (front, _) = rest.split_at_mut(rest.len().min(2));
            front.fill(next);
            Ok(front.len())
        })
        .expect("interruptions are no failure");
        assert_eq!(bytes, [1, 1, 3, 3, 5, 5, 7]);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn h32_random_falls_back_only_where_the_call_is_unknown() {
        let refused = |code| move |_: &mut [u8]| Err(io::Error::from_raw_os_error(code));
        let mut bytes = [0; 4];

        system::fill_or_fall_back(&mut bytes, refused(libc::ENOSYS), |rest| {
            rest.fill(9);
            Ok(())
        })
        .expect("the device answers");
        assert_eq!(bytes, [9; 4]);

        let no_device = |_: &mut [u8]| Err(io::Error::other("no device"));
        let error = system::fill_or_fall_back(&mut bytes, refused(libc::ENOSYS), no_device);
        assert_eq!(error.unwrap_err().to_string(), "no device");

        let unused = |_: &mut [u8]| -> io::Result<()> { unreachable!("the call is known") };
        let error = system::fill_or_fall_back(&mut bytes, refused(libc::EIO), unused);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    #[test]
    fn h32_random_device_is_a_source_too() {
        let mut bytes = [0; 64];
        fill_from_device(&mut bytes).expect("/dev/urandom can be read");
        assert_ne!(bytes, [0; 64]);
    }
}
