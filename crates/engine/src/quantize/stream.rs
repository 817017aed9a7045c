//! One tensor through the encoder: in pieces, on all cores, in order.

use coder_kernels::BlockType;
use rayon::prelude::*;

use super::{blocks, source::Planned};
use crate::{Error, Result, gguf::shown};

/// Weights that are encoded before they are written and progress is told: a fraction of a second's work.
const PIECE: usize = 1 << 22;

/// Weights that one core takes at a time; in f32 they fit into its second cache.
const SHARE: usize = 1 << 15;

/// The largest number of half precision.
const HALF_MAX: f32 = 65504.0;

/// Decodes `data`, the weights of `tensor`, encodes them and gives them to `write` from front to back: bytes
/// read, and what they became.
pub(super) fn encode(
    tensor: &Planned,
    data: &[u8],
    mut write: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let cols = tensor.shape[0];
    let row = |kind: BlockType| kind.row_bytes(cols).expect("the plan's types fit its columns");
    let (read, written) = (row(tensor.from), row(tensor.to));
    let rows_of = |weights: usize| (weights / cols).max(1);
    let most = if matches!(tensor.to, BlockType::F32 | BlockType::BF16) { f32::MAX } else { HALF_MAX };
    let mut out = Vec::new();
    for data in data.chunks(rows_of(PIECE) * read) {
        out.resize(data.len() / read * written, 0);
        let share = rows_of(SHARE);
        let shares = out.par_chunks_mut(share * written).zip(data.par_chunks(share * read));
        let done = shares.try_for_each_init(Vec::new, |x: &mut Vec<f32>, (out, data)| {
            x.resize(data.len() / read * cols, 0.0);
            tensor.from.dequantize(data, x).map_err(Stopped::Device)?;
            if beyond(x, most) {
                return Err(Stopped::At(x.iter().copied().find(|&v| beyond(&[v], most)).unwrap_or(f32::NAN)));
            }
            blocks::encode(tensor.to, x, out);
            Ok(())
        });
        done.map_err(|stopped| stopped.into_error(&tensor.name))?;
        write(data.len(), &out)?;
    }
    Ok(())
}

/// Why a share was not encoded.
enum Stopped {
    /// A weight that cannot be.
    At(f32),
    Device(coder_kernels::Error),
}

impl Stopped {
    fn into_error(self, tensor: &str) -> Error {
        let tensor = shown(tensor);
        match self {
            Stopped::At(value) if value.is_finite() => Error::BeyondHalf { tensor, value },
            Stopped::At(value) => Error::NotFinite { tensor, value },
            Stopped::Device(error) => error.into(),
        }
    }
}

/// Whether a magnitude is above `most`, or not a number. Magnitudes are compared as integers, which have the
/// same order and put infinity and NaN at the end.
fn beyond(x: &[f32], most: f32) -> bool {
    let magnitude = |v: f32| (v.to_bits() & 0x7fff_ffff) as i32;
    x.iter().fold(0, |a, &v| a.max(magnitude(v))) > magnitude(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_told_apart() {
        assert!(!beyond(&[0.0, -65504.0, 65504.0], HALF_MAX));
        for bad in [65536.0, -65536.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(beyond(&[0.0, bad, 1.0], HALF_MAX), "{bad}");
        }
        assert!(!beyond(&[f32::MAX, f32::MIN], f32::MAX));
        assert!(beyond(&[f32::NEG_INFINITY], f32::MAX));
    }
}
