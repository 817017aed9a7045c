//! Checked reading of little-endian fields: nothing is trusted, nothing is allocated.

/// What is wrong with a field, in words. Whoever reads the field knows the file and the field's name.
pub(super) type Problem = String;

/// A position in a file's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader that starts at byte `at`, which may lie behind the end: every read fails then.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// All bytes, from the first on.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(format!("needs {n} bytes at offset {}, the file has {} left", self.at, self.left()));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes, for a number.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A 64-bit number.
    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `least` bytes each, so that as many can be in the file at all.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Problem> {
        let count = self.u64()?;
        let fit = self.left() / least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= fit => Ok(count),
            _ => Err(format!("claims {count} entries, the rest of the file holds at most {fit}")),
        }
    }

    /// A string of at most `most` bytes.
    pub(super) fn string(&mut self, most: usize) -> Result<&'a str, Problem> {
        let length = self.u64()?;
        let length =
            usize::try_from(length).ok().filter(|&l| l <= most.min(self.left())).ok_or_else(|| {
                format!("claims a string of {length} bytes, at most {} are possible", most.min(self.left()))
            })?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|e| format!("is not UTF-8: {e}"))
    }
}
