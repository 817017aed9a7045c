//! How keys and values are rounded when they are stored, the same on every device.

use crate::Heads;
use half::f16;

/// Columns of a head that share a scale in [`KvType::Q8_0`].
pub(crate) const GROUP: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KvType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    #[default]
    F16,
    /// 8-bit whole numbers with one f16 scale for 32 columns of a head.
    Q8_0,
}

impl KvType {
    /// Bytes of the keys, or of the values, of one position.
    pub fn row_bytes(self, heads: Heads) -> usize {
        match self {
            KvType::F32 => 4 * heads.kv * heads.dim,
            KvType::F16 => 2 * heads.kv * heads.dim,
            KvType::Q8_0 => heads.kv * (heads.dim + 2 * heads.dim.div_ceil(GROUP)),
        }
    }

    /// Rounds the keys or values of one head of one position to what is read back when they are stored.
    pub fn round(self, head: &mut [f32]) {
        match self {
            KvType::F32 => {}
            KvType::F16 => head.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
            KvType::Q8_0 => head.chunks_mut(GROUP).for_each(|group| {
                let scale = scale(group).to_f32();
                group.iter_mut().for_each(|x| *x = f32::from(quantize(*x, scale)) * scale);
            }),
        }
    }
}

/// The scale of a group: what makes its largest number 127. If any of the group is infinite or no number,
/// so is the scale, and nothing of the group is finite when it is read.
pub(crate) fn scale(group: &[f32]) -> f16 {
    let largest = group.iter().fold(0.0f32, |a, x| if a.is_nan() || x.abs() <= a { a } else { x.abs() });
    f16::from_f32(largest / 127.0)
}

/// The whole number that times the stored scale is nearest to `x`, ties to even. 0 for a group of zeros, or
/// of numbers too small for any scale.
#[inline(always)]
pub(crate) fn quantize(x: f32, scale: f32) -> i8 {
    // Numbers from here to twice this have no digits after the point: adding it rounds, and leaves the
    // whole number in the lowest bits. No branches and no casts, so that the compiler makes vectors of it.
    const ROUND: f32 = 12_582_912.0;
    let n = if scale > 0.0 { x / scale } else { 0.0 };
    (n.clamp(-127.0, 127.0) + ROUND).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::{KvType, quantize};

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        let n = [0.0, 0.5, 1.5, -0.5, -1.5, 126.6, -126.4, 127.4, 1e9, -1e9];
        assert_eq!(n.map(|n| quantize(n * 0.25, 0.25)), [0, 0, 2, 0, -2, 127, -126, 127, 127, -127]);
        assert_eq!(quantize(1e-9, 0.0), 0);
    }

    #[test]
    fn what_is_read_back_is_within_half_a_step_or_not_finite() {
        let mut head: Vec<f32> = (0..70).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let exact = head.clone();
        KvType::Q8_0.round(&mut head);
        // The scale is rounded to 11 bits, so that the largest may be further away.
        assert!(head.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 3.0 / 127.0 * 0.57));
        for odd in [f32::NAN, f32::INFINITY] {
            head[3] = odd;
            KvType::Q8_0.round(&mut head);
            assert!(head[..32].iter().all(|x| !x.is_finite()) && head[32..].iter().all(|x| x.is_finite()));
        }
        let mut zeros = [0.0; 32];
        KvType::Q8_0.round(&mut zeros);
        assert_eq!(zeros, [0.0; 32]);
    }
}
