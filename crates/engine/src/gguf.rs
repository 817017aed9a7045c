//! GGUF files: versions 2 and 3 are read, memory-mapped; version 3 is written.
//!
//! Source of the format: `docs/gguf.md` of the ggml project. This module owns the container: keys, values,
//! tensor table, data, files split into parts. It knows nothing of architectures (see [`crate::config`]).
//!
//! A file is a stranger's word. Every length, count, type and offset is checked against the file's size
//! before it is used, and no allocation is larger than the file.

mod metadata;
mod part;
mod read;
mod split;
mod tensor;
mod value;
mod write;

use std::path::{Path, PathBuf};

use coder_kernels::QuantRows;

pub use metadata::{Metadata, Strings};
pub use tensor::TensorInfo;
pub use value::{Array, Value};
pub use write::{Header, Writer};

use crate::{Error, Result};
use part::{Part, Storage};

/// An open GGUF file, or all parts of one that is split.
#[derive(Debug)]
pub struct Gguf {
    /// The first has the metadata.
    parts: Vec<Part>,
    /// Every tensor: the part and where in it the record begins; in the names' order.
    tensors: Vec<(u32, usize)>,
}

impl Gguf {
    /// Maps the file at `path`, or the whole set if it is a part of one: any part will do.
    pub fn open(path: &Path) -> Result<Self> {
        Self::join(split::open_all(Part::open(path)?)?)
    }

    /// Reads a file that is in memory; `label` stands for its path in messages. It cannot be a part of a set.
    pub fn from_bytes(label: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let part = Part::parse(label.into(), Storage::Owned(bytes))?;
        split::must_be_whole(&part)?;
        Self::join(vec![part])
    }

    /// The file with the metadata.
    pub fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// All files of it, that one first.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.parts[0].version
    }

    /// Keys and values.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata { part: &self.parts[0] }
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.tensors.iter().filter_map(|&place| self.tensor_at(place))
    }

    /// All tensors, in the order of their data: part by part, from front to back.
    pub fn stored_tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        self.parts.iter().flat_map(|part| part.tensors.iter().filter_map(|&at| part.tensor_at(at)))
    }

    /// Every key of the file with the metadata and its record (key, type and value as they stand there), in
    /// the file's order.
    pub(crate) fn key_records(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parts[0].key_records()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'_>> {
        let found = self.tensors.binary_search_by(|&place| self.name_at(place).cmp(name)).ok()?;
        self.tensor_at(self.tensors[found])
    }

    /// The tensor of this name as rows: `shape` is `[cols]`, `[cols, rows]` or `[cols, rows, experts]`, and
    /// experts lie one behind the other. An error if it is absent, of another shape or of an unsupported type.
    pub fn rows(&self, name: &str, shape: &[usize]) -> Result<QuantRows<'_>> {
        let Some(tensor) = self.tensor(name) else { return Err(self.bad_tensor(name, "is missing".into())) };
        if !same_shape(tensor.shape(), shape) {
            let problem = format!("has the shape {:?}, the model needs {shape:?}", tensor.shape());
            return Err(self.bad_tensor(name, problem));
        }
        let [cols, rows @ ..] = tensor.shape() else { return Err(self.bad_tensor(name, "is empty".into())) };
        let rows = rows.iter().product();
        QuantRows::new(tensor.kind()?, rows, *cols, tensor.data())
            .map_err(|e| self.bad_tensor(name, e.to_string()))
    }

    /// Bytes of all tensors' data.
    pub fn data_bytes(&self) -> usize {
        self.parts.iter().map(Part::data_bytes).sum()
    }

    /// Gives back the memory that `data`, a slice of a tensor, takes until it is read again.
    pub(crate) fn release(&self, data: &[u8]) {
        self.parts.iter().for_each(|part| part.release(data));
    }

    /// Puts the parts' tensors into one table.
    fn join(parts: Vec<Part>) -> Result<Self> {
        let mut tensors = Vec::with_capacity(parts.iter().map(|p| p.tensors.len()).sum());
        for (i, part) in (0..).zip(&parts) {
            tensors.extend(part.tensors.iter().map(|&at| (i, at)));
        }
        let mut gguf = Self { parts, tensors: Vec::new() };
        tensors.sort_unstable_by_key(|&place| gguf.name_at(place));
        for pair in tensors.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            if gguf.name_at(a) == gguf.name_at(b) {
                let problem = match gguf.parts.get(a.0 as usize) {
                    Some(other) if a.0 != b.0 => format!("occurs in `{}` too", other.path.display()),
                    _ => "occurs twice".into(),
                };
                return Err(bad(&gguf.parts[b.0 as usize].path, &tensor_label(gguf.name_at(b)), problem));
            }
        }
        gguf.tensors = tensors;
        Ok(gguf)
    }

    fn name_at(&self, (part, at): (u32, usize)) -> &str {
        self.parts[part as usize].key_at(at)
    }

    fn tensor_at(&self, (part, at): (u32, usize)) -> Option<TensorInfo<'_>> {
        self.parts[part as usize].tensor_at(at)
    }

    fn bad_tensor(&self, name: &str, problem: String) -> Error {
        bad(self.path(), &tensor_label(name), problem)
    }
}

/// Equal but for dimensions of 1 at the end, which ggml does not tell from absent ones.
fn same_shape(a: &[usize], b: &[usize]) -> bool {
    let of = |shape: &[usize], i: usize| shape.get(i).copied().unwrap_or(1);
    (0..a.len().max(b.len())).all(|i| of(a, i) == of(b, i))
}

/// The error of a file that breaks its format.
pub(crate) fn bad(path: &Path, at: &str, problem: String) -> Error {
    Error::BadFile { path: path.to_owned(), at: at.to_owned(), problem }
}

/// How messages name a key.
pub(crate) fn key(name: &str) -> String {
    format!("key `{}`", shown(name))
}

/// How messages name a tensor.
pub(crate) fn tensor_label(name: &str) -> String {
    format!("tensor `{}`", shown(name))
}

/// A name that a file chose, short enough and clean enough for a message on a terminal.
pub(crate) fn shown(name: &str) -> String {
    let mut out: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
