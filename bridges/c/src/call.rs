//! The boundary: what every function does with its arguments, its result, and a panic.

use crate::status::{Failure, amx_status, note};
use std::any::Any;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Where a function puts what it made. It holds nothing before.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;
/// A handle in the caller's hands.
pub(crate) type Handle<T> = Option<Box<T>>;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Runs a function's body: its failure is noted for [`amx_last_error`](crate::amx_last_error), and
/// its panic ends here.
///
/// What a panic may have left half done is behind the library's own handles, which hold no
/// invariant across calls that a panic breaks: shared words change by single steps, and the dead
/// and the panicked are the same to them.
pub(crate) fn call(body: impl FnOnce() -> Outcome) -> amx_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => amx_status::AmxOk,
        Ok(Err(failure)) => note(failure),
        Err(panic) => note(Failure::new(amx_status::AmxPanic, &what_panicked(&*panic))),
    }
}

/// As [`call`], for functions that answer with a number: that of a failure is `otherwise`.
pub(crate) fn answer<T>(otherwise: T, body: impl FnOnce() -> Outcome<T>) -> T {
    let mut answer = otherwise;
    call(|| {
        answer = body()?;
        Ok(())
    });
    answer
}

fn what_panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the library panicked, which is a fault of it: {}", text.unwrap_or("(no message)"))
}

/// An argument that may not be null.
pub(crate) fn given<T>(argument: Option<T>, name: &str) -> Outcome<T> {
    argument.ok_or_else(|| Failure::bad(&format!("{name} is null; pass a pointer")))
}

/// Puts what was made where the caller wants it.
pub(crate) fn give<T>(out: Out<'_, T>, name: &str, make: impl FnOnce() -> Outcome<T>) -> Outcome {
    given(out, name)?.write(make()?);
    Ok(())
}

/// A string of the caller's.
pub(crate) fn text<'a>(argument: *const c_char, name: &str) -> Outcome<&'a str> {
    if argument.is_null() {
        return Err(Failure::bad(&format!("{name} is null; pass a string")));
    }
    // SAFETY: the header asks for a string that ends with a zero byte, and that nobody changes
    // during the call.
    let text = unsafe { CStr::from_ptr(argument) };
    text.to_str().map_err(|_| Failure::bad(&format!("{name} is not UTF-8; names are")))
}

/// Bytes of the caller's. None may be at any address.
pub(crate) fn bytes<'a>(data: *const u8, size: usize) -> Outcome<&'a [u8]> {
    check(data, size)?;
    if size == 0 {
        return Ok(&[]);
    }
    // SAFETY: the header asks for as many readable bytes, which nobody changes during the call.
    Ok(unsafe { std::slice::from_raw_parts(data, size) })
}

/// Copies as much into the caller's buffer as there is, if it is large enough; says in any case how
/// much that is.
pub(crate) fn copy_out(from: &[u8], buffer: *mut u8, capacity: usize, size: Out<'_, usize>) -> Outcome {
    check(buffer, capacity)?;
    given(size, "size")?.write(from.len());
    if from.len() > capacity {
        let told = format!("the buffer has {capacity} bytes, {} are needed; pass a larger one", from.len());
        return Err(Failure::new(amx_status::AmxBufferTooSmall, &told));
    }
    if !from.is_empty() {
        // SAFETY: the header asks for as many writable bytes, which nobody else uses during the
        // call; they are none of `from`'s, which is the library's own, or a value that nobody writes.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), buffer, from.len()) };
    }
    Ok(())
}

fn check(data: *const u8, size: usize) -> Outcome {
    match data.is_null() && size > 0 {
        true => Err(Failure::bad(&format!("data is null, but {size} bytes were announced; pass a pointer to them"))),
        false if size > isize::MAX as usize => Err(Failure::bad("no buffer is as large as that; check the size")),
        false => Ok(()),
    }
}

/// A time to wait in nanoseconds. The longest one is 584 years.
pub(crate) fn timeout(nanoseconds: u64) -> Duration {
    Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::amx_last_error;

    /// No program can make the library panic: here is what would happen.
    #[test]
    fn a_panic_ends_at_the_boundary() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let told = [call(|| panic!("one of {}", 2)), call(|| panic!("a word"))];
        let answered = answer(7, || panic!("a number"));
        std::panic::set_hook(hook);
        assert_eq!((told, answered), ([amx_status::AmxPanic; 2], 7));
        // SAFETY: a string of this thread's, good until the next call that fails.
        let text = unsafe { CStr::from_ptr(amx_last_error()) };
        assert!(text.to_str().expect("UTF-8").ends_with("a number"), "{text:?}");
    }
}
