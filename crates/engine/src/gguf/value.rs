//! Metadata values. A value borrows from the file and is decoded when it is asked for.

use super::read::{Problem, Reader};

/// A metadata value. Numbers are widened without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `u8`, `u16`, `u32` or `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32` or `i64`.
    Signed(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(&'a str),
    /// An array of any of the above.
    Array(Array<'a>),
}

/// An array of scalars or strings, still encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    bytes: &'a [u8],
}

/// The value types of GGUF, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl<'a> Value<'a> {
    /// Reads a value with its type tag and checks all of it, strings included.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        match Kind::read(reader)? {
            Kind::Array => Ok(Value::Array(Array::read(reader)?)),
            kind => Self::scalar(reader, kind),
        }
    }

    fn scalar(reader: &mut Reader<'a>, kind: Kind) -> Result<Self, Problem> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(reader.array()?).into()),
            Kind::I8 => Value::Signed(i8::from_le_bytes(reader.array()?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(reader.array()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(reader.array()?).into()),
            Kind::U32 => Value::Unsigned(u32::from_le_bytes(reader.array()?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(reader.array()?).into()),
            Kind::F32 => Value::Float(f32::from_le_bytes(reader.array()?).into()),
            Kind::Bool => Value::Bool(boolean(u8::from_le_bytes(reader.array()?))?),
            Kind::Str => Value::Str(reader.string(usize::MAX)?),
            Kind::Array => return Err("is an array within an array, which is not supported".into()),
            Kind::U64 => Value::Unsigned(reader.u64()?),
            Kind::I64 => Value::Signed(i64::from_le_bytes(reader.array()?)),
            Kind::F64 => Value::Float(f64::from_le_bytes(reader.array()?)),
        })
    }

    /// The value as an integer, if it is one.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Value::Unsigned(n) => Some(n.into()),
            Value::Signed(n) => Some(n.into()),
            _ => None,
        }
    }

    /// The type in words, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Unsigned(n) => format!("the integer {n}"),
            Value::Signed(n) => format!("the integer {n}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Str(_) => "a string".into(),
            Value::Array(a) => format!("an array of {} {}", a.len, a.kind.name()),
        }
    }
}

impl<'a> Array<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let kind = Kind::read(reader)?;
        let Some(width) = kind.width() else {
            if kind == Kind::Array {
                return Err("is an array of arrays, which is not supported".into());
            }
            return Self::strings_of(reader);
        };
        let len = reader.count(width)?;
        // The count was checked against the bytes that are left, so the product cannot overflow.
        let bytes = reader.take(len * width)?;
        if kind == Kind::Bool {
            bytes.iter().try_for_each(|&b| boolean(b).map(drop))?;
        }
        Ok(Self { kind, len, bytes })
    }

    /// Strings have no fixed width: each is visited once, to find the end and to check its encoding.
    fn strings_of(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let len = reader.count(8)?;
        let mut end = *reader;
        for i in 0..len {
            end.string(usize::MAX).map_err(|e| format!("entry {i} {e}"))?;
        }
        let bytes = reader.take(end.position() - reader.position())?;
        Ok(Self { kind: Kind::Str, len, bytes })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The elements, one after the other.
    pub(super) fn elements(self) -> Elements<'a> {
        Elements { reader: Reader::new(self.bytes, 0), kind: self.kind, left: self.len }
    }
}

/// Decodes an array's elements. An error means that the file changed since it was opened.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a> {
    reader: Reader<'a>,
    kind: Kind,
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Value<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(Value::scalar(&mut self.reader, self.kind))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl Kind {
    /// In the order of the numbers that the format gives them, which is that of the declaration.
    const BY_ID: [Kind; 13] = {
        use Kind::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64]
    };

    /// The number that stands for the type in a file.
    pub(super) fn id(self) -> u32 {
        self as u32
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Problem> {
        let id = reader.u32()?;
        usize::try_from(id)
            .ok()
            .and_then(|id| Self::BY_ID.get(id).copied())
            .ok_or_else(|| format!("has the value type {id}, known are 0 to 12"))
    }

    /// Bytes of a value, if they are the same for every value.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::Str | Kind::Array => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::U8 => "u8",
            Kind::I8 => "i8",
            Kind::U16 => "u16",
            Kind::I16 => "i16",
            Kind::U32 => "u32",
            Kind::I32 => "i32",
            Kind::F32 => "f32",
            Kind::Bool => "booleans",
            Kind::Str => "strings",
            Kind::Array => "arrays",
            Kind::U64 => "u64",
            Kind::I64 => "i64",
            Kind::F64 => "f64",
        }
    }
}

fn boolean(byte: u8) -> Result<bool, Problem> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("has a boolean of {other}, allowed are 0 and 1")),
    }
}
