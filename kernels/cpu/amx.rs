//! The matrix unit of recent Intel processors: 16 rows × 16 outputs × 64 bytes of inputs in one instruction.
//!
//! Source: Intel, "Intel Architecture Instruction Set Extensions Programming Reference", chapter 3 (AMX). The unit is
//! used for the integer products alone; floats are added by the vector unit, in the order of
//! [`panel`](super::panel), so that it gives the same bits.
//!
//! Linux lets a process use the unit after it has asked; then each thread that uses it loads a configuration of its
//! own. Stable Rust has no intrinsics for it, hence the assembly.

use super::integers::Integers;
use super::panel::{Multiplied, unpacked_bytes};
use super::quantized::{Part, RUN, TILE, Tile};
use super::scales::Scales;
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
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & TILE_AND_INT8 != TILE_AND_INT8 {
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

/// Integer sums `[rows, outputs]`.
#[repr(C, align(64))]
struct Sums([[i32; LANES]; TILE]);

/// `sums[r] += panel · x[r]` for the 16 rows of a tile. `panel` is unpacked, its codes signed.
///
/// # Safety
/// As for [`Integers`], with tiles [`Configured`] on this thread for `RUN / S::RUNS` inputs.
#[inline(always)]
pub(super) unsafe fn panel<V: Integers, S: Scales>(sums: &mut [V; TILE], panel: &[u8], x: Tile<'_>) {
    let mut products = [const { Sums([[0; LANES]; TILE]) }; 2];
    for (g, weights) in panel.chunks_exact(unpacked_bytes::<S>()).enumerate() {
        let (scales, quads) = weights.split_at(Multiplied::<S>::SIZE);
        let record = x.record(g);
        // Tiles are 16 rows high, see `Quantized::group`.
        debug_assert!(record.bytes().len() >= TILE * RUN);
        // SAFETY: the caller has configured the tiles; activations are 16 rows, 32 bytes apart, weights 8 rows, 64
        // bytes apart; the caller is below `Isa::run` for `V`.
        unsafe {
            let codes = record.bytes().as_ptr();
            for (half, products) in products.iter_mut().enumerate().take(S::RUNS) {
                let (x, w) = (codes.add(half * RUN / 2), quads.as_ptr().add(half * 4 * 64));
                if (g + half) % 2 == 0 { even(x, w, products) } else { odd(x, w, products) }
            }
            add::<V, S>(sums, &products, scales, record);
        }
    }
}

/// Makes floats of one run's products and adds them.
#[inline(always)]
unsafe fn add<V: Integers, S: Scales>(
    sums: &mut [V; TILE],
    products: &[Sums; 2],
    scales: &[u8],
    x: super::quantized::Record<'_>,
) {
    // SAFETY: the caller is below `Isa::run` for `V`.
    unsafe {
        let none = [V::zero(); 2];
        let first = Multiplied::<S>::scale(none, scales, 0);
        for r in 0..TILE {
            let mut term = V::to_floats(V::load_ints(&products[0].0[r])).times(first);
            if S::RUNS == 2 {
                let last = Multiplied::<S>::scale(none, scales, 1);
                term = V::to_floats(V::load_ints(&products[1].0[r])).times_plus(last, term);
            }
            sums[r] = term.times_plus(V::spread(x.scale(r)), sums[r]);
            if S::MIN {
                for half in 0..S::RUNS {
                    let min = Multiplied::<S>::min(none, scales, half);
                    let part = if S::RUNS == 1 { Part::All } else { [Part::First, Part::Last][half] };
                    sums[r] = min.times_plus(V::spread(x.scaled_sum(part, r)), sums[r]);
                }
            }
        }
    }
}

macro_rules! product {
    ($name:ident, $sums:literal, $x:literal, $w:literal) => {
        /// Products of one tile of activations and one of weights, on registers that the other of its kind does not
        /// use, so that two can be under way.
        #[inline(always)]
        unsafe fn $name(x: *const u8, w: *const u8, products: &mut Sums) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller promises configured tiles and readable rows; `products` is 16 rows of 64 bytes.
            unsafe {
                std::arch::asm!(
                    concat!("tilezero tmm", $sums),
                    concat!("tileloadd tmm", $x, ", [{x} + {x_stride}]"),
                    concat!("tileloadd tmm", $w, ", [{w} + {w_stride}]"),
                    concat!("tdpbssd tmm", $sums, ", tmm", $x, ", tmm", $w),
                    concat!("tilestored [{to} + {w_stride}], tmm", $sums),
                    x = in(reg) x, x_stride = in(reg) RUN,
                    w = in(reg) w, w_stride = in(reg) 64usize,
                    to = in(reg) products.0.as_mut_ptr(),
                    options(nostack),
                );
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (x, w, products);
        }
    };
}

product!(even, "0", "4", "5");
product!(odd, "1", "6", "7");

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
