//! Keys and values of one layer, laid out for attention's loops.
//!
//! Slots come in blocks of [`BLOCK`]. A block holds for each key and value head
//!
//! - keys `[dim][BLOCK]`: attention computes the scores of sixteen positions at a time, column by column,
//!   and never sums across a register;
//! - values `[BLOCK][width]`, where `width` is `dim` rounded up to whole registers; the columns beyond
//!   `dim` are 0;
//! - and if entries are quantized, scales `[groups][BLOCK]` of both, one for each [`GROUP`] columns.
//!
//! Reading widens entries exactly (a quantized one is a product of 8 by 11 bits), so it makes no
//! difference whether a block is widened once for many queries or on the way for one.

use super::storage::{Pages, Zero, positive, zeroed};
use super::vector::{LANES, Vector};
use crate::error::{below, equal};
use crate::kv::{GROUP, quantize, scale};
use crate::{BLOCK, Heads, KvType, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Registers of positions in a block.
pub(super) const PARTS: usize = BLOCK / LANES;

/// Keys and values of one layer, `[slots, heads.kv, heads.dim]` each.
#[derive(Debug)]
pub struct Kv {
    pub(super) heads: Heads,
    pub(super) slots: usize,
    pub(super) store: Store,
}

/// Keys, then values.
#[derive(Debug)]
pub(super) enum Store {
    F32(Side<f32>, Side<f32>),
    F16(Side<f16>, Side<f16>),
    Q8(Side<i8>, Side<i8>),
}

impl Kv {
    pub(super) fn new(slots: usize, heads: Heads, dtype: KvType) -> Result<Self> {
        positive("key and value heads", heads.kv)?;
        positive("query heads", heads.q)?;
        positive("columns of a head", heads.dim)?;
        equal("query heads beyond whole groups", heads.q % heads.kv, 0)?;
        equal("columns of a head beyond pairs", heads.dim % 2, 0)?;
        let store = match dtype {
            KvType::F32 => Store::F32(Side::new(slots, heads)?, Side::new(slots, heads)?),
            KvType::F16 => Store::F16(Side::new(slots, heads)?, Side::new(slots, heads)?),
            KvType::Q8_0 => Store::Q8(Side::new(slots, heads)?, Side::new(slots, heads)?),
        };
        Ok(Self { heads, slots, store })
    }

    /// Keeps the keys and values `[heads.kv, heads.dim]` of one position in `slot`, which is below `slots`.
    pub(super) fn keep(&mut self, slot: usize, keys: &[f32], values: &[f32]) {
        let heads = self.heads;
        match &mut self.store {
            Store::F32(k, v) => Side::keep(k, v, heads, slot, keys, values),
            Store::F16(k, v) => Side::keep(k, v, heads, slot, keys, values),
            Store::Q8(k, v) => Side::keep(k, v, heads, slot, keys, values),
        }
    }

    /// Bytes of the keys and values of one block.
    pub(super) fn block_bytes(&self) -> usize {
        let bytes = match &self.store {
            Store::F32(k, _) => k.block_bytes(self.heads),
            Store::F16(k, _) => k.block_bytes(self.heads),
            Store::Q8(k, _) => k.block_bytes(self.heads),
        };
        2 * bytes
    }

    /// Keys, then values, as they lie in memory, little endian.
    pub(super) fn read_block(&self, block: u32, out: &mut [u8]) -> Result<()> {
        self.holds(block, out.len())?;
        let (keys, values) = out.split_at_mut(out.len() / 2);
        match &self.store {
            Store::F32(k, v) => [(k, keys), (v, values)].map(|(side, out)| side.read(block, self.heads, out)),
            Store::F16(k, v) => [(k, keys), (v, values)].map(|(side, out)| side.read(block, self.heads, out)),
            Store::Q8(k, v) => [(k, keys), (v, values)].map(|(side, out)| side.read(block, self.heads, out)),
        };
        Ok(())
    }

    pub(super) fn write_block(&mut self, block: u32, data: &[u8]) -> Result<()> {
        self.holds(block, data.len())?;
        let (keys, values) = data.split_at(data.len() / 2);
        let heads = self.heads;
        match &mut self.store {
            Store::F32(k, v) => [(k, keys), (v, values)].map(|(side, data)| side.write(block, heads, data)),
            Store::F16(k, v) => [(k, keys), (v, values)].map(|(side, data)| side.write(block, heads, data)),
            Store::Q8(k, v) => [(k, keys), (v, values)].map(|(side, data)| side.write(block, heads, data)),
        };
        Ok(())
    }

    fn holds(&self, block: u32, bytes: usize) -> Result<()> {
        below("block", block as usize, self.slots / BLOCK)?;
        equal("bytes of a block", bytes, self.block_bytes())
    }
}

/// Columns of a value in the cache: whole registers.
pub(super) fn width(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// The keys, or the values, of one layer.
#[derive(Debug)]
pub(super) struct Side<T> {
    /// `[blocks, heads.kv]` times what one block holds for one head. It begins with a page, so that no register is
    /// loaded from two cache lines.
    entries: Pages<T>,
    /// `[blocks, heads.kv, groups, BLOCK]` if entries are quantized, else empty.
    scales: Vec<f16>,
    /// Entries of one block and head: room for keys and for values alike.
    size: usize,
    /// Scales of one block and head.
    groups: usize,
}

impl<T: Entry> Side<T> {
    fn new(slots: usize, heads: Heads) -> Result<Self> {
        let places = slots.div_ceil(BLOCK).saturating_mul(heads.kv);
        let size = BLOCK.saturating_mul(width(heads.dim));
        let groups = if T::SCALED { BLOCK * heads.dim.div_ceil(GROUP) } else { 0 };
        Ok(Self {
            entries: Pages::zeroed("keys and values", places, size)?,
            scales: zeroed("scales of keys and values", places, groups)?,
            size,
            groups,
        })
    }

    /// What block `block` holds for head `head` of `heads.kv`.
    #[inline(always)]
    pub(super) fn block(&self, block: u32, head: usize, heads: Heads) -> Block<'_, T> {
        let place = block as usize * heads.kv + head;
        let entries = &self.entries[place * self.size..][..self.size];
        Block { entries, scales: &self.scales[place * self.groups..][..self.groups], ahead: 0 }
    }

    /// Bytes of one block of all heads, scales behind entries.
    fn block_bytes(&self, heads: Heads) -> usize {
        heads.kv * (self.size * size_of::<T>() + 2 * self.groups)
    }

    /// The entries and the scales of all heads of a block.
    fn places(&self, block: u32, heads: Heads) -> [std::ops::Range<usize>; 2] {
        let (first, end) = (block as usize * heads.kv, (block as usize + 1) * heads.kv);
        [first * self.size..end * self.size, first * self.groups..end * self.groups]
    }

    fn read(&self, block: u32, heads: Heads, out: &mut [u8]) {
        let [entries, scales] = self.places(block, heads);
        let (of_entries, of_scales) = out.split_at_mut(entries.len() * size_of::<T>());
        for (out, entry) in of_entries.chunks_exact_mut(size_of::<T>()).zip(&self.entries[entries]) {
            entry.put(out);
        }
        for (out, scale) in of_scales.chunks_exact_mut(2).zip(&self.scales[scales]) {
            scale.put(out);
        }
    }

    fn write(&mut self, block: u32, heads: Heads, data: &[u8]) {
        let [entries, scales] = self.places(block, heads);
        let (of_entries, of_scales) = data.split_at(entries.len() * size_of::<T>());
        for (entry, data) in self.entries[entries].iter_mut().zip(of_entries.chunks_exact(size_of::<T>())) {
            *entry = T::take(data);
        }
        for (scale, data) in self.scales[scales].iter_mut().zip(of_scales.chunks_exact(2)) {
            *scale = f16::take(data);
        }
    }

    fn keep(keys: &mut Self, values: &mut Self, heads: Heads, slot: usize, k: &[f32], v: &[f32]) {
        let Heads { kv, dim, .. } = heads;
        let (block, at) = (slot / BLOCK, slot % BLOCK);
        for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            let place = block * kv + head;
            let first = place * values.size + at * width(dim);
            let (key, value) = (place * keys.size, &mut values.entries[first..][..dim]);
            let key = &mut keys.entries[key..][..dim * BLOCK];
            let scales = place * keys.groups;
            for (g, (k, v)) in k.chunks(GROUP).zip(v.chunks(GROUP)).enumerate() {
                let (mut narrow, columns) = ([T::default(); GROUP], g * GROUP..g * GROUP + k.len());
                let scale = T::narrow(k, &mut narrow);
                for (column, n) in columns.clone().zip(narrow) {
                    key[column * BLOCK + at] = n;
                }
                let of_value = T::narrow(v, &mut narrow);
                value[columns].copy_from_slice(&narrow[..v.len()]);
                if T::SCALED {
                    keys.scales[scales + g * BLOCK + at] = scale;
                    values.scales[scales + g * BLOCK + at] = of_value;
                }
            }
        }
    }
}

/// What one block holds for one head: keys `[dim][BLOCK]` or values `[BLOCK][width]`.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, T> {
    pub(super) entries: &'a [T],
    /// `[groups][BLOCK]`, empty if entries are not quantized.
    scales: &'a [f16],
    /// How many bytes further what is read next is.
    ahead: isize,
}

impl<'a> Block<'a, f32> {
    /// A block that is widened already.
    #[inline(always)]
    pub(super) fn wide(entries: &'a [f32]) -> Self {
        Self { entries, scales: &[], ahead: 0 }
    }
}

impl<T: Entry> Block<'_, T> {
    /// The same, `next` being what is read after it: keys or values of some block.
    #[inline(always)]
    pub(super) fn before(self, next: Option<Self>) -> Self {
        let at = self.entries.as_ptr().addr();
        let next = next.map_or(at, |next| next.entries.as_ptr().addr());
        Self { ahead: next.wrapping_sub(at) as isize, ..self }
    }

    /// Asks for the cache line of the next block that is where `entries` are in this one, once for all
    /// registers `part` of a row. What is in f32 the processor foresees well enough.
    #[inline(always)]
    pub(super) fn prefetch<V: Vector>(&self, entries: &[T], part: usize) {
        if !T::WIDE && part == 0 {
            V::prefetch(entries.as_ptr().wrapping_byte_offset(self.ahead));
        }
    }

    /// The scales of the positions of register `part`, for the columns of group `group`. All 0 where
    /// entries have none.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    #[inline(always)]
    pub(super) unsafe fn scales<V: Vector>(&self, group: usize, part: usize) -> V {
        if !T::SCALED {
            // SAFETY: the caller knows the instruction set.
            return unsafe { V::zero() };
        }
        let scales = &self.scales.as_chunks().0[group * PARTS + part];
        // SAFETY: as above.
        unsafe { V::load_f16(scales) }
    }
}

/// A number as keys and values are stored.
pub(super) trait Entry: Copy + Default + Zero + Send + Sync {
    /// Whether entries are multiples of a scale.
    const SCALED: bool;
    /// Whether entries are f32 already.
    const WIDE: bool;

    /// Puts it into as many bytes as it has, little endian.
    fn put(&self, out: &mut [u8]);

    /// The inverse.
    fn take(data: &[u8]) -> Self;

    /// Rounds one group of columns, and gives its scale.
    fn narrow(from: &[f32], to: &mut [Self; GROUP]) -> f16;

    /// Sixteen entries as f32, times their scales if they have any.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set.
    unsafe fn load<V: Vector>(from: &[Self; LANES], scales: V) -> V;
}

impl Entry for f32 {
    const SCALED: bool = false;
    const WIDE: bool = true;

    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.to_le_bytes());
    }

    fn take(data: &[u8]) -> Self {
        data.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    }

    fn narrow(from: &[f32], to: &mut [f32; GROUP]) -> f16 {
        to[..from.len()].copy_from_slice(from);
        f16::ONE
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: &[f32; LANES], _: V) -> V {
        // SAFETY: the caller knows the instruction set.
        unsafe { V::load(from) }
    }
}

impl Entry for f16 {
    const SCALED: bool = false;
    const WIDE: bool = false;

    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.to_le_bytes());
    }

    fn take(data: &[u8]) -> Self {
        data.first_chunk().map_or(f16::ZERO, |bytes| f16::from_le_bytes(*bytes))
    }

    fn narrow(from: &[f32], to: &mut [f16; GROUP]) -> f16 {
        to[..from.len()].convert_from_f32_slice(from);
        f16::ONE
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: &[f16; LANES], _: V) -> V {
        // SAFETY: the caller knows the instruction set.
        unsafe { V::load_f16(from) }
    }
}

// SAFETY: zero bits are 0.
unsafe impl Zero for i8 {}

impl Entry for i8 {
    const SCALED: bool = true;
    const WIDE: bool = false;

    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.to_le_bytes());
    }

    fn take(data: &[u8]) -> Self {
        data.first_chunk().map_or(0, |bytes| i8::from_le_bytes(*bytes))
    }

    fn narrow(from: &[f32], to: &mut [i8; GROUP]) -> f16 {
        let scale = scale(from);
        let wide = scale.to_f32();
        to.iter_mut().zip(from).for_each(|(n, x)| *n = quantize(*x, wide));
        scale
    }

    #[inline(always)]
    unsafe fn load<V: Vector>(from: &[i8; LANES], scales: V) -> V {
        // SAFETY: the caller knows the instruction set.
        unsafe { V::load_i8(from).mul(scales) }
    }
}
