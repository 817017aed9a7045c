//! The matrix unit of recent Intel processors: 16 rows × 16 outputs × 64 bytes of inputs in one instruction.
//!
//! Source: Intel, "Intel Architecture Instruction Set Extensions Programming Reference", chapter 3 (AMX). The unit is
//! used for the integer products alone; floats are added by the vector unit, in the order of
//! [`panel`](super::panel), so that it gives the same bits.
//!
//! Linux lets a process use the unit after it has asked; then each thread that uses it loads a configuration of its
//! own. Stable Rust has no intrinsics for it, hence the assembly.

use super::codes::Codes;
use super::integers::Integers;
use super::panel::{Add, MOST_PRODUCTS};
use super::quantized::{RUN, TILE, Tile, Unit};
use super::scales::Scales;
use super::unpacked::{Opened, unpacked_bytes};
use super::vector::LANES;

/// Whether this process may use the unit. Asks the system for it, once.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) fn available() -> bool {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::LazyLock;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const STATE: u32 = 1 << 17 | 1 << 18;
    const SYS_ARCH_PRCTL: usize = 158;
    const REQUEST_PERMISSION: usize = 0x1023;
    const TILE_DATA: usize = 18;
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        if __cpuid(0).eax < 7
            || __cpuid(1).ecx & OSXSAVE == 0
            || __cpuid_count(7, 0).edx & TILE_AND_INT8 != TILE_AND_INT8
        {
            return false;
        }
        let enabled: u32;
        // SAFETY: the processor has XGETBV, by OSXSAVE.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
        if enabled & STATE != STATE {
            return false;
        }
        let answer: isize;
        // SAFETY: this system call changes nothing but the states that the process may use; it keeps all registers
        // but those named.
        unsafe {
            asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => answer, in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA, out("rcx") _, out("r11") _, options(nostack));
        }
        answer == 0
    });
    *ALLOWED
}

/// Whether this process may use the unit: never, here.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn available() -> bool {
    false
}

/// The calling thread's configuration, while this lives: tiles 0 to 3 hold sums `[16, 16]`, 4 and 6 activations
/// `[16, inputs]`, 5 and 7 weights `[inputs / 4, 16, 4]`.
pub(super) struct Configured(());

impl Configured {
    /// For products of `inputs` inputs at a time, 32 or 16. Only where the unit is [`available`].
    #[inline(always)]
    pub(super) fn new(inputs: usize) -> Self {
        let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for t in 0..8 {
            let (bytes, rows) = match t {
                4 | 6 => (inputs, TILE),
                5 | 7 => (64, inputs / 4),
                _ => (64, TILE),
            };
            (config.bytes[t], config.rows[t]) = (bytes as u16, rows as u8);
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` saw to it that the unit is available; the configuration is valid: palette 1 has eight tiles
        // of at most 16 rows of 64 bytes.
        unsafe {
            std::arch::asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack));
        }
        let _ = &config;
        Self(())
    }
}

impl Drop for Configured {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the unit is available, or `new` would not have been called.
        unsafe {
            std::arch::asm!("tilerelease", options(nomem, nostack));
        }
    }
}

/// The 64 bytes of a configuration.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Products that are made before any is added. They go through memory, where the vector unit finds them without waiting
/// if they have been there for a while, and where all of them fit the first cache.
const AHEAD: usize = MOST_PRODUCTS;

/// Products of [`AHEAD`] steps: of two panels with one tile of rows, then with the next.
#[repr(C, align(64))]
pub(super) struct Products([[[[i32; LANES]; TILE]; 4]; AHEAD]);

impl Products {
    /// Room for them, to be used again and again.
    pub(super) fn new() -> Self {
        Self([[[[0; LANES]; TILE]; 4]; AHEAD])
    }
}

/// `sums[2t + p][r] += panels[p] · x[t][r]` for the 16 rows of each of two tiles and the 16 outputs of each of two
/// panels, or for the first tile alone without `BOTH`, over `inputs` inputs. Panels are unpacked, their codes signed.
///
/// # Safety
/// As for [`Integers`], with tiles [`Configured`] on this thread for the layout's [`step`](Add::step); `x` are 16 rows
/// high.
#[inline(always)]
pub(super) unsafe fn block<V: Integers, C: Codes, S: Scales, const BOTH: bool>(
    sums: &mut [[V; TILE]; 4],
    panels: [&[u8]; 2],
    x: [Tile<'_, S::Unit>; 2],
    inputs: usize,
    products: &mut Products,
) {
    let (chunk, unit) = const { (Opened::<S>::CHUNK, S::Unit::INPUTS) };
    let size = unpacked_bytes::<S>(chunk);
    let step = S::Unit::step::<C, S>();
    assert!(panels.iter().all(|panel| panel.len() == inputs / chunk * size), "panels of other lengths");
    // SAFETY: the caller has configured the tiles; activations are 16 rows, 32 bytes apart, weights rows 64 bytes apart;
    // the caller is below `Isa::run` for `V`.
    unsafe {
        let mut totals = [[V::ints(0); TILE]; 4];
        for first in (0..inputs).step_by(AHEAD * step) {
            let count = AHEAD.min((inputs - first) / step);
            for (k, to) in products.0.iter_mut().enumerate().take(count) {
                let input = first + k * step;
                let w = input / chunk * size + Opened::<S>::SIZE + input % chunk * LANES;
                let quads = [&panels[0][w..][..step * LANES], &panels[1][w..][..step * LANES]];
                let codes = |t: usize| x[t].record(input / unit).codes(input % unit / RUN).add(input % RUN);
                let (codes, quads) = ([codes(0), codes(1)], [quads[0].as_ptr(), quads[1].as_ptr()]);
                if BOTH { two_by_two(codes, quads, to) } else { one_by_two(codes, quads, to) }
            }
            for c in 0..if BOTH { 4 } else { 2 } {
                for k in (0..count).step_by(S::Unit::PRODUCTS) {
                    let input = first + k * step;
                    let head = &panels[c % 2][input / chunk * size..][..Opened::<S>::SIZE];
                    let scales = (Opened::<S>::open::<V>(head), head, input % chunk / RUN);
                    let made = std::array::from_fn(|i| &products.0[(k + i) % AHEAD][c]);
                    let x = x[c / 2].record(input / unit);
                    S::Unit::add_products::<V, C, Opened<S>>(&mut sums[c], &mut totals[c], made, scales, x);
                }
            }
        }
    }
}

/// Integer products of two tiles of activations with two of weights: every tile is loaded once and used twice.
///
/// # Safety
/// Tiles are [`Configured`]; `x` are 16 rows 32 bytes apart, `w` rows of 64 bytes, as many as configured.
#[inline(always)]
unsafe fn two_by_two(x: [*const u8; 2], w: [*const u8; 2], to: &mut [[[i32; LANES]; TILE]; 4]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by the caller's promise; `to` is four times 16 rows of 64 bytes.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{x0} + {near}]",
            "tileloadd tmm5, [{w0} + {line}]",
            "tdpbssd tmm0, tmm4, tmm5",
            "tileloadd tmm7, [{w1} + {line}]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm6, [{x1} + {near}]",
            "tdpbssd tmm2, tmm6, tmm5",
            "tdpbssd tmm3, tmm6, tmm7",
            "tilestored [{to} + {line}], tmm0",
            "tilestored [{to} + {line} + 1024], tmm1",
            "tilestored [{to} + {line} + 2048], tmm2",
            "tilestored [{to} + {line} + 3072], tmm3",
            x0 = in(reg) x[0], x1 = in(reg) x[1], w0 = in(reg) w[0], w1 = in(reg) w[1],
            near = in(reg) RUN, line = in(reg) 64usize, to = in(reg) to.as_mut_ptr(),
            options(nostack),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, w, to);
}

/// As [`two_by_two`], for the first tile of activations alone.
///
/// # Safety
/// See there.
#[inline(always)]
unsafe fn one_by_two(x: [*const u8; 2], w: [*const u8; 2], to: &mut [[[i32; LANES]; TILE]; 4]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by the caller's promise; `to` is four times 16 rows of 64 bytes.
    unsafe {
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tileloadd tmm4, [{x0} + {near}]",
            "tileloadd tmm5, [{w0} + {line}]",
            "tdpbssd tmm0, tmm4, tmm5",
            "tileloadd tmm7, [{w1} + {line}]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tilestored [{to} + {line}], tmm0",
            "tilestored [{to} + {line} + 1024], tmm1",
            x0 = in(reg) x[0], w0 = in(reg) w[0], w1 = in(reg) w[1],
            near = in(reg) RUN, line = in(reg) 64usize, to = in(reg) to.as_mut_ptr(),
            options(nostack),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, w, to);
}

/// Products of one round of [`spin`].
pub(super) const SPIN_PRODUCTS: usize = 4 * TILE * LANES * 64;

/// Multiplies whole tiles, `rounds` times on four sums: what the unit does at most.
pub(super) fn spin(rounds: usize) {
    let _configured = Configured::new(64);
    #[cfg(target_arch = "x86_64")]
    for _ in 0..rounds {
        // SAFETY: the tiles are configured, and the registers are nobody else's.
        unsafe {
            std::arch::asm!(
                "tdpbssd tmm0, tmm4, tmm5",
                "tdpbssd tmm1, tmm4, tmm5",
                "tdpbssd tmm2, tmm4, tmm5",
                "tdpbssd tmm3, tmm4, tmm5",
                options(nomem, nostack),
            );
        }
    }
}
