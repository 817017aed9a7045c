//! Writes GGUF version 3, from front to back.
//!
//! A [`Header`] knows every tensor's type and shape, so all offsets are known before the first weight is:
//! [`Writer`] then takes the data in the header's order, in pieces of any size, and holds none of it back.
//! This module knows the container only; names and values are the caller's business.

use std::io::{self, Write};

use coder_kernels::BlockType;

use super::{tensor::type_id, value::Kind};

/// Every tensor's data begins at a multiple of this many bytes: the format's default.
const ALIGNMENT: u64 = 32;

/// Keys, values and the tensor table of a file to be.
#[derive(Clone, Debug, Default)]
pub struct Header {
    keys: Vec<u8>,
    key_count: u64,
    table: Vec<u8>,
    /// Bytes of data of every tensor, without padding.
    sizes: Vec<u64>,
    /// Where the next tensor's data begins, relative to the start of the data.
    end: u64,
}

impl Header {
    /// A header with no keys and no tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key with a `u32`.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, Kind::U32, &value.to_le_bytes());
    }

    /// Adds a key with an `f32`.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, Kind::F32, &value.to_le_bytes());
    }

    /// Adds a key with a boolean.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, Kind::Bool, &[u8::from(value)]);
    }

    /// Adds a key with a string.
    pub fn str(&mut self, key: &str, value: &str) {
        self.key(key, Kind::Str, &string(value));
    }

    /// Adds a key with an array of strings.
    pub fn strings<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let (mut count, mut bytes) = (0u64, Vec::new());
        for value in values {
            bytes.extend(string(value));
            count += 1;
        }
        self.array(key, Kind::Str, count, &bytes);
    }

    /// Adds a key with an array of `i32`.
    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.array(key, Kind::I32, values.len() as u64, &bytes);
    }

    /// Adds a key with its value as they stand in another file.
    pub(crate) fn record(&mut self, record: &[u8]) {
        self.keys.extend(record);
        self.key_count += 1;
    }

    /// Adds a tensor; `shape` is in ggml's order: columns, rows, experts.
    ///
    /// # Panics
    ///
    /// If the shape has no or more than four dimensions, or if its columns are not whole blocks of `kind`:
    /// errors of the caller.
    pub fn tensor(&mut self, name: &str, kind: BlockType, shape: &[usize]) {
        assert!((1..=4).contains(&shape.len()), "a tensor has one to four dimensions");
        let row = kind.row_bytes(shape[0]).expect("columns are whole blocks");
        let bytes = shape[1..].iter().fold(row as u64, |total, &n| total * n as u64);
        self.table.extend(string(name));
        self.table.extend((shape.len() as u32).to_le_bytes());
        self.table.extend(shape.iter().flat_map(|&n| (n as u64).to_le_bytes()));
        self.table.extend(type_id(kind).to_le_bytes());
        self.table.extend(self.end.to_le_bytes());
        self.sizes.push(bytes);
        self.end += bytes.next_multiple_of(ALIGNMENT);
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_start() + self.end
    }

    fn key(&mut self, key: &str, kind: Kind, value: &[u8]) {
        self.keys.extend(string(key));
        self.keys.extend(kind.id().to_le_bytes());
        self.record(value);
    }

    fn array(&mut self, key: &str, kind: Kind, count: u64, values: &[u8]) {
        let mut bytes = kind.id().to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(values);
        self.key(key, Kind::Array, &bytes);
    }

    /// Magic, version and two counts; then keys and table.
    fn data_start(&self) -> u64 {
        (24 + self.keys.len() as u64 + self.table.len() as u64).next_multiple_of(ALIGNMENT)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.sizes.len() as u64).to_le_bytes());
        out.extend(self.key_count.to_le_bytes());
        out.extend(&self.keys);
        out.extend(&self.table);
        out.resize(self.data_start() as usize, 0);
        out
    }
}

/// Length and bytes.
fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

/// A file whose header is written and whose data is on the way.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Of the tensors that are not complete, the current one last.
    sizes: Vec<u64>,
    /// Bytes of the current tensor so far.
    done: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(&header.encode())?;
        Ok(Self { out, sizes: header.sizes.iter().rev().copied().collect(), done: 0 })
    }

    /// Writes the next bytes of the current tensor; once it is complete, the header's next one is current.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// # Panics
    ///
    /// If `data` is more than the tensor has left, which is an error of the caller.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let size = self.sizes.last().copied().unwrap_or(0);
        self.done += data.len() as u64;
        assert!(self.done <= size, "{} bytes of data for a tensor of {size}", self.done);
        self.out.write_all(data)?;
        if self.done == size {
            let padding = size.next_multiple_of(ALIGNMENT) - size;
            self.out.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
            self.sizes.pop();
            self.done = 0;
        }
        Ok(())
    }

    /// Gives back what was written to.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if a tensor is not complete.
    pub fn finish(self) -> io::Result<W> {
        if self.sizes.is_empty() { Ok(self.out) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gguf, gguf::Value};

    #[test]
    fn what_is_written_is_read() {
        let mut header = Header::new();
        header.str("general.architecture", "none");
        header.u32("a.number", 7);
        header.f32("a.float", 1.5);
        header.bool("a.flag", true);
        header.strings("some.strings", ["x", "", "żółw"]);
        header.i32s("some.numbers", &[1, -2]);
        header.tensor("b.weight", BlockType::Q8_0, &[32, 3, 2]);
        header.tensor("a.bias", BlockType::F32, &[3]);
        let mut writer = Writer::new(Vec::new(), &header).expect("memory");
        let weights: Vec<u8> = (0..204).collect();
        writer.write(&weights[..100]).expect("memory");
        writer.write(&weights[100..]).expect("memory");
        writer.write(&[9; 12]).expect("memory");
        let bytes = writer.finish().expect("complete");
        assert_eq!(bytes.len() as u64, header.file_bytes());

        let gguf = Gguf::from_bytes("written", bytes).expect("a sound file");
        let meta = gguf.metadata();
        assert_eq!((gguf.version(), meta.len()), (3, 6));
        assert_eq!(meta.u32("a.number").expect("a number"), Some(7));
        assert_eq!(meta.get("a.float"), Some(Value::Float(1.5)));
        assert_eq!(meta.bool("a.flag").expect("a flag"), Some(true));
        let strings = meta.strings("some.strings").expect("strings").expect("there");
        assert_eq!(strings.map(|s| s.expect("sound")).collect::<Vec<_>>(), ["x", "", "żółw"]);
        assert_eq!(meta.i32s("some.numbers").expect("numbers"), Some(vec![1, -2]));
        let weight = gguf.tensor("b.weight").expect("there");
        assert_eq!((weight.shape(), weight.data()), (&[32, 3, 2][..], &weights[..]));
        assert_eq!(gguf.tensor("a.bias").expect("there").data(), [9; 12]);
        let names: Vec<_> = gguf.stored_tensors().map(|t| t.name().to_owned()).collect();
        assert_eq!(names, ["b.weight", "a.bias"]);
    }

    #[test]
    fn missing_data_is_an_error() {
        let mut header = Header::new();
        header.tensor("a", BlockType::F32, &[3]);
        let writer = Writer::new(Vec::new(), &header).expect("memory");
        assert_eq!(writer.finish().expect_err("incomplete").kind(), io::ErrorKind::UnexpectedEof);
    }
}
