//! From weights to blocks: one function over all types.
//!
//! The plain types of 32 weights are candle's. Its K types fit scale and minimum once where the reference
//! searches, which costs them several per cent of error, and it has no IQ4 types: those are here, in `k` and
//! `iq4` over the fits in `search`. What a block means is in [`coder_kernels::BlockType`].

mod iq4;
mod k;
mod search;

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use coder_kernels::BlockType;
use half::{bf16, f16};

/// Encodes `x`, whole blocks of finite weights, into `out`, which has exactly their room.
///
/// # Panics
///
/// If the lengths do not fit each other: an error of the caller.
pub(super) fn encode(kind: BlockType, x: &[f32], out: &mut [u8]) {
    assert_eq!(kind.row_bytes(x.len()), Some(out.len()), "room for {} weights of {kind:?}", x.len());
    match kind {
        BlockType::F32 => each(x, out, |x: &[f32; 1], out| *out = x[0].to_le_bytes()),
        BlockType::F16 => each(x, out, |x: &[f32; 1], out| *out = f16::from_f32(x[0]).to_le_bytes()),
        BlockType::BF16 => each(x, out, |x: &[f32; 1], out| *out = bf16::from_f32(x[0]).to_le_bytes()),
        BlockType::Q4_0 => plain(GgmlDType::Q4_0, x, out),
        BlockType::Q4_1 => plain(GgmlDType::Q4_1, x, out),
        BlockType::Q5_0 => plain(GgmlDType::Q5_0, x, out),
        BlockType::Q5_1 => plain(GgmlDType::Q5_1, x, out),
        BlockType::Q8_0 => plain(GgmlDType::Q8_0, x, out),
        BlockType::Q2_K => each(x, out, k::q2_k),
        BlockType::Q3_K => each(x, out, k::q3_k),
        BlockType::Q4_K => each(x, out, k::q4_k),
        BlockType::Q5_K => each(x, out, k::q5_k),
        BlockType::Q6_K => each(x, out, k::q6_k),
        BlockType::IQ4_NL => each(x, out, iq4::iq4_nl),
        BlockType::IQ4_XS => each(x, out, iq4::iq4_xs),
    }
}

/// Encodes block after block.
fn each<const WEIGHTS: usize, const BYTES: usize>(
    x: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; WEIGHTS], &mut [u8; BYTES]),
) {
    for (x, out) in x.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        encode(x, out);
    }
}

/// Encodes with candle's quantizer.
fn plain(kind: GgmlDType, x: &[f32], out: &mut [u8]) {
    let blocks = Tensor::from_slice(x, x.len(), &Device::Cpu).and_then(|x| QTensor::quantize(&x, kind));
    let blocks = blocks.expect("whole blocks on the CPU can be quantized");
    out.copy_from_slice(&blocks.data().expect("blocks on the CPU can be read"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something like a normal distribution, the same in every run.
    fn weights(n: usize, scale: f32) -> Vec<f32> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| scale * (0..6).map(|_| uniform()).sum::<f32>()).collect()
    }

    /// Root mean square of the error, relative to that of the weights.
    fn error(kind: BlockType, x: &[f32]) -> f64 {
        let mut blocks = vec![0; kind.row_bytes(x.len()).expect("whole blocks")];
        encode(kind, x, &mut blocks);
        let mut back = vec![0.0; x.len()];
        kind.dequantize(&blocks, &mut back).expect("whole blocks");
        assert!(back.iter().all(|w| w.is_finite()), "{kind:?}");
        let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let square = sum(&mut x.iter().zip(&back).map(|(a, b)| a - b));
        (square / sum(&mut x.iter().copied()).max(f64::MIN_POSITIVE)).sqrt()
    }

    /// The bounds are a tenth above what normally distributed weights give with the reference's searches.
    #[test]
    fn every_type_is_as_near_as_its_bits_allow() {
        use BlockType::*;
        let x = weights(256 * 64, 0.02);
        let bounds = [
            (F32, 0.0),
            (F16, 3e-4),
            (BF16, 2.5e-3),
            (Q8_0, 0.0065),
            (Q6_K, 0.021),
            (Q5_K, 0.036),
            (Q5_1, 0.042),
            (Q5_0, 0.049),
            (Q4_K, 0.075),
            (IQ4_XS, 0.085),
            (IQ4_NL, 0.083),
            (Q4_1, 0.087),
            (Q4_0, 0.1),
            (Q3_K, 0.165),
            (Q2_K, 0.31),
        ];
        assert_eq!(bounds.len(), BlockType::ALL.len());
        for (kind, bound) in bounds {
            let error = error(kind, &x);
            assert!(error <= bound, "{kind:?}: {error} > {bound}");
        }
    }

    #[test]
    fn odd_blocks_stay_finite() {
        let mut one = vec![0.0; 256];
        one[77] = -3.0;
        let mut mixed = weights(256, 1.0);
        mixed[..128].fill(0.0);
        mixed[200] = 65504.0;
        let tiny = weights(256, 1e-30);
        let inputs = [vec![0.0; 256], vec![0.5; 256], vec![-0.5; 256], one, mixed, tiny, vec![65504.0; 256]];
        for kind in BlockType::ALL {
            for x in &inputs {
                error(kind, x);
            }
        }
    }

    #[test]
    fn equal_weights_survive() {
        use BlockType::*;
        for kind in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS] {
            for value in [0.25f32, -0.25] {
                let error = error(kind, &[value; 256]);
                assert!(error < 0.02, "{kind:?} of {value}: {error}");
            }
        }
    }
}
