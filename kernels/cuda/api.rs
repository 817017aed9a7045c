//! The C interface of `api.h`, field by field.
//!
//! Nothing here is safe or convenient; `device.rs` makes it so. The two files change together, and the version
//! number is raised whenever they do.

use std::ffi::{c_char, c_int, c_void};

/// The version of the interface that this file mirrors.
pub(super) const VERSION: i32 = 6;

/// Positions that one chunk of attention covers.
pub(super) const ATTENTION_CHUNK: usize = 256;

/// Columns of a run of quantized weights, and of a unit (common.cuh).
pub(super) const RUN: usize = 32;
pub(super) const UNIT: usize = 128;

/// Largest head dimension.
pub(super) const MAX_HEAD: usize = 256;

/// Parts of a matrix, and planes of a part, at most.
pub(super) const MAX_PARTS: usize = 4;

/// Columns of a part of a row of logits, and such parts that a row may have.
pub(super) const CHOICE_PART: usize = 2048;
pub(super) const CHOICE_PARTS: usize = 512;

/// What a function failed with, beside 0 for success.
pub(super) mod failure {
    pub(in crate::cuda) const NO_DRIVER: i32 = 1;
    pub(in crate::cuda) const DRIVER_TOO_OLD: i32 = 2;
    pub(in crate::cuda) const NO_DEVICE: i32 = 3;
    pub(in crate::cuda) const DEVICE_TOO_OLD: i32 = 4;
    pub(in crate::cuda) const OUT_OF_MEMORY: i32 = 5;
}

#[repr(C)]
pub(super) struct DeviceHandle {
    _private: [u8; 0],
}

#[repr(C)]
pub(super) struct GraphHandle {
    _private: [u8; 0],
}

#[repr(C)]
pub(super) struct DeviceInfo {
    pub(super) name: [c_char; 256],
    pub(super) major: i32,
    pub(super) minor: i32,
    pub(super) multiprocessors: i32,
    pub(super) driver: i32,
    pub(super) runtime: i32,
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) memory_bytes_per_s: f64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Rows {
    pub(super) x: *mut f32,
    pub(super) q: *mut i8,
    pub(super) scale: *mut f32,
    pub(super) sum: *mut u32,
    pub(super) rows: i32,
    pub(super) cols: i32,
    pub(super) shared: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Batch {
    pub(super) tokens: *const i32,
    pub(super) positions: *const i32,
    pub(super) slots: *const i32,
    pub(super) table_at: *const i32,
    pub(super) tables: *const i32,
    pub(super) logits: *const i32,
    pub(super) rows: i32,
    pub(super) chunks: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Part {
    pub(super) kind: i32,
    pub(super) rows: i32,
    pub(super) first: i32,
    pub(super) plane: [*const u8; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Matrix {
    pub(super) part: [Part; MAX_PARTS],
    pub(super) parts: i32,
    pub(super) experts: i32,
    pub(super) out: i32,
    pub(super) cols: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Cache {
    pub(super) k: *mut c_void,
    pub(super) v: *mut c_void,
    pub(super) k_scale: *mut u16,
    pub(super) v_scale: *mut u16,
    pub(super) kind: i32,
    pub(super) q_heads: i32,
    pub(super) kv_heads: i32,
    pub(super) dim: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Routes {
    pub(super) expert: *mut i32,
    pub(super) weight: *mut f32,
    pub(super) order: *mut i32,
    pub(super) start: *mut i32,
    pub(super) rows: i32,
    pub(super) top_k: i32,
    pub(super) experts: i32,
}

#[repr(C)]
pub(super) struct Rotation {
    pub(super) radians: [f64; MAX_HEAD / 2],
    pub(super) bias: *const f32,
    pub(super) q_norm: *const f32,
    pub(super) k_norm: *const f32,
    pub(super) eps: f32,
}

impl std::hash::Hash for Rotation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.radians.iter().for_each(|r| r.to_bits().hash(state));
        (self.bias, self.q_norm, self.k_norm, self.eps.to_bits()).hash(state);
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub(super) y: Rows,
    pub(super) w: *const f32,
    pub(super) eps: f32,
}

impl std::hash::Hash for Norm {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.y, self.w, self.eps.to_bits()).hash(state);
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Partials {
    pub(super) data: *mut f32,
    pub(super) places: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    pub(super) wanted: *const i32,
    pub(super) masks: *const u32,
    pub(super) highest: *mut f32,
    pub(super) best: *mut u64,
    pub(super) found: *mut u64,
}

type Device = *mut DeviceHandle;

/// The table of functions that a library of kernels exports. See `api.h` for what each does.
#[repr(C)]
#[allow(missing_debug_implementations)]
pub struct Api {
    pub(super) version: i32,
    pub(super) count: unsafe extern "C" fn(*mut i32) -> c_int,
    pub(super) open: unsafe extern "C" fn(i32, *mut Device, *mut DeviceInfo) -> c_int,
    pub(super) close: unsafe extern "C" fn(Device),
    pub(super) message: unsafe extern "C" fn() -> *const c_char,
    pub(super) memory: unsafe extern "C" fn(Device, *mut u64, *mut u64) -> c_int,
    pub(super) allocate: unsafe extern "C" fn(Device, usize, *mut *mut c_void) -> c_int,
    pub(super) allocate_host:
        unsafe extern "C" fn(Device, usize, *mut *mut c_void, *mut *mut c_void) -> c_int,
    pub(super) release: unsafe extern "C" fn(Device, *mut c_void),
    pub(super) release_host: unsafe extern "C" fn(Device, *mut c_void),
    pub(super) upload: unsafe extern "C" fn(Device, *mut c_void, *const c_void, usize) -> c_int,
    pub(super) download: unsafe extern "C" fn(Device, *mut c_void, *const c_void, usize) -> c_int,
    pub(super) synchronize: unsafe extern "C" fn(Device) -> c_int,
    pub(super) capture: unsafe extern "C" fn(Device) -> c_int,
    pub(super) capture_end: unsafe extern "C" fn(Device, *mut *mut GraphHandle) -> c_int,
    pub(super) replay: unsafe extern "C" fn(Device, *mut GraphHandle) -> c_int,
    pub(super) forget: unsafe extern "C" fn(*mut GraphHandle),
    pub(super) embed: unsafe extern "C" fn(Device, *const Rows, *const Matrix, *const Batch) -> c_int,
    pub(super) rms_norm: unsafe extern "C" fn(Device, *const Rows, *const Rows, *const f32, f32) -> c_int,
    pub(super) quantize: unsafe extern "C" fn(Device, *const Rows) -> c_int,
    pub(super) matmul:
        unsafe extern "C" fn(Device, *const Rows, *const Rows, *const Matrix, i32, *const Norm) -> c_int,
    pub(super) bias: unsafe extern "C" fn(Device, *const Rows, *const f32) -> c_int,
    pub(super) rope:
        unsafe extern "C" fn(Device, *const Rows, *const Cache, *const Rotation, *const Batch) -> c_int,
    pub(super) attention: unsafe extern "C" fn(
        Device,
        *const Rows,
        *const Rows,
        *const Cache,
        *const Batch,
        *const Partials,
    ) -> c_int,
    pub(super) add: unsafe extern "C" fn(Device, *const Rows, *const Rows) -> c_int,
    pub(super) swiglu: unsafe extern "C" fn(Device, *const Rows, *const Rows) -> c_int,
    pub(super) route: unsafe extern "C" fn(Device, *const Routes, *const Rows) -> c_int,
    pub(super) matmul_experts:
        unsafe extern "C" fn(Device, *const Rows, *const Rows, *const Matrix, *const Routes, i32) -> c_int,
    pub(super) matmul_swiglu: unsafe extern "C" fn(
        Device,
        *const Rows,
        *const Rows,
        *const Matrix,
        *const Routes,
        *const Rows,
    ) -> c_int,
    pub(super) matmul_experts_mix: unsafe extern "C" fn(
        Device,
        *const Rows,
        *const Rows,
        *const Matrix,
        *const Routes,
        *const Rows,
        *const Norm,
    ) -> c_int,
    pub(super) matmul_route:
        unsafe extern "C" fn(Device, *const Routes, *const Rows, *const Rows, *const Matrix) -> c_int,
    pub(super) matmul_rope: unsafe extern "C" fn(
        Device,
        *const Rows,
        *const Rows,
        *const Matrix,
        *const Cache,
        *const Rotation,
        *const Batch,
    ) -> c_int,
    pub(super) mix_experts: unsafe extern "C" fn(Device, *const Rows, *const Rows, *const Routes) -> c_int,
    pub(super) select: unsafe extern "C" fn(Device, *const Rows, *const Rows, *const Batch) -> c_int,
    pub(super) choose: unsafe extern "C" fn(Device, *const Rows, *const Choices) -> c_int,
}
