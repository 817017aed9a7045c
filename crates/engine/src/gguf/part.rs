//! One file: header, keys, tensor table, data.
//!
//! Opening checks everything and remembers only where the records are, so that the memory it takes is
//! a fraction of the file's size whatever the file claims. Records are decoded again when asked for, with
//! the same checks: a file that is changed while it is mapped gives errors or other values, not panics.

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
};

use coder_kernels::mapped::Mapped;

use super::{
    bad, key,
    read::{Problem, Reader},
    tensor::{Record, TensorInfo},
    tensor_label,
    value::Value,
};
use crate::{Error, Result};

/// The key that says to how many bytes the data of each tensor is aligned.
const ALIGNMENT: &str = "general.alignment";

/// Where the bytes of a file are.
pub(super) enum Storage {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

/// The size alone: nobody wants to read gigabytes in a message.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Storage::Mapped(m) => m,
            Storage::Owned(v) => v,
        }
    }
}

/// One file, checked.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) version: u32,
    /// Where the record of each key begins, in the keys' order.
    pub(super) keys: Vec<usize>,
    /// Where the record of each tensor begins, in the order of the data.
    pub(super) tensors: Vec<usize>,
    bytes: Storage,
    /// Where the data begins.
    data: usize,
}

impl Part {
    /// Maps and checks the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mapped = Mapped::open(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(path.to_owned(), Storage::Mapped(mapped))
    }

    /// See [`Mapped::release`].
    pub(super) fn release(&self, data: &[u8]) {
        if let Storage::Mapped(mapped) = &self.bytes {
            mapped.release(data);
        }
    }

    /// Checks all that `bytes` claim.
    pub(super) fn parse(path: PathBuf, bytes: Storage) -> Result<Self> {
        let mut reader = Reader::new(&bytes, 0);
        let header = Header::read(&mut reader, &path)?;
        let keys = read_keys(&mut reader, &path, header.keys)?;
        let alignment = alignment(&bytes, &keys, &path)?;
        let tensors = read_tensors(&mut reader, &path, header.tensors)?;
        let data = reader.position().next_multiple_of(alignment);
        let mut part = Self { path, version: header.version, keys, tensors, bytes, data };
        part.check_data(alignment)?;
        Ok(part)
    }

    /// The value of `key`.
    pub(super) fn value(&self, key: &str) -> Option<Value<'_>> {
        find(&self.bytes, &self.keys, key)
    }

    /// Every key and the bytes of its record, in the file's order.
    pub(super) fn key_records(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut places = self.keys.clone();
        places.sort_unstable();
        places.into_iter().filter_map(|at| {
            let mut reader = Reader::new(&self.bytes, at);
            let name = key_name(&mut reader).ok()?;
            Value::read(&mut reader).ok()?;
            Some((name, self.bytes.get(at..reader.position())?))
        })
    }

    /// The key whose record begins at `at`.
    pub(super) fn key_at(&self, at: usize) -> &str {
        name_at(&self.bytes, at)
    }

    /// The tensor whose record begins at `at`.
    pub(super) fn tensor_at(&self, at: usize) -> Option<TensorInfo<'_>> {
        let record = Record::read(&mut Reader::new(&self.bytes, at)).ok()?;
        let from = self.data.checked_add(record.offset)?;
        let data = Reader::new(&self.bytes, from).take(record.bytes().ok()?).ok()?;
        Some(TensorInfo::new(&record, data))
    }

    /// Bytes of all tensors.
    pub(super) fn data_bytes(&self) -> usize {
        self.tensors.iter().filter_map(|&at| Some(self.tensor_at(at)?.data().len())).sum()
    }

    /// Checks that every tensor's data is aligned, in the file, and its own.
    fn check_data(&mut self, alignment: usize) -> Result<()> {
        let bytes: &[u8] = &self.bytes;
        let record = |at: usize| Record::read(&mut Reader::new(bytes, at));
        self.tensors.sort_unstable_by_key(|&at| record(at).map_or(0, |r| r.offset));
        let space = bytes.len().saturating_sub(self.data);
        let mut free = 0;
        for &at in &self.tensors {
            let checked = record(at).and_then(|r| {
                let size = r.bytes()?;
                if r.offset % alignment != 0 {
                    return Err(format!("has its data at {}, not a multiple of {alignment}", r.offset));
                }
                if r.offset < free {
                    return Err(format!("has its data at {}, within that of another tensor", r.offset));
                }
                r.offset.checked_add(size).filter(|&end| end <= space).ok_or_else(|| {
                    format!("needs {size} bytes of data at {}, the file has {space}", r.offset)
                })
            });
            free = checked.map_err(|e| bad(&self.path, &tensor_label(name_at(bytes, at)), e))?;
        }
        Ok(())
    }
}

/// The fixed fields at the start.
struct Header {
    version: u32,
    tensors: usize,
    keys: usize,
}

impl Header {
    fn read(reader: &mut Reader<'_>, path: &Path) -> Result<Self> {
        let field = |at: &'static str| move |e: Problem| bad(path, at, e);
        let magic: [u8; 4] = reader.array().map_err(field("magic"))?;
        if &magic != b"GGUF" {
            return Err(bad(
                path,
                "magic",
                format!("is {:?}, not a GGUF file", magic.escape_ascii().to_string()),
            ));
        }
        let version = reader.u32().map_err(field("version"))?;
        if !(2..=3).contains(&version) {
            let got = match version.swap_bytes() {
                swapped @ 1..=3 => format!("{swapped}, big endian"),
                _ => version.to_string(),
            };
            return Err(Error::Unsupported {
                what: "GGUF version",
                got,
                supported: "2 and 3, little endian".into(),
            });
        }
        let tensors = reader.count(Record::LEAST).map_err(field("tensor count"))?;
        let keys = reader.count(LEAST_KEY).map_err(field("key count"))?;
        Ok(Self { version, tensors, keys })
    }
}

/// The least bytes that a key takes: length and one byte of name, type, and one byte of value.
const LEAST_KEY: usize = 8 + 1 + 4 + 1;

/// Reads and checks all keys and values; returns where they begin, in the keys' order.
fn read_keys(reader: &mut Reader<'_>, path: &Path, count: usize) -> Result<Vec<usize>> {
    let mut keys = Vec::with_capacity(count);
    for i in 0..count {
        keys.push(reader.position());
        let name = key_name(reader).map_err(|e| bad(path, &format!("key {i}"), e))?;
        Value::read(reader).map_err(|e| bad(path, &key(name), e))?;
    }
    let bytes = reader.bytes();
    keys.sort_unstable_by_key(|&at| name_at(bytes, at));
    match keys.windows(2).map(|w| [name_at(bytes, w[0]), name_at(bytes, w[1])]).find(|[a, b]| a == b) {
        Some([twice, _]) => Err(bad(path, &key(twice), "occurs twice".into())),
        None => Ok(keys),
    }
}

/// Reads and checks the tensor table; returns where the records begin.
fn read_tensors(reader: &mut Reader<'_>, path: &Path, count: usize) -> Result<Vec<usize>> {
    let mut tensors = Vec::with_capacity(count);
    for i in 0..count {
        tensors.push(reader.position());
        let name = Record::name(reader).map_err(|e| bad(path, &format!("tensor {i}"), e))?;
        Record::rest(reader, name).and_then(|r| r.bytes()).map_err(|e| bad(path, &tensor_label(name), e))?;
    }
    Ok(tensors)
}

fn key_name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Problem> {
    let name = reader.string(65535)?;
    if name.is_empty() { Err("has no name".into()) } else { Ok(name) }
}

/// The alignment of the data: a power of two, 32 unless the file says otherwise.
fn alignment(bytes: &[u8], keys: &[usize], path: &Path) -> Result<usize> {
    let Some(value) = find(bytes, keys, ALIGNMENT) else { return Ok(32) };
    let sane = |n: &usize| n.is_power_of_two() && (8..=1 << 20).contains(n);
    value.integer().and_then(|n| usize::try_from(n).ok()).filter(sane).ok_or_else(|| {
        let problem = format!("is {}, must be a power of two from 8 to 1048576", value.describe());
        bad(path, &key(ALIGNMENT), problem)
    })
}

/// The value of `key` among sorted records.
fn find<'a>(bytes: &'a [u8], keys: &[usize], key: &str) -> Option<Value<'a>> {
    let found = keys.binary_search_by(|&at| name_at(bytes, at).cmp(key)).ok()?;
    let mut reader = Reader::new(bytes, keys[found]);
    key_name(&mut reader).ok()?;
    Value::read(&mut reader).ok()
}

/// The name with which the record at `at` begins. It was checked; should the file have changed, it is empty.
fn name_at(bytes: &[u8], at: usize) -> &str {
    Reader::new(bytes, at).string(65535).unwrap_or_default()
}
