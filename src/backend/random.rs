//! Random numbers of the kernel's: for names that nobody else has.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::Read;

/// How often an interrupted call is made again.
const TRIES: u32 = 64;

/// 128 random bits: of getrandom(2), or of `/dev/urandom` where the call is refused.
///
/// # Errors
/// What getrandom(2) said, if neither is to be had.
pub(crate) fn random() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    let mut refused = Errno::INTR;
    for _ in 0..TRIES {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            // Up to 256 bytes come whole.
            Ok(16) => return Ok(u128::from_ne_bytes(bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                refused = errno;
                break;
            }
        }
    }
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map(|()| u128::from_ne_bytes(bytes)).map_err(|_| refused)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_number_comes_twice() {
        assert_ne!(super::random(), super::random());
    }
}
