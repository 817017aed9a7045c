//! Typed access to metadata: a key that is absent is `None`, a value of another type is an error.

use std::path::Path;

use super::{
    Value, bad,
    read::Problem,
    value::{Array, Elements, Kind},
};
use crate::Result;

/// The keys and values of a GGUF file.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a> {
    pub(super) part: &'a super::part::Part,
}

impl<'a> Metadata<'a> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.part.value(key)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.part.keys.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.part.keys.is_empty()
    }

    /// The keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        let part = self.part;
        part.keys.iter().map(|&at| part.key_at(at))
    }

    /// An integer of any width that fits `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |v| v.integer()?.try_into().ok())
    }

    /// An integer of any width that fits `usize`.
    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an integer not below 0", |v| v.integer()?.try_into().ok())
    }

    /// A number; one of 64 bits is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        Ok(self.f64(key)?.map(|x| x as f32))
    }

    /// A number. Integers are accepted where they are exact.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |v| match v {
            Value::Float(x) => Some(x),
            other => other.integer().filter(|n| n.unsigned_abs() < 1 << 53).map(|n| n as f64),
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |v| if let Value::Bool(b) = v { Some(b) } else { None })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", |v| if let Value::Str(s) = v { Some(s) } else { None })
    }

    /// An array of strings, one at a time: a list of them would be larger than the file if they are short.
    pub fn strings(&self, key: &str) -> Result<Option<Strings<'a>>> {
        let wanted = "an array of strings";
        let array = self.typed(key, wanted, |v| array(v).filter(|a| a.kind() == Kind::Str))?;
        Ok(array.map(|array| Strings {
            elements: array.elements(),
            path: &self.part.path,
            key: key.to_owned(),
        }))
    }

    /// An array of integers of 32 or 64 bits that fit `i32`.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.numbers(key, "an array of 32-bit integers", |v| v.integer()?.try_into().ok())
    }

    /// An array of integers of 32 or 64 bits that fit `u32`.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.numbers(key, "an array of unsigned 32-bit integers", |v| v.integer()?.try_into().ok())
    }

    /// An array of floats; those of 64 bits are rounded.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.numbers(
            key,
            "an array of floats",
            |v| if let Value::Float(x) = v { Some(x as f32) } else { None },
        )
    }

    fn typed<T>(&self, key: &str, wanted: &str, get: impl Fn(Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match get(value) {
            Some(t) => Ok(Some(t)),
            None => Err(self.bad(key, format!("is {}, must be {wanted}", value.describe()))),
        }
    }

    /// Elements are at least as wide in the file as in memory, so the list is never larger than the file.
    fn numbers<T>(
        &self,
        key: &str,
        wanted: &str,
        get: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let wide = |a: &Array<'a>| a.kind().width().is_some_and(|w| w >= size_of::<T>());
        let Some(array) = self.typed(key, wanted, |v| array(v).filter(wide))? else { return Ok(None) };
        let mut out = Vec::with_capacity(array.len());
        for (i, value) in array.elements().enumerate() {
            let value = value.map_err(|e| self.bad(key, e))?;
            let number = get(value).ok_or_else(|| {
                self.bad(key, format!("entry {i} is {}, must be {wanted}", value.describe()))
            })?;
            out.push(number);
        }
        Ok(Some(out))
    }

    fn bad(&self, key: &str, problem: Problem) -> crate::Error {
        bad(&self.part.path, &super::key(key), problem)
    }
}

/// The strings of an array, in order. An item is an error only if the file changed since it was opened.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    elements: Elements<'a>,
    path: &'a Path,
    key: String,
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.elements.next()?;
        let problem = match value {
            Ok(Value::Str(s)) => return Some(Ok(s)),
            Ok(_) => "holds something else than strings".to_owned(),
            Err(problem) => problem,
        };
        Some(Err(bad(self.path, &super::key(&self.key), problem)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

impl ExactSizeIterator for Strings<'_> {}

fn array(value: Value<'_>) -> Option<Array<'_>> {
    if let Value::Array(a) = value { Some(a) } else { None }
}
