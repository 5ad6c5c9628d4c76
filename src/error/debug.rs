//! What `{:?}` prints of an error.

use super::Error;

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if f.alternate() { self.fields(f) } else { std::fmt::Display::fmt(self, f) }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    /// `main` prints what it returns by `{:?}`.
    #[test]
    fn a_program_that_ends_with_an_error_prints_its_message() {
        let error = Error::TooLarge { requested: 7, largest: 5 };
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(error.to_string().contains("make a larger segment"));
        let fields = format!("{error:#?}");
        assert!(fields.starts_with("TooLarge {") && fields.contains("requested: 7") && fields.contains("largest: 5"));
        assert_eq!(format!("{:#?}", Error::ZeroSize), "ZeroSize");
    }
}
