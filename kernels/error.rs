/// What can go wrong in a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A buffer, a weight or a batch does not have the shape that the operation needs: a programming
    /// error of the caller, or a model whose tensors do not fit together.
    #[error("`{what}`: expected `{expected}`, got `{got}`")]
    Shape {
        /// Which operand.
        what: &'static str,
        /// The shape that is needed.
        expected: String,
        /// The shape that was given.
        got: String,
    },
    /// A batch refers to a token, a slot or a row that does not exist.
    #[error("batch: `{what}` is `{got}`, must be below `{limit}`")]
    Batch {
        /// Which field.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The first value that is too large.
        limit: usize,
    },
    /// Memory for a buffer could not be had.
    #[error("out of memory: `{what}` needs `{bytes}` bytes; use a smaller context or a smaller model")]
    OutOfMemory {
        /// What was to be allocated.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The device's own library failed.
    #[error("device `{device}`: {message}")]
    Device {
        /// Name of the device.
        device: &'static str,
        /// The library's words.
        message: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An index or a count that must be below `limit`.
pub(crate) fn below(what: &'static str, got: usize, limit: usize) -> Result<()> {
    if got < limit { Ok(()) } else { Err(Error::Batch { what, got, limit }) }
}

/// A length that must be exactly `expected`.
pub(crate) fn equal(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        Ok(())
    } else {
        Err(Error::Shape { what, expected: expected.to_string(), got: got.to_string() })
    }
}
