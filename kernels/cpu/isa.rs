//! Which instruction set the arithmetic runs on: found once, carried as proof.

use super::integers::Integers;
use super::quantized::{STRIP, TILE};
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Lanes, Vector};
#[cfg(target_arch = "x86_64")]
use std::hint::black_box;
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// An instruction set that this machine has. A value exists only after the check, which is what makes
/// running on it sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with the products of eight-bit numbers that AVX-512 has.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same, where products of many rows take two panels at a time and so half as many inputs from memory. That suits
    /// Intel's processors, some of which take up hardly more than one whole register from memory in a cycle; AMD's Zen 5 gains
    /// nothing by it.
    #[cfg(target_arch = "x86_64")]
    Avx512Pairs,
    /// AVX-512 with the matrix unit.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// Arithmetic that is compiled once for every instruction set.
///
/// `run` and all that it calls in its loops must be `#[inline(always)]`: only then do they become part
/// of the function that has the instruction set's features. Only [`Isa::run`] calls any of it.
pub(super) trait Kernel: Sized {
    /// Whether it makes products of eight-bit numbers, or what they read: AVX-VNNI adds nothing else to AVX2.
    const DOTS: bool = false;

    fn run<V: Integers>(self);

    // A function for each instruction set. They are the kernels' own, because a compiler that works on several modules at
    // a time has all of one module's in one piece.

    fn portable(self) {
        self.run::<Lanes>()
    }

    /// # Safety
    /// The processor has these features, here and below.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2(self) {
        black_box(&mut Line([0; 64]));
        self.run::<Avx2<false>>()
    }

    /// # Safety
    /// See [`avx2`](Self::avx2).
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    unsafe fn avx_vnni(self) {
        black_box(&mut Line([0; 64]));
        self.run::<Avx2<true>>()
    }

    /// # Safety
    /// See [`avx2`](Self::avx2).
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn avx512(self) {
        self.run::<Avx512>()
    }
}

/// A whole cache line. A function that has one on its stack has all that is there in place: what registers have no room
/// for would lie across two lines half of the time otherwise, where a processor waits for it.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "it is only where it is")] [u8; 64]);

/// Whether this is one of Intel's processors. Asked once: a virtual machine asks its host.
#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    static INTEL: LazyLock<bool> = LazyLock::new(|| {
        let name = std::arch::x86_64::__cpuid(0);
        [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    });
    *INTEL
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn best() -> Self {
        *Self::available().last().unwrap_or(&Isa(Set::Portable))
    }

    /// Every instruction set of this machine, the portable one first and the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut sets = vec![Isa(Set::Portable)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            sets.push(Isa(Set::Avx2));
            if is_x86_feature_detected!("avxvnni") {
                sets.push(Isa(Set::AvxVnni));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                let both = [Isa(Set::Avx512), Isa(Set::Avx512Pairs)];
                // The better one last.
                sets.extend(if is_intel() { both } else { [both[1], both[0]] });
                if super::amx::available() {
                    sets.push(Isa(Set::Amx));
                }
            }
        }
        sets
    }

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable if cfg!(target_arch = "aarch64") => "neon",
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Pairs => "avx512pairs",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "amx",
        }
    }

    /// Whether two panels are taken at a time where that is possible.
    pub(super) fn pairs_panels(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Set::Avx512Pairs | Set::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Whether the matrix unit may be used.
    pub(super) fn tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Set::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Rows of activations up to which weights are unpacked in registers, again for every few of them: cheaper up to
    /// here than to unpack them once into the cache and to take them up from there. What is `light` to unpack, a mask and
    /// a shift, is so however many rows there are. More rows are multiplied in whole strips, so that at least one less than
    /// a strip is few.
    pub(super) fn few(self, light: bool) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Avx512Pairs if light => usize::MAX,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Avx512Pairs => 256,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::AvxVnni if light => 32,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::AvxVnni => STRIP - 1,
            _ => 8,
        }
    }

    /// Rows of activations that lie together, of `rows` that are multiplied with the same weights.
    pub(super) fn tile(self, rows: usize) -> usize {
        if self.tiles() && rows > self.few(false) { TILE } else { STRIP.min(rows) }
    }

    /// Whether products are fused with sums. All instruction sets that fuse give the same bits.
    pub fn fused(self) -> bool {
        self.0 != Set::Portable || Lanes::FUSED
    }

    /// Runs `kernel`, compiled for this instruction set.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) {
        match self.0 {
            Set::Portable => kernel.portable(),
            // SAFETY: all are made only by `available`, after it found their features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { kernel.avx2() },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni if const { K::DOTS } => unsafe { kernel.avx_vnni() },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => unsafe { kernel.avx2() },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 | Set::Avx512Pairs | Set::Amx => unsafe { kernel.avx512() },
        }
    }
}

impl std::str::FromStr for Isa {
    type Err = crate::Error;

    /// By name; an error names what this machine has.
    fn from_str(name: &str) -> crate::Result<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name).ok_or_else(|| crate::Error::Shape {
            what: "instruction set",
            expected: Self::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
            got: name.to_owned(),
        })
    }
}
