//! The CUDA kernels on a processor: the same sources as plain C++, thread by thread, every access checked.
//!
//! [`library`] stands where the library made by nvcc would. A kernel that reads what nobody wrote,
//! leaves its memory, races, or waits where not all do, fails with words that name kernel, block, thread and address.
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
}

/// The kernels, as the device `cuda` takes them.
pub fn library() -> Library {
    // SAFETY: the table is built from the api.h that the crate mirrors, and is part of the program.
    unsafe { Library::from_table(coder_emu_api()) }
}

/// Sets what the next device that this thread opens is like; 8.0 and 64 GiB are usual.
pub fn next_device(major: i32, minor: i32, total_bytes: u64) {
    coder_emu_next(major, minor, total_bytes);
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
