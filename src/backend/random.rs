//! Random numbers of the kernel's: for names that nobody else has.

use crate::kernel::again;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// 128 random bits: of getrandom(2), or of `/dev/urandom` where the call is refused.
///
/// # Errors
/// What getrandom(2) said, if neither is to be had.
pub(crate) fn random() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole.
    let refused = match again(|| getrandom(&mut bytes, GetRandomFlags::empty())) {
        Ok(16) => return Ok(u128::from_ne_bytes(bytes)),
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    };
    let mut read = || {
        let file = again(|| rustix::fs::open("/dev/urandom", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?;
        again(|| rustix::io::read(&file, &mut bytes))
    };
    if read() == Ok(16) { Ok(u128::from_ne_bytes(bytes)) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_number_comes_twice() {
        assert_ne!(super::random(), super::random());
    }
}
