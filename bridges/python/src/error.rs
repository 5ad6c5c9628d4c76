//! The library's errors as Python's exceptions, which `atomic_matrix._errors` declares.

use atomic_matrix::Error;
use atomic_matrix::ipc::{self, Failed, Refused, Unreceived, Unsent};
use pyo3::{PyErr, import_exception};

import_exception!(atomic_matrix._errors, MatrixError);
import_exception!(atomic_matrix._errors, Timeout);
import_exception!(atomic_matrix._errors, Closed);
import_exception!(atomic_matrix._errors, Disconnected);
import_exception!(atomic_matrix._errors, Unanswered);
import_exception!(atomic_matrix._errors, Released);
import_exception!(atomic_matrix._errors, Viewed);
import_exception!(atomic_matrix._errors, ForkedChild);
import_exception!(atomic_matrix._errors, OutOfMemory);
import_exception!(atomic_matrix._errors, NoPlace);
import_exception!(atomic_matrix._errors, TypeMismatch);
import_exception!(atomic_matrix._errors, NameTaken);
import_exception!(atomic_matrix._errors, NameUnknown);
import_exception!(atomic_matrix._errors, SegmentExists);
import_exception!(atomic_matrix._errors, SegmentNotFound);
import_exception!(atomic_matrix._errors, PermissionDenied);
import_exception!(atomic_matrix._errors, BadOption);

/// The exception for an error.
pub fn raised(error: Error) -> PyErr {
    let text = in_python(error.to_string());
    match error {
        Error::OutOfMemory { .. } | Error::TooLarge { .. } | Error::NoSpace { .. } | Error::FileSizeLimit { .. } => {
            OutOfMemory::new_err(text)
        }
        Error::ForkedChild { .. } => forked(),
        Error::NoParticipantSlot { .. }
        | Error::NoSubscriberSlot { .. }
        | Error::TooManyHandles { .. }
        | Error::DirectoryFull { .. } => NoPlace::new_err(text),
        Error::TypeMismatch { name, found, .. } => {
            let named = name.map_or("what has that name".to_owned(), |name| format!("{name:?}"));
            let is = found.map_or(String::new(), |found| format!(" is {found}:"));
            TypeMismatch::new_err(format!(
                "{named}{is} it is of another sort, or carries another type than bytes ([u8] in Rust); open it as \
                 what it is, or take another name"
            ))
        }
        Error::NameTaken { .. } => NameTaken::new_err(text),
        Error::NameUnknown { .. } => NameUnknown::new_err(text),
        Error::AlreadyExists { .. } => SegmentExists::new_err(text),
        Error::NotFound { .. } => SegmentNotFound::new_err(text),
        Error::PermissionDenied { .. } | Error::WrongOwner { .. } => PermissionDenied::new_err(text),
        Error::BadOption { .. }
        | Error::NameTooLong { .. }
        | Error::SizeMismatch { .. }
        | Error::SegmentTooSmall { .. }
        | Error::SegmentTooLarge { .. } => BadOption::new_err(text),
        Error::TopicClosed => Closed::new_err(text),
        Error::NotSent { why } => unsent(why),
        Error::NotReceived { why } => unreceived(why),
        Error::MapRefused { why } => refused(why),
        Error::CallFailed { why } => failed(why),
        Error::NotAnswered { why } => unanswered(why),
        _ => MatrixError::new_err(text),
    }
}

/// The exception for what was not sent.
pub fn unsent(why: Unsent) -> PyErr {
    let text = in_python(why.to_string());
    match why {
        Unsent::Full | Unsent::Timeout => Timeout::new_err(
            "there was no room until the time was over; receive faster, wait longer (timeout=None waits for as \
             long as it takes), or make it larger. The message is still yours",
        ),
        Unsent::Closed => Closed::new_err(text),
        Unsent::Disconnected { .. } => Disconnected::new_err(text),
        Unsent::NoParticipant => NoPlace::new_err(text),
        _ => MatrixError::new_err(text),
    }
}

/// The exception for what was not received.
pub fn unreceived(why: Unreceived) -> PyErr {
    let text = in_python(why.to_string());
    match why {
        Unreceived::Empty | Unreceived::AllHeld | Unreceived::Timeout => Timeout::new_err(text),
        Unreceived::Closed => Closed::new_err(text),
        Unreceived::Disconnected { .. } => Disconnected::new_err(text),
        Unreceived::NoParticipant => NoPlace::new_err(text),
        Unreceived::OfAnotherType => TypeMismatch::new_err(text),
        _ => MatrixError::new_err(text),
    }
}

/// The exception for what a map refuses.
pub fn refused(why: Refused) -> PyErr {
    let text = in_python(why.to_string());
    match why {
        Refused::OutOfMemory => OutOfMemory::new_err(text),
        Refused::Closed => Closed::new_err(text),
        Refused::Full | Refused::NoGuard | Refused::NoParticipant => NoPlace::new_err(text),
        Refused::KeyTooLong => BadOption::new_err(text),
        _ => MatrixError::new_err(text),
    }
}

/// The exception for a call without a response.
pub fn failed(why: Failed) -> PyErr {
    let text = in_python(why.to_string());
    match why {
        Failed::Unsent { why } => unsent(why),
        Failed::Timeout => Timeout::new_err(text),
        Failed::NoServer { .. } => Disconnected::new_err(text),
        Failed::Unanswered { .. } => Unanswered::new_err(text),
        Failed::OutOfMemory => OutOfMemory::new_err(text),
        Failed::OfAnotherType => TypeMismatch::new_err(text),
        Failed::NoParticipant => NoPlace::new_err(text),
        _ => MatrixError::new_err(text),
    }
}

/// The exception for a response that was not sent.
pub fn unanswered(why: ipc::Unanswered) -> PyErr {
    let text = in_python(why.to_string());
    match why {
        ipc::Unanswered::Full => Timeout::new_err(text),
        ipc::Unanswered::Gone | ipc::Unanswered::GivenUp => Disconnected::new_err(text),
        ipc::Unanswered::OutOfMemory => OutOfMemory::new_err(text),
        ipc::Unanswered::NoParticipant => NoPlace::new_err(text),
        _ => MatrixError::new_err(text),
    }
}

/// A forked child uses what its parent has attached to.
pub fn forked() -> PyErr {
    ForkedChild::new_err(
        "this process was forked, and what its parent had open stays its parent's; attach anew here \
         (Segment.attach), and open channels, topics, boards and maps by name",
    )
}

/// Options by the names that they have here: `size=`, where Rust has `Options::size`.
fn in_python(text: String) -> String {
    let mut told = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("Options::") {
        // `MapOptions::capacity`
        told.push_str(before.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()));
        let end = after.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(after.len());
        told.push_str(&after[..end]);
        told.push('=');
        rest = &after[end..];
    }
    told.push_str(rest);
    told.replace("call heal(), ", "")
}
