//! Mutated GGUF files: nothing panics, and memory stays below the file's size.
#![allow(unsafe_code)]

#[allow(dead_code, unreachable_pub)]
#[path = "../load/writer.rs"]
mod writer;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::HashSet,
};

use coder_engine::{Error, Gguf, Weights, gguf::Value, weights::Role};
use writer::{Field, Random, model, shared_data};

/// What may be allocated beyond the file's size, in one piece and in all: messages, with names of at most
/// 80 escaped characters and the list of the supported types, and the names of roles.
const SMALL: usize = 4096;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Counts what the current thread allocates.
struct Counting;

fn count(freed: usize, allocated: usize) {
    // The cells need no destructor, so they are there for as long as the thread allocates.
    LIVE.set(LIVE.get() + allocated as isize - freed as isize);
    PEAK.set(PEAK.get().max(LIVE.get()));
    LARGEST.set(LARGEST.get().max(allocated));
}

// SAFETY: every call is passed on to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: `ptr` came from `System` with this layout, and the caller vouches for `size`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What came of the files.
#[derive(Default)]
struct Seen {
    opened: usize,
    configured: usize,
    problems: HashSet<String>,
}

impl Seen {
    /// Opens `bytes` and uses all that is in there. `what` describes the file in failures.
    fn file(&mut self, bytes: Vec<u8>, what: &str) {
        let _guard = Report(what);
        let size = bytes.len();
        let before = LIVE.get();
        PEAK.set(before);
        LARGEST.set(0);
        let result = use_everything(bytes);
        let (largest, growth) = (LARGEST.get(), PEAK.get() - before);
        assert!(largest <= size + SMALL, "allocated {largest} bytes at once for a file of {size}");
        assert!(growth <= (size + SMALL) as isize, "allocated {growth} bytes for a file of {size}");
        match result {
            Ok(configured) => {
                self.opened += 1;
                self.configured += usize::from(configured);
            }
            Err(Error::BadFile { at, .. }) => drop(self.problems.insert(at)),
            Err(Error::Unsupported { what, .. }) => drop(self.problems.insert(what.into())),
            Err(other) => panic!("unexpected error: {other}"),
        }
    }
}

/// Says which file it was when something panics.
struct Report<'a>(&'a str);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the file was: {}", self.0);
        }
    }
}

/// Opens a file and asks for every key in every type, every tensor and every role. Whether it has a
/// configuration comes back.
fn use_everything(bytes: Vec<u8>) -> Result<bool, Error> {
    let size = bytes.len();
    let gguf = Gguf::from_bytes("mutated.gguf", bytes)?;
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        let value = metadata.get(key).expect("a listed key has a value");
        if let Value::Array(array) = value {
            assert!(array.len() <= size, "an element takes a byte at least");
        }
        let (_, _, _) = (metadata.u32(key), metadata.usize(key), metadata.f32(key));
        let (_, _, _) = (metadata.bool(key), metadata.str(key), metadata.i32s(key));
        let (_, _) = (metadata.u32s(key), metadata.f32s(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert!(strings.map(|s| s.expect("checked at open").len()).sum::<usize>() < 1 << 40);
        }
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(tensor.name()).expect("listed").shape(), tensor.shape());
        assert!(!tensor.shape().contains(&0));
        if tensor.kind().is_ok() {
            let rows = gguf.rows(tensor.name(), tensor.shape()).expect("its own shape");
            assert_eq!(rows.data().len(), tensor.data().len());
        }
    }
    let Ok(weights) = Weights::from_gguf(gguf) else { return Ok(false) };
    let mut found = 0;
    // A configuration may claim many more layers than there are tensors.
    for role in Role::all(weights.config()).take(200) {
        found += usize::from(weights.matrix(role).is_ok_and(|m| m.rows().is_ok()));
        if role.is_vector() {
            found += usize::from(weights.vector(role).is_ok());
        }
    }
    assert!(found > 0, "a configuration needs an embedding at least");
    Ok(true)
}

/// Numbers that break careless arithmetic.
fn extreme(size: usize, random: &mut Random) -> u64 {
    let size = size as u64;
    let all = [
        0,
        1,
        2,
        size - 1,
        size,
        size + 1,
        size / 8,
        u64::from(u16::MAX),
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 60,
        (1 << 61) + 1,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    all[random.below(all.len())]
}

fn put(bytes: &mut [u8], field: Field, n: u64) {
    bytes[field.at..field.at + field.width].copy_from_slice(&n.to_le_bytes()[..field.width]);
}

/// One mutation. `table` is where the header, keys and tensor table end.
fn mutate(bytes: &mut Vec<u8>, fields: &[Field], table: usize, random: &mut Random) {
    let table = table.min(bytes.len()).max(1);
    let (at, length) = (random.below(table), 1 + random.below(64));
    let end = (at + length).min(bytes.len());
    match random.below(12) {
        0..=2 => {
            let field = fields[random.below(fields.len())];
            let n = extreme(bytes.len(), random);
            if field.at + field.width <= bytes.len() {
                put(bytes, field, n);
            }
        }
        3 => {
            let (a, b) = (fields[random.below(fields.len())], fields[random.below(fields.len())]);
            if a.width == b.width && a.at.max(b.at) + a.width <= bytes.len() {
                (0..a.width).for_each(|i| bytes.swap(a.at + i, b.at + i));
            }
        }
        4 | 5 => bytes[at] ^= 1 << random.below(8),
        6 => bytes[at] = random.next() as u8,
        7 => bytes.truncate(1 + random.below(bytes.len())),
        8 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        9 => drop(bytes.drain(at..end)),
        _ => {
            let field = fields[random.below(fields.len())];
            let n = random.below(300) as u64;
            if field.at + field.width <= bytes.len() {
                put(bytes, field, n);
            }
        }
    }
}

#[test]
fn extreme_lengths_counts_and_offsets() {
    let mut seen = Seen::default();
    for (version, arch) in [(2, "qwen3moe"), (3, "qwen2")] {
        let (base, fields) = model(version, arch).build_with_fields();
        for field in fields {
            for n in [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 60, 1 << 63, u64::MAX, base.len() as u64] {
                let mut bytes = base.clone();
                put(&mut bytes, field, n);
                seen.file(bytes, &format!("{arch}, {n} at {field:?}"));
            }
        }
    }
    assert!(seen.problems.len() > 100, "{:?}", seen.problems);
}

#[test]
fn ten_thousand_mutated_files() {
    let mut bases: Vec<(Vec<u8>, Vec<Field>, usize)> = Vec::new();
    for (version, arch) in [(3, "qwen2"), (2, "qwen3"), (3, "qwen3moe")] {
        let (bytes, fields) = model(version, arch).build_with_fields();
        let table = fields.last().expect("there are fields").at + 8;
        bases.push((bytes, fields, table));
    }
    // A real file: its fields are not known, so any eight bytes of its tables count as one.
    let real = shared_data().map(|d| d.join("vectors/models/tiny-qwen2-Q2_K.gguf"));
    if let Some(bytes) = real.and_then(|path| std::fs::read(path).ok()) {
        let table = 16_000;
        let fields = (0..table / 4).map(|i| Field { at: 4 * i, width: 4 + 4 * (i % 2) }).collect();
        bases.push((bytes, fields, table));
    }
    let mut seen = Seen::default();
    for i in 0..10_000 {
        let mut random = Random::new(i);
        // The real file is large: one mutation in ten is of it.
        let pick = if i % 10 == 9 { bases.len() - 1 } else { random.below(3) };
        let (base, fields, table) = &bases[pick];
        let mut bytes = base.clone();
        for _ in 0..1 + random.below(4) / 2 {
            mutate(&mut bytes, fields, *table, &mut random);
        }
        seen.file(bytes, &format!("mutation {i} of base {pick}"));
    }
    // Were everything refused at once, or nothing, this test would show little.
    assert!(seen.opened > 1000, "{} files opened", seen.opened);
    assert!(seen.configured > 300, "{} files had a configuration", seen.configured);
    assert!(seen.problems.len() > 100, "{} different problems", seen.problems.len());
}
