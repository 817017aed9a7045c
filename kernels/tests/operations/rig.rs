//! What the tests need: reproducible numbers, buffers filled through the contract alone, comparisons.

use coder_kernels::cuda::{self, Cuda};
use coder_kernels::{BLOCK, Backend, Batch, BlockType, QuantRows, Span};

/// Reproducible numbers: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// Between -1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        self.bits() as f32 / (u32::MAX / 2) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// Rows in `kind` with scales of the order of 0.01, so that nothing overflows.
    pub(crate) fn weights(&mut self, kind: BlockType, rows: usize, cols: usize) -> Vec<u8> {
        let bytes = kind.row_bytes(cols).unwrap();
        let scale = half::f16::from_f32(0.01).to_le_bytes();
        if kind == BlockType::F32 {
            return self.floats(rows * cols).into_iter().flat_map(f32::to_le_bytes).collect();
        }
        if matches!(kind, BlockType::F16 | BlockType::BF16) {
            let bits = |x: f32| match kind {
                BlockType::F16 => half::f16::from_f32(x).to_le_bytes(),
                _ => half::bf16::from_f32(x).to_le_bytes(),
            };
            return self.floats(rows * cols).into_iter().flat_map(bits).collect();
        }
        let mut data: Vec<u8> = (0..rows * bytes).map(|_| self.bits() as u8).collect();
        let size = kind.layout().1;
        use BlockType::*;
        let places: &[usize] = match kind {
            Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
            Q2_K => &[80, 82],
            Q3_K => &[108],
            Q6_K => &[208],
            _ => &[0],
        };
        for block in data.chunks_exact_mut(size) {
            for &at in places {
                block[at..at + 2].copy_from_slice(&scale);
            }
        }
        data
    }
}

/// The kernels for cards: on a card if this was built for one and it is there, else on the emulator.
pub(crate) fn library() -> cuda::Library {
    let card = cuda::Library::linked().filter(|library| library.count().is_ok_and(|n| n > 0));
    card.unwrap_or_else(coder_cuda_emulator::library)
}

/// A card. With `graphs`, the first step of a kind runs as it is, the second is captured, later ones are replayed.
pub(crate) fn card(graphs: bool) -> Cuda {
    Cuda::open(library(), &cuda::Options { graphs, rows: 1024, ..Default::default() }).unwrap()
}

/// Runs a test on every device: each instruction set of the processor, and every card. A macro, because the test is
/// compiled for each type of device.
macro_rules! every_device {
    (|$device:ident| $test:block) => {
        for isa in coder_kernels::cpu::Isa::available() {
            eprintln!("{}", isa.name());
            let $device = &mut coder_kernels::cpu::Cpu::with(isa, 2);
            $test
        }
        let $device = &mut card(true);
        eprintln!("{}", coder_kernels::Backend::name($device));
        $test
    };
}
pub(crate) use every_device;

/// Rows of one sequence from position 0, kept in blocks 0, 1, …; token `r` in row `r`.
pub(crate) fn sequence(rows: usize) -> Batch {
    let n = rows as u32;
    let blocks = (0..rows.div_ceil(BLOCK) as u32).collect();
    Batch {
        tokens: (0..n).collect(),
        positions: (0..n).collect(),
        slots: (0..n).collect(),
        spans: vec![Span { first: 0, rows: n, blocks }],
        logits: Vec::new(),
    }
}

/// A buffer with the rows of `data [_, cols]` in use.
pub(crate) fn filled<B: Backend>(cpu: &mut B, data: &[f32], cols: usize) -> B::Buf {
    let mut x = cpu.buf(data.len() / cols, cols).unwrap();
    cpu.write(&mut x, data).unwrap();
    x
}

pub(crate) fn bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A weight of one part and one expert.
pub(crate) fn dense<B: Backend>(cpu: &B, kind: BlockType, data: &[u8], cols: usize) -> B::Mat {
    let rows = data.len() / kind.row_bytes(cols).unwrap();
    cpu.mat(&[QuantRows::new(kind, rows, cols, data).unwrap()], 1).unwrap()
}

/// The rows in use.
pub(crate) fn read<B: Backend>(cpu: &mut B, x: &B::Buf, rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * cols];
    cpu.read(x, &mut out).unwrap();
    let bits = |x: &f32| x.to_bits();
    assert!(cpu.host(x).is_none_or(|there| there.iter().map(bits).eq(out.iter().map(bits))));
    out
}

pub(crate) fn decoded(kind: BlockType, data: &[u8]) -> Vec<f32> {
    let (weights, size) = kind.layout();
    let mut out = vec![0.0; data.len() / size * weights];
    kind.dequantize(data, &mut out).unwrap();
    out
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// The activations that products of weights of `kind` see on `device`: as they are, or eight bits and a scale, for each 128
/// where weights have integer scales (the processor takes IQ4_XS's for floats), else for each 32.
pub(crate) fn rounded<B: Backend>(device: &B, kind: BlockType, x: &[f32]) -> Vec<f32> {
    use BlockType::*;
    if kind.layout().0 == 1 {
        return x.to_vec();
    }
    let cpu = device.name().starts_with("cpu");
    if matches!(kind, Q2_K | Q3_K | Q4_K | Q5_K | Q6_K) || kind == IQ4_XS && !cpu {
        let most = if cpu { 1023.0 } else { f32::INFINITY };
        return x.chunks(128).flat_map(|x| rounded_wide(x, most)).collect();
    }
    x.chunks(32).flat_map(rounded_fine).collect()
}

fn inverse(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// The best of four scales.
fn rounded_fine(x: &[f32]) -> Vec<f32> {
    let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
    let tried = [127.0, 125.0, 123.0, 121.0].map(|most| {
        let scale = largest / most;
        let inverse = inverse(scale);
        let codes: Vec<f32> = x.iter().map(|x| (x * inverse).round_ties_even()).collect();
        let error = |(x, code): (&f32, &f32)| ((x * inverse - code) * 1024.0).round_ties_even() as i32;
        let error = x.iter().zip(&codes).map(error).map(|e| e * e).sum::<i32>() as f32 * scale * scale;
        (error, codes.into_iter().map(|code| code * scale).collect::<Vec<_>>())
    });
    tried.into_iter().reduce(|a, b| if b.0 < a.0 { b } else { a }).unwrap().1
}

/// Codes up to 127, of which no 16 sum to more than `sum`, which is 1023 if there is a limit.
fn rounded_wide(x: &[f32], sum: f32) -> Vec<f32> {
    let codes = |scale| x.iter().map(move |x| (x * inverse(scale)).round_ties_even());
    let mut scale = x.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.49;
    let magnitudes: Vec<f32> = codes(scale).map(f32::abs).collect();
    let most = magnitudes.chunks(16).map(|codes| codes.iter().sum()).fold(0f32, f32::max);
    if most > sum {
        scale *= (most + 8.0) / 1015.0;
    }
    codes(scale).map(|code| code * scale).collect()
}

/// The scalar product, and the sum of the absolute products, which rounding errors are relative to.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
}

/// Each `got` is within `tolerance` of its `expected`, relative to the largest of them.
pub(crate) fn assert_near(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs();
        assert!(
            error <= tolerance * size,
            "{what}[{i}]: {g} instead of {e}, tolerance {tolerance} of {size}"
        );
    }
}

/// The same bits.
pub(crate) fn assert_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let same = got.iter().zip(expected).position(|(g, e)| g.to_bits() != e.to_bits());
    assert_eq!(same, None, "{what}: first place with other bits");
}
