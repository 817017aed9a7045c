//! The CUDA kernels on a processor: the same sources as plain C++, thread by thread, every access checked.
//!
//! [`library`] stands where the library made by nvcc would. A kernel that reads what nobody wrote,
//! leaves its memory, races, touches memory before it has waited for the launch before, or waits where not all do, fails
//! with words that name kernel, block, thread and address.
//! The rest of this crate is for tests of the emulator itself.

use coder_kernels::cuda::{Api, Library};
use std::ffi::{CStr, c_char, c_int};

unsafe extern "C" {
    safe fn coder_emu_api() -> *const Api;
    safe fn coder_emu_next(major: c_int, minor: c_int, total_bytes: u64);
    safe fn coder_emu_planted(which: c_int, planted: bool) -> c_int;
    safe fn coder_emu_words() -> *const c_char;
    safe fn coder_emu_half_to_float(bits: u16) -> f32;
    safe fn coder_emu_float_to_half(x: f32) -> u16;
    safe fn coder_emu_count(begin: c_int);
    safe fn coder_emu_counted_launches() -> usize;
    safe fn coder_emu_counted(launch: usize) -> Counted;
}

/// The kernels, as the device `cuda` takes them.
pub fn library() -> Library {
    // SAFETY: the table is built from the api.h that the crate mirrors, and is part of the program.
    unsafe { Library::from_table(coder_emu_api()) }
}

/// Sets what the next device that this thread opens is like; 8.0 and 64 GiB are usual. With `major` 0 the driver is too old.
pub fn next_device(major: i32, minor: i32, total_bytes: u64) {
    coder_emu_next(major, minor, total_bytes);
}

/// `Traffic` of machine.h, field by field.
#[repr(C)]
struct Counted {
    name: *const c_char,
    blocks: u64,
    threads: u64,
    read_bytes: u64,
    written_bytes: u64,
    read_by_blocks_bytes: u64,
    loaded_bytes: u64,
    stored_bytes: u64,
}

/// What one launch moved between the device's memory and its threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The launch's name.
    pub name: String,
    /// Blocks of the grid.
    pub blocks: u64,
    /// Threads of a block.
    pub threads: u64,
    /// Sectors of 32 bytes that any thread read, each once: what memory gives if caches miss nothing twice.
    pub read_bytes: u64,
    /// Sectors that any thread wrote, each once.
    pub written_bytes: u64,
    /// Sectors read, once for each block that read them.
    pub read_by_blocks_bytes: u64,
    /// Bytes that threads asked for.
    pub loaded_bytes: u64,
    /// Bytes that threads stored.
    pub stored_bytes: u64,
}

/// What `work` gives, and what each launch that it made on this thread moved, in their order.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, Vec<Traffic>) {
    coder_emu_count(1);
    let done = work();
    coder_emu_count(0);
    let launches = (0..coder_emu_counted_launches()).map(|launch| {
        let c = coder_emu_counted(launch);
        Traffic {
            // SAFETY: names of launches are literals of the kernels' sources.
            name: unsafe { CStr::from_ptr(c.name) }.to_string_lossy().into_owned(),
            blocks: c.blocks,
            threads: c.threads,
            read_bytes: c.read_bytes,
            written_bytes: c.written_bytes,
            read_by_blocks_bytes: c.read_by_blocks_bytes,
            loaded_bytes: c.loaded_bytes,
            stored_bytes: c.stored_bytes,
        }
    });
    (done, launches.collect())
}

/// Runs kernel `which` of planted.cu on a device of its own, with or without its mistake.
///
/// # Errors
/// The words of the failure.
pub fn planted(which: i32, planted: bool) -> Result<(), String> {
    if coder_emu_planted(which, planted) == 0 {
        return Ok(());
    }
    // SAFETY: the words end in a zero and stay as they are until this thread's next call.
    Err(unsafe { CStr::from_ptr(coder_emu_words()) }.to_string_lossy().into_owned())
}

/// The kernels' `half_to_float`.
pub fn half_to_float(bits: u16) -> f32 {
    coder_emu_half_to_float(bits)
}

/// The kernels' `float_to_half`.
pub fn float_to_half(x: f32) -> u16 {
    coder_emu_float_to_half(x)
}
