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
    /// There is no driver for the device on this machine.
    #[error("no CUDA driver on this machine; install NVIDIA's driver, or compute on the CPU")]
    NoDriver,
    /// The driver is older than this program needs.
    #[error(
        "CUDA driver `{found}` is too old for runtime `{needed}`; update the driver, or compute on the CPU"
    )]
    DriverTooOld {
        /// CUDA version of the driver.
        found: Version,
        /// CUDA version of the runtime in this program.
        needed: Version,
    },
    /// A driver, but not this device.
    #[error("CUDA device `{index}` does not exist, there are `{found}`; compute on the CPU")]
    NoDevice {
        /// The device that was asked for, from 0.
        index: usize,
        /// Devices that there are.
        found: usize,
    },
    /// A device whose memory other programs have taken.
    #[error(
        "CUDA device `{index}` has no memory free; end the programs that have it (nvidia-smi lists them), or compute on the CPU"
    )]
    DeviceFull {
        /// The device, from 0.
        index: usize,
    },
    /// A device that this program holds no code for.
    #[error("`{name}` has compute capability `{found}`, at least `{needed}` is needed; compute on the CPU")]
    DeviceTooOld {
        /// The device's name.
        name: String,
        /// Its compute capability.
        found: Version,
        /// The lowest that there is code for.
        needed: Version,
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

/// A version as `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// After the point.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
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
