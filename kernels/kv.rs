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
                let scale = scale(group);
                group.iter_mut().for_each(|x| *x = f32::from(quantize(*x, scale)) * scale.to_f32());
            }),
        }
    }
}

/// The scale of a group: what makes its largest number 127. It is no number if any of the group is none,
/// and infinite, so that nothing of the group is a number when read, if any is infinite.
pub(crate) fn scale(group: &[f32]) -> f16 {
    let largest = group.iter().fold(0.0f32, |a, x| if a.is_nan() || x.abs() <= a { a } else { x.abs() });
    f16::from_f32(largest / 127.0)
}

/// The whole number that times the stored scale is nearest to `x`, ties to even.
#[inline(always)]
pub(crate) fn quantize(x: f32, scale: f16) -> i8 {
    let scale = scale.to_f32();
    // A group of zeros, or of numbers too small for any scale.
    let n = if scale > 0.0 { (x / scale).round_ties_even() } else { 0.0 };
    n.clamp(-127.0, 127.0) as i8 // what is no number becomes 0; its scale tells
}
