//! Dequantization against independent implementations, and against hostile input.

use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use coder_kernels::{BlockType, QuantRows};
use proptest::prelude::*;
use std::borrow::Cow;

/// Reproducible bytes: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 40) as u8
    }
}

/// Where a block has half-precision numbers, which random bytes would make infinite or not a number.
fn halves(kind: BlockType) -> &'static [usize] {
    use BlockType::*;
    match kind {
        F32 | BF16 => &[],
        F16 | Q4_0 | Q5_0 | Q8_0 | IQ4_NL | IQ4_XS => &[0],
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
    }
}

/// `blocks` blocks of random bytes whose scales are finite: normal, subnormal, zero and negative ones.
fn random_blocks(kind: BlockType, blocks: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let size = kind.layout().1;
    let mut data: Vec<u8> = (0..blocks * size).map(|_| random.byte()).collect();
    for block in data.chunks_exact_mut(size) {
        for &at in halves(kind) {
            block[at + 1] &= 0b1011_1111; // below 2: the top bit of the exponent is not set
        }
        if matches!(kind, BlockType::F32 | BlockType::BF16) {
            block[size - 1] &= 0b1011_1111;
        }
    }
    data
}

fn candle_type(kind: BlockType) -> Option<GgmlDType> {
    use BlockType::*;
    Some(match kind {
        F32 => GgmlDType::F32,
        F16 => GgmlDType::F16,
        BF16 => GgmlDType::BF16,
        Q4_0 => GgmlDType::Q4_0,
        Q4_1 => GgmlDType::Q4_1,
        Q5_0 => GgmlDType::Q5_0,
        Q5_1 => GgmlDType::Q5_1,
        Q8_0 => GgmlDType::Q8_0,
        Q2_K => GgmlDType::Q2K,
        Q3_K => GgmlDType::Q3K,
        Q4_K => GgmlDType::Q4K,
        Q5_K => GgmlDType::Q5K,
        Q6_K => GgmlDType::Q6K,
        IQ4_NL | IQ4_XS => return None,
    })
}

fn candle(kind: GgmlDType, data: &[u8], weights: usize) -> Vec<f32> {
    // candle casts the bytes to its blocks, which are as aligned as the first of them.
    let mut aligned = vec![0u64; data.len().div_ceil(8)];
    // SAFETY: the bytes are those of the vector, which is longer; any bytes are a u64.
    let bytes = unsafe { std::slice::from_raw_parts_mut(aligned.as_mut_ptr().cast::<u8>(), data.len()) };
    bytes.copy_from_slice(data);
    let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind).unwrap();
    let tensor = QTensor::new(storage, weights).unwrap().dequantize(&Device::Cpu).unwrap();
    tensor.to_vec1().unwrap()
}

fn dequantized(kind: BlockType, data: &[u8]) -> Vec<f32> {
    let (weights, bytes) = kind.layout();
    let mut out = vec![f32::NAN; data.len() / bytes * weights];
    kind.dequantize(data, &mut out).unwrap();
    out
}

fn assert_same(kind: BlockType, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(e.is_finite(), "{kind:?} weight {i}: the test's own value is {e}");
        // Zero may have either sign: the product's order decides it.
        assert!(g == e, "{kind:?} weight {i}: {g} instead of {e}");
    }
}

#[test]
fn equal_to_candle_bit_for_bit() {
    for kind in BlockType::ALL {
        let Some(dtype) = candle_type(kind) else { continue };
        let blocks = 4096 / kind.layout().0;
        let data = random_blocks(kind, blocks, 7);
        assert_same(kind, &dequantized(kind, &data), &candle(dtype, &data, 4096));
    }
}

/// The table of the IQ4 types, here by its sorted differences.
fn table(code: u8) -> i32 {
    const STEPS: [i32; 15] = [23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24];
    -127 + STEPS.iter().take(usize::from(code)).sum::<i32>()
}

/// The nibble of weight `i` among runs of 32 whose 16 bytes begin at `first`.
fn nibble(block: &[u8], first: usize, i: usize) -> u8 {
    let byte = block[first + i / 32 * 16 + i % 16];
    if i % 32 < 16 { byte % 16 } else { byte / 16 }
}

#[test]
fn iq4_nl_weight_by_weight() {
    let kind = BlockType::IQ4_NL;
    let data = random_blocks(kind, 64, 11);
    let expected: Vec<f32> = (0..64 * 32)
        .map(|i| {
            let block = &data[i / 32 * 18..][..18];
            let d = half::f16::from_bits(u16::from(block[0]) + 256 * u16::from(block[1]));
            d.to_f32() * table(nibble(block, 2, i % 32)) as f32
        })
        .collect();
    assert_same(kind, &dequantized(kind, &data), &expected);
}

#[test]
fn iq4_xs_weight_by_weight() {
    let kind = BlockType::IQ4_XS;
    let data = random_blocks(kind, 64, 13);
    let expected: Vec<f32> = (0..64 * 256)
        .map(|i| {
            let block = &data[i / 256 * 136..][..136];
            let (i, run) = (i % 256, i % 256 / 32);
            let d = half::f16::from_bits(u16::from(block[0]) + 256 * u16::from(block[1]));
            // Scales: four low bits in half a byte, two high bits in a sixteen-bit number.
            let low = [block[4 + run / 2] % 16, block[4 + run / 2] / 16][run % 2];
            let high = block[2 + run / 4] / [1, 4, 16, 64][run % 4] % 4;
            let scale = i32::from(low) + 16 * i32::from(high) - 32;
            d.to_f32() * scale as f32 * table(nibble(block, 8, i)) as f32
        })
        .collect();
    assert_same(kind, &dequantized(kind, &data), &expected);
}

#[test]
fn rows_are_found() {
    for kind in BlockType::ALL {
        let data = random_blocks(kind, 3 * 512 / kind.layout().0, 17);
        let rows = QuantRows::new(kind, 3, 512, &data).unwrap();
        let all = dequantized(kind, &data);
        let mut row = vec![0.0; 512];
        for r in [2, 0, 1] {
            rows.dequantize_row(r, &mut row).unwrap();
            assert_same(kind, &row, &all[r * 512..][..512]);
        }
        assert!(rows.dequantize_row(3, &mut row).is_err());
        assert!(rows.dequantize_row(0, &mut row[1..]).is_err());
    }
}

#[test]
fn sizes_that_overflow_are_errors() {
    for kind in BlockType::ALL {
        let cols = usize::MAX / 256 * 256;
        assert!(QuantRows::new(kind, usize::MAX, cols, &[]).is_err());
        assert!(QuantRows::new(kind, usize::MAX, 256, &[]).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in prop::sample::select(&BlockType::ALL[..]), seed in prop::collection::vec(any::<u8>(), 210..420)) {
        let (weights, bytes) = kind.layout();
        let blocks = seed.len() / bytes;
        let mut out = vec![0.0; blocks * weights];
        prop_assert!(kind.dequantize(&seed[..blocks * bytes], &mut out).is_ok());
    }

    #[test]
    fn wrong_lengths_are_errors(
        kind in prop::sample::select(&BlockType::ALL[..]),
        rows in 0usize..4,
        cols in 0usize..600,
        length in 0usize..3000,
    ) {
        let data = vec![0; length];
        let (weights, bytes) = kind.layout();
        let right = cols % weights == 0 && rows * (cols / weights) * bytes == length;
        prop_assert_eq!(QuantRows::new(kind, rows, cols, &data).is_ok(), right);
        let mut out = vec![0.0; cols];
        let right = cols % weights == 0 && cols / weights * bytes == length;
        prop_assert_eq!(kind.dequantize(&data, &mut out).is_ok(), right);
    }

    #[test]
    fn right_lengths_are_not(kind in prop::sample::select(&BlockType::ALL[..]), rows in 0usize..4, blocks in 0usize..4) {
        let (weights, bytes) = kind.layout();
        let data = vec![0; rows * blocks * bytes];
        prop_assert!(QuantRows::new(kind, rows, blocks * weights, &data).is_ok());
    }
}
