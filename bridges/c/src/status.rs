//! Errors: a code for the program, and a text for whoever reads it.

use atomic_matrix::Error;
use atomic_matrix::ipc::{Failed, Refused, Unanswered, Unreceived, Unsent};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

/// How a call ended. A failed call has changed nothing, unless its page says otherwise;
/// amx_last_error() has the text.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum amx_status {
    /// It did what it should.
    AmxOk = 0,
    /// There is nothing yet: no message, no value.
    AmxEmpty = 1,
    /// There is no room now.
    AmxFull = 2,
    /// The time was over before it could be done.
    AmxTimeout = 3,
    /// Nothing will come any more: the structure was closed or removed, or a stream has ended.
    AmxClosed = 4,
    /// Nobody is at the other end any more.
    AmxDisconnected = 5,
    /// An argument is null, too large, not UTF-8, or an option that can't be used.
    AmxBadArgument = 6,
    /// The buffer is too small; the size says how much is needed.
    AmxBufferTooSmall = 7,
    /// The segment has no room for it.
    AmxOutOfMemory = 8,
    /// It is more than the whole segment has.
    AmxTooLarge = 9,
    /// The block was freed before, or its place is another's by now.
    AmxNotLive = 10,
    /// No block of this segment begins there.
    AmxBadOffset = 11,
    /// It is of another segment.
    AmxForeign = 12,
    /// What is there is of another type.
    AmxWrongType = 13,
    /// Somebody else has it, or it is in a structure, or it is just changing hands.
    AmxOwned = 14,
    /// Every participant slot, subscriber's place or handle is taken.
    AmxNoPlace = 15,
    /// The name, or the key, is taken.
    AmxNameTaken = 16,
    /// Nothing has that name, or that key.
    AmxNameUnknown = 17,
    /// The directory has no entry left.
    AmxDirectoryFull = 18,
    /// A segment of that name exists.
    AmxExists = 19,
    /// No segment of that name exists.
    AmxNotFound = 20,
    /// The system refused it for want of a permission.
    AmxPermission = 21,
    /// The file is no segment that this library can use: of another version, size or kind.
    AmxNotASegment = 22,
    /// The segment is damaged.
    AmxDamaged = 23,
    /// This process was forked from the one that attached: attach anew.
    AmxForked = 24,
    /// The object is in use by another thread, and serves one at a time.
    AmxBusy = 25,
    /// The system failed.
    AmxSystem = 26,
    /// Another error: the text says which.
    AmxOther = 27,
    /// The library has a fault, which ended at the boundary.
    AmxPanic = 28,
}

/// A code and its text.
#[derive(Debug)]
pub(crate) struct Failure {
    status: amx_status,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: amx_status, text: &str) -> Self {
        Self { status, text: text.to_owned() }
    }
    pub(crate) fn bad(text: &str) -> Self {
        Self::new(amx_status::AmxBadArgument, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: status_of(&error), text: error.to_string() }
    }
}
impl From<Unsent> for Failure {
    fn from(why: Unsent) -> Self {
        Self { status: unsent(why), text: why.to_string() }
    }
}
impl From<Unreceived> for Failure {
    fn from(why: Unreceived) -> Self {
        Self { status: unreceived(why), text: why.to_string() }
    }
}

impl From<Refused> for Failure {
    fn from(why: Refused) -> Self {
        Self { status: refused(why), text: why.to_string() }
    }
}
impl From<Failed> for Failure {
    fn from(why: Failed) -> Self {
        Self { status: failed(why), text: why.to_string() }
    }
}
impl From<Unanswered> for Failure {
    fn from(why: Unanswered) -> Self {
        Self { status: unanswered(why), text: why.to_string() }
    }
}

fn status_of(error: &Error) -> amx_status {
    use Error as E;
    use amx_status::*;
    match error {
        E::OutOfMemory { .. } => AmxOutOfMemory,
        E::TooLarge { .. } => AmxTooLarge,
        E::ZeroSize | E::BadAlignment { .. } | E::BadOption { .. } | E::NameTooLong { .. } => AmxBadArgument,
        E::NotLive { .. } | E::Stale { .. } => AmxNotLive,
        E::BadOffset { .. } | E::TooSmall { .. } => AmxBadOffset,
        E::ForeignBlock { .. } => AmxForeign,
        E::TypeMismatch { .. } | E::NotText { .. } => AmxWrongType,
        E::Owned { .. } | E::InStructure { .. } | E::ChangingHands { .. } => AmxOwned,
        E::NoParticipantSlot { .. } | E::NoSubscriberSlot { .. } | E::TooManyHandles { .. } => AmxNoPlace,
        E::NameTaken { .. } => AmxNameTaken,
        E::NameUnknown { .. } => AmxNameUnknown,
        E::DirectoryFull { .. } => AmxDirectoryFull,
        E::Corrupt { .. } => AmxDamaged,
        E::AlreadyExists { .. } => AmxExists,
        E::NotFound { .. } => AmxNotFound,
        E::PermissionDenied { .. } | E::WrongOwner { .. } => AmxPermission,
        E::SegmentTooSmall { .. } | E::SegmentTooLarge { .. } => AmxBadArgument,
        E::SizeMismatch { .. } | E::IdMismatch { .. } | E::LayoutMismatch { .. } | E::NotASegment { .. } => {
            AmxNotASegment
        }
        E::WrongLength { .. } | E::WrongVersion { .. } | E::WrongEndianness { .. } => AmxNotASegment,
        E::HeaderDamaged { .. } | E::Symlink { .. } | E::NotAFile { .. } | E::NotSealed { .. } => AmxNotASegment,
        E::NoDescriptor { .. } | E::NoSpace { .. } | E::FileSizeLimit { .. } | E::Io { .. } | E::NoMembarrier => {
            AmxSystem
        }
        E::ForkedChild { .. } => AmxForked,
        E::NotSent { why } => unsent(*why),
        E::NotReceived { why } => unreceived(*why),
        E::MapRefused { why } => refused(*why),
        E::CallFailed { why } => failed(*why),
        E::NotAnswered { why } => unanswered(*why),
        E::TopicClosed => AmxClosed,
        _ => AmxOther,
    }
}

fn unsent(why: Unsent) -> amx_status {
    match why {
        Unsent::Full => amx_status::AmxFull,
        Unsent::Timeout => amx_status::AmxTimeout,
        Unsent::Closed => amx_status::AmxClosed,
        Unsent::Disconnected { .. } => amx_status::AmxDisconnected,
        Unsent::NotOwn => amx_status::AmxForeign,
        Unsent::NoParticipant => amx_status::AmxNoPlace,
        Unsent::Damaged => amx_status::AmxDamaged,
        _ => amx_status::AmxOther,
    }
}

fn unreceived(why: Unreceived) -> amx_status {
    match why {
        Unreceived::Empty | Unreceived::AllHeld => amx_status::AmxEmpty,
        Unreceived::Timeout => amx_status::AmxTimeout,
        Unreceived::Closed => amx_status::AmxClosed,
        Unreceived::Disconnected { .. } => amx_status::AmxDisconnected,
        Unreceived::OfAnotherType => amx_status::AmxWrongType,
        Unreceived::NoParticipant => amx_status::AmxNoPlace,
        Unreceived::Damaged => amx_status::AmxDamaged,
        _ => amx_status::AmxOther,
    }
}

fn refused(why: Refused) -> amx_status {
    match why {
        Refused::Full => amx_status::AmxFull,
        Refused::Exists => amx_status::AmxNameTaken,
        Refused::Unknown => amx_status::AmxNameUnknown,
        Refused::KeyTooLong => amx_status::AmxBadArgument,
        Refused::OutOfMemory => amx_status::AmxOutOfMemory,
        Refused::NoGuard | Refused::NoParticipant => amx_status::AmxNoPlace,
        Refused::Closed => amx_status::AmxClosed,
        Refused::NotOwn => amx_status::AmxForeign,
        _ => amx_status::AmxOther,
    }
}

fn failed(why: Failed) -> amx_status {
    match why {
        Failed::Unsent { why } => unsent(why),
        Failed::Timeout => amx_status::AmxTimeout,
        Failed::NoServer { .. } | Failed::Unanswered { .. } => amx_status::AmxDisconnected,
        Failed::Busy => amx_status::AmxBusy,
        Failed::OutOfMemory => amx_status::AmxOutOfMemory,
        Failed::OfAnotherType => amx_status::AmxWrongType,
        Failed::NoParticipant => amx_status::AmxNoPlace,
        _ => amx_status::AmxOther,
    }
}

fn unanswered(why: Unanswered) -> amx_status {
    match why {
        Unanswered::Full => amx_status::AmxFull,
        Unanswered::Gone | Unanswered::GivenUp => amx_status::AmxDisconnected,
        Unanswered::NotOwn => amx_status::AmxForeign,
        Unanswered::OutOfMemory => amx_status::AmxOutOfMemory,
        Unanswered::NoParticipant => amx_status::AmxNoPlace,
        _ => amx_status::AmxOther,
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps the text of this thread's last failure. Nothing is kept while the thread ends.
pub(crate) fn note(failure: Failure) -> amx_status {
    let text = CString::new(failure.text.replace('\0', "\u{fffd}")).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(text));
    failure.status
}

/// What went wrong in this thread's last call that failed, and what would help: a text in UTF-8,
/// empty if none has failed. It is good until this thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn amx_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// A code's name, as "AMX_FULL". It is good for ever. An unknown number has the name "AMX_UNKNOWN".
#[unsafe(no_mangle)]
pub extern "C" fn amx_status_name(status: i32) -> *const c_char {
    let names: [&CStr; 29] = [
        c"AMX_OK",
        c"AMX_EMPTY",
        c"AMX_FULL",
        c"AMX_TIMEOUT",
        c"AMX_CLOSED",
        c"AMX_DISCONNECTED",
        c"AMX_BAD_ARGUMENT",
        c"AMX_BUFFER_TOO_SMALL",
        c"AMX_OUT_OF_MEMORY",
        c"AMX_TOO_LARGE",
        c"AMX_NOT_LIVE",
        c"AMX_BAD_OFFSET",
        c"AMX_FOREIGN",
        c"AMX_WRONG_TYPE",
        c"AMX_OWNED",
        c"AMX_NO_PLACE",
        c"AMX_NAME_TAKEN",
        c"AMX_NAME_UNKNOWN",
        c"AMX_DIRECTORY_FULL",
        c"AMX_EXISTS",
        c"AMX_NOT_FOUND",
        c"AMX_PERMISSION",
        c"AMX_NOT_A_SEGMENT",
        c"AMX_DAMAGED",
        c"AMX_FORKED",
        c"AMX_BUSY",
        c"AMX_SYSTEM",
        c"AMX_OTHER",
        c"AMX_PANIC",
    ];
    let name = usize::try_from(status).ok().and_then(|at| names.get(at).copied());
    name.unwrap_or(c"AMX_UNKNOWN").as_ptr()
}
