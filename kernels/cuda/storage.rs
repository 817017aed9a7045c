//! What a card keeps: activations, keys and values, routing decisions; and its memory itself.

use super::api::{self, RUN, UNIT};
use super::capacity;
use super::choose::Desk;
use super::device::Device;
use crate::error::{below, equal};
use crate::kv::GROUP;
use crate::{BLOCK, Error, Heads, KvType, Result};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

/// Experts that the router's kernel can choose from, at most.
const MAX_EXPERTS: usize = 1024;

/// Experts of one row, at most.
pub(super) const MAX_TOP_K: usize = 32;

/// Where memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the card.
    Card,
    /// In the host's memory, where the card reads it in place.
    Host,
}

/// Numbers without padding, of which any bits are one.
pub(super) trait Number: Copy {}
impl Number for i32 {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for f32 {}

/// Memory that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Memory {
    device: Arc<Device>,
    place: Place,
    /// As the host sees it; null on the card.
    host: *mut c_void,
    /// As the card sees it.
    card: *mut c_void,
    bytes: usize,
}

// SAFETY: the pointers are this value's own; the host's are used through `&mut` or the device's ordered calls.
unsafe impl Send for Memory {}

impl Memory {
    /// `bytes` zeroed bytes.
    pub(super) fn new(device: &Arc<Device>, place: Place, what: &'static str, bytes: usize) -> Result<Self> {
        let [host, card] = match place {
            Place::Card => [null_mut(), device.allocate(what, bytes)?],
            Place::Host => device.allocate_host(what, bytes)?,
        };
        Ok(Self { device: device.clone(), place, host, card, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The card's pointer to the byte at `offset`, which may be the first behind the end.
    pub(super) fn at(&self, offset: usize) -> *mut c_void {
        assert!(offset <= self.bytes, "an offset within the allocation");
        self.card.wrapping_byte_add(offset)
    }

    /// Copies `data` to the byte at `offset`.
    pub(super) fn upload(&mut self, offset: usize, data: &[u8]) -> Result<()> {
        assert!(offset + data.len() <= self.bytes, "a copy within the allocation");
        if data.is_empty() {
            return Ok(());
        }
        match self.place {
            Place::Card => {
                let to = self.at(offset);
                // SAFETY: both are valid for `data.len()` bytes, by the check above.
                self.device
                    .call("upload", |api, d| unsafe { (api.upload)(d, to, data.as_ptr().cast(), data.len()) })
            }
            Place::Host => {
                // SAFETY: within the allocation, by the check above. Weights are written before the first step, and what
                // is picked of logits when the step before was waited for.
                unsafe {
                    let to = self.host.cast::<u8>().add(offset);
                    std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len());
                }
                Ok(())
            }
        }
    }

    pub(super) fn upload_numbers<T: Number>(&mut self, offset: usize, data: &[T]) -> Result<()> {
        // SAFETY: numbers are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), size_of_val(data)) };
        self.upload(offset, bytes)
    }

    /// Copies numbers from the byte at `offset`; waits for all operations before it.
    pub(super) fn download<T: Number>(&self, offset: usize, out: &mut [T]) -> Result<()> {
        // SAFETY: any bits are such numbers, and they have no padding.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), size_of_val(out)) };
        self.download_from(offset, bytes)
    }

    /// Copies from the byte at `offset`; waits for all operations before it.
    fn download_from(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        let bytes = out.len();
        assert!(offset + bytes <= self.bytes, "a copy within the allocation");
        if bytes == 0 {
            return Ok(());
        }
        let from = self.at(offset);
        // SAFETY: both are valid for `bytes` bytes, by the check above.
        self.device
            .call("download", |api, d| unsafe { (api.download)(d, out.as_mut_ptr().cast(), from, bytes) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: from `allocate` and `allocate_host`; nobody has a pointer to a dropped value.
        unsafe {
            match self.place {
                Place::Card => self.device.release(self.card, self.bytes),
                Place::Host => self.device.release_host(self.host),
            }
        }
    }
}

/// Rows in use, and rows that operations compute: as many, or those of the bucket of a recorded step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) rows: usize,
    pub(super) computed: usize,
}

/// Lays arrays one behind the other, each on 256 bytes; the bytes that are taken.
#[derive(Default)]
pub(super) struct Layout(pub(super) usize);

impl Layout {
    /// The offset of the next array, of `bytes` bytes.
    pub(super) fn place(&mut self, bytes: usize) -> usize {
        let at = self.0;
        self.0 = at.saturating_add(bytes).checked_next_multiple_of(256).unwrap_or(usize::MAX);
        at
    }
}

/// Activations `[rows, cols]`, row major, and beside them room for their rounding to eight bits.
#[derive(Debug)]
pub struct Buf {
    memory: Memory,
    /// Offsets of the rounding's codes, scales and sums; `None` if no product of quantized weights can read it.
    codes: Option<[usize; 3]>,
    max_rows: usize,
    pub(super) cols: usize,
    pub(super) used: Used,
    /// Whether the rounding is of what the buffer holds, where there is room for one.
    pub(super) rounded: Cell<bool>,
    /// Columns of the rounding that share a scale: what the last product that read it asked for, so that whoever writes
    /// rows next may round them so.
    pub(super) shared: Cell<usize>,
    /// Where its rows are chosen of, if they are logits.
    pub(super) desk: Option<Desk>,
}

impl Buf {
    pub(super) fn new(device: &Arc<Device>, rows: usize, cols: usize) -> Result<Self> {
        positive("columns of a buffer", cols)?;
        let (what, max_rows) = ("activations", capacity(rows));
        let sizes = sizes(max_rows, cols).ok_or(Error::OutOfMemory { what, bytes: usize::MAX })?;
        let mut layout = Layout::default();
        layout.place(sizes[0]);
        let codes = sizes[1..].iter().all(|s| *s > 0).then(|| [1, 2, 3].map(|i| layout.place(sizes[i])));
        let memory = Memory::new(device, Place::Card, what, layout.0)?;
        let (used, rounded, shared) = (Used::default(), Cell::new(false), Cell::new(UNIT));
        Ok(Self { memory, codes, max_rows, cols, used, rounded, shared, desk: None })
    }

    /// One of which is chosen, and which no product reads.
    pub(super) fn logits(device: &Arc<Device>, rows: usize, vocab: usize) -> Result<Self> {
        positive("columns of a buffer", vocab)?;
        let (what, max_rows) = ("logits", capacity(rows));
        let (layout, places) = logits_layout(max_rows, vocab);
        let memory = Memory::new(device, Place::Card, what, layout.0)?;
        let desk = places.map(|places| Desk::new(device, places, max_rows, vocab)).transpose()?;
        let (used, rounded, shared) = (Used::default(), Cell::new(false), Cell::new(UNIT));
        Ok(Self { memory, codes: None, max_rows, cols: vocab, used, rounded, shared, desk })
    }

    pub(super) fn vector(device: &Arc<Device>, data: &[f32]) -> Result<Self> {
        let mut buf = Self::new(device, 1, data.len())?;
        buf.upload(data)?;
        buf.used = Used { rows: 1, computed: 1 };
        Ok(buf)
    }

    pub(super) fn rows(&self) -> usize {
        self.used.rows
    }

    /// Puts rows in use, for an operation to write.
    pub(super) fn begin(&mut self, what: &'static str, used: Used, cols: usize) -> Result<()> {
        equal(what, self.cols, cols)?;
        if used.rows.max(used.computed) > self.max_rows {
            let (expected, got) = (format!("room for {} rows", used.computed), self.max_rows.to_string());
            return Err(Error::Shape { what, expected, got });
        }
        self.used = used;
        self.rounded.set(false);
        Ok(())
    }

    /// The operand of an operation that changes what the buffer holds.
    pub(super) fn written(&mut self) -> api::Rows {
        self.rounded.set(false);
        self.operand()
    }

    pub(super) fn operand(&self) -> api::Rows {
        let [q, scale, sum] = self.codes.map_or([null_mut(); 3], |c| c.map(|at| self.memory.at(at)));
        api::Rows {
            x: self.memory.at(0).cast(),
            q: q.cast(),
            scale: scale.cast(),
            sum: sum.cast(),
            rows: self.used.computed as i32,
            cols: self.cols as i32,
            shared: self.shared.get() as i32,
        }
    }

    /// A weight of one row, `[1, cols]`.
    pub(super) fn vector_of(&self, what: &'static str, cols: usize) -> Result<*const f32> {
        equal(what, self.cols, cols)?;
        equal(what, self.rows(), 1)?;
        Ok(self.operand().x)
    }

    pub(super) fn upload(&mut self, data: &[f32]) -> Result<()> {
        self.memory.upload_numbers(0, data)
    }

    pub(super) fn download(&self, out: &mut [f32]) -> Result<()> {
        self.memory.download(0, out)
    }

    /// The card's pointer to the byte at `offset`.
    pub(super) fn place(&self, offset: usize) -> *mut c_void {
        self.memory.at(offset)
    }

    /// Copies what lies at the byte at `offset`; waits for all operations before it.
    pub(super) fn download_from(&self, offset: usize, out: &mut [u64]) -> Result<()> {
        self.memory.download(offset, out)
    }

    /// Copies one row in use to the host.
    pub(super) fn download_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        equal("elements to read", out.len(), self.cols)?;
        self.memory.download(4 * row * self.cols, out)
    }
}

/// Bytes of the numbers, codes, scales and sums of `[rows, cols]` activations; the latter three 0 where `cols` is no
/// multiple of 32. `None` if that is more than can be addressed.
fn sizes(rows: usize, cols: usize) -> Option<[usize; 4]> {
    let numbers = rows.checked_mul(cols)?.checked_mul(4)?;
    i32::try_from(rows).ok().and(i32::try_from(cols).ok())?;
    let units = if cols.is_multiple_of(RUN) { rows.checked_mul(cols.div_ceil(UNIT))? } else { 0 };
    // Kernels count runs in 32 bits.
    i32::try_from(units.checked_mul(UNIT / RUN)?).ok()?;
    Some([numbers, units.checked_mul(UNIT)?, 16 * units, 16 * units])
}

/// Bytes of the card that a buffer takes.
pub(super) fn buf_bytes(rows: usize, cols: usize) -> u64 {
    let mut layout = Layout::default();
    sizes(capacity(rows), cols).into_iter().flatten().for_each(|s| _ = layout.place(s));
    layout.0 as u64
}

/// Logits, and what is needed to choose of them where that can be done.
fn logits_layout(rows: usize, vocab: usize) -> (Layout, Option<[usize; 3]>) {
    let mut layout = Layout::default();
    layout.place(sizes(rows, vocab).map_or(usize::MAX, |sizes| sizes[0]));
    let places = Desk::places(&mut layout, rows, vocab);
    (layout, places)
}

/// Bytes of the card that a buffer for logits takes.
pub(super) fn logits_bytes(rows: usize, vocab: usize) -> u64 {
    logits_layout(capacity(rows), vocab).0.0 as u64
}

/// Keys and values of one layer, `[slots, heads.kv, heads.dim]` each, and the scales of quantized ones.
#[derive(Debug)]
pub struct Kv {
    memory: Memory,
    /// Offsets of keys, values, keys' scales, values' scales.
    places: [usize; 4],
    dtype: KvType,
    pub(super) slots: usize,
    pub(super) heads: Heads,
}

impl Kv {
    pub(super) fn new(device: &Arc<Device>, slots: usize, heads: Heads, dtype: KvType) -> Result<Self> {
        positive("key and value heads", heads.kv)?;
        below("columns of a head", heads.dim, api::MAX_HEAD + 1)?;
        equal("query heads beyond whole groups", heads.q % heads.kv, 0)?;
        equal("odd columns of a head", heads.dim % 2, 0)?;
        positive("columns of a head", heads.dim)?;
        let (layout, places) = Self::layout(slots, heads, dtype);
        if i32::try_from(slots).is_err() {
            return Err(Error::OutOfMemory { what: "keys and values", bytes: layout.0 });
        }
        let memory = Memory::new(device, Place::Card, "keys and values", layout.0)?;
        Ok(Self { memory, places, dtype, slots, heads })
    }

    /// Bytes of one head of one position: of keys, values, keys' scales, values' scales.
    fn sizes(heads: Heads, dtype: KvType) -> [usize; 4] {
        let (entry, scales) = match dtype {
            KvType::F32 => (4, 0),
            KvType::F16 => (2, 0),
            KvType::Q8_0 => (1, 2 * heads.dim.div_ceil(GROUP)),
        };
        [entry * heads.dim, entry * heads.dim, scales, scales]
    }

    fn layout(slots: usize, heads: Heads, dtype: KvType) -> (Layout, [usize; 4]) {
        let bytes = |of_head: usize| slots.saturating_mul(heads.kv).saturating_mul(of_head);
        let mut layout = Layout::default();
        let sizes = Self::sizes(heads, dtype);
        let places = sizes.map(|of_head| layout.place(bytes(of_head)));
        (layout, places)
    }

    /// Bytes of all of one block.
    pub(super) fn block_bytes(&self) -> usize {
        Self::sizes(self.heads, self.dtype).iter().sum::<usize>() * self.heads.kv * BLOCK
    }

    /// Where the parts of a block lie, one behind the other on the host: offsets there and bytes.
    fn parts(&self, block: u32, bytes: usize) -> Result<[(usize, usize); 4]> {
        below("block", block as usize, self.slots / BLOCK)?;
        equal("bytes of a block", bytes, self.block_bytes())?;
        let sizes = Self::sizes(self.heads, self.dtype).map(|of_head| of_head * self.heads.kv * BLOCK);
        Ok(std::array::from_fn(|i| (self.places[i] + block as usize * sizes[i], sizes[i])))
    }

    pub(super) fn read_block(&self, block: u32, out: &mut [u8]) -> Result<()> {
        let mut rest = out;
        for (offset, bytes) in self.parts(block, rest.len())? {
            let (part, others) = rest.split_at_mut(bytes);
            self.memory.download_from(offset, part)?;
            rest = others;
        }
        Ok(())
    }

    pub(super) fn write_block(&mut self, block: u32, data: &[u8]) -> Result<()> {
        let mut rest = data;
        for (offset, bytes) in self.parts(block, rest.len())? {
            let (part, others) = rest.split_at(bytes);
            self.memory.upload(offset, part)?;
            rest = others;
        }
        Ok(())
    }

    pub(super) fn operand(&self) -> api::Cache {
        let [k, v, k_scale, v_scale] = self.places.map(|at| self.memory.at(at));
        api::Cache {
            k,
            v,
            k_scale: k_scale.cast(),
            v_scale: v_scale.cast(),
            kind: match self.dtype {
                KvType::F32 => 0,
                KvType::F16 => 1,
                KvType::Q8_0 => 2,
            },
            q_heads: self.heads.q as i32,
            kv_heads: self.heads.kv as i32,
            dim: self.heads.dim as i32,
        }
    }
}

/// Bytes of the card that one layer's keys and values take.
pub(super) fn kv_bytes(slots: usize, heads: Heads, dtype: KvType) -> u64 {
    Kv::layout(slots, heads, dtype).0.0 as u64
}

/// The experts chosen for each row and their weights, `[rows, top_k]` each, and their order by expert.
#[derive(Debug)]
pub struct Routes {
    memory: Memory,
    max_rows: usize,
    pub(super) top_k: usize,
    /// Experts that were chosen from.
    pub(super) experts: usize,
    pub(super) used: Used,
}

impl Routes {
    pub(super) fn new(device: &Arc<Device>, rows: usize, top_k: usize) -> Result<Self> {
        positive("experts of a row", top_k)?;
        below("experts of a row", top_k, MAX_TOP_K + 1)?;
        let max_rows = capacity(rows);
        let memory = Memory::new(device, Place::Card, "routes", routes_bytes(rows, top_k) as usize)?;
        Ok(Self { memory, max_rows, top_k, experts: 0, used: Used::default() })
    }

    pub(super) fn begin(&mut self, used: Used, experts: usize) -> Result<()> {
        below("experts", experts, MAX_EXPERTS + 1)?;
        below("rows to route", used.computed, self.max_rows + 1)?;
        (self.used, self.experts) = (used, experts);
        Ok(())
    }

    /// One row for each expert of each row.
    pub(super) fn chosen(&self) -> Used {
        Used { rows: self.used.rows * self.top_k, computed: self.used.computed * self.top_k }
    }

    pub(super) fn operand(&self) -> api::Routes {
        let run = 4 * self.max_rows * self.top_k;
        api::Routes {
            expert: self.memory.at(0).cast(),
            weight: self.memory.at(run).cast(),
            order: self.memory.at(2 * run).cast(),
            start: self.memory.at(3 * run).cast(),
            rows: self.used.computed as i32,
            top_k: self.top_k as i32,
            experts: self.experts as i32,
        }
    }
}

/// Bytes of the card that routing decisions take.
pub(super) fn routes_bytes(rows: usize, top_k: usize) -> u64 {
    (4 * (3 * capacity(rows) * top_k + MAX_EXPERTS + 1)) as u64
}

pub(super) fn positive(what: &'static str, got: usize) -> Result<()> {
    if got > 0 {
        return Ok(());
    }
    Err(Error::Shape { what, expected: "at least 1".to_owned(), got: "0".to_owned() })
}

/// A number that kernels count with.
pub(super) fn number(what: &'static str, n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::Shape {
        what,
        expected: format!("at most {}", i32::MAX),
        got: n.to_string(),
    })
}
