//! NVIDIA cards as a device, and their emulation on a processor, which is the same code with another [`Library`].
//!
//! This module owns what a step needs beside its operands, checks operands before kernels see them, and records
//! steps as graphs. The kernels are CUDA C++ in the folder beside it, one family of operations per file; `api.h`
//! is the line between. Reductions have an order that the shape of the weight or the position of the row
//! fixes, so that the same row gives the same bits in every batch, recorded or not.
//!
//! On cards from 9.0 on a launch begins while the one before ends (programmatic dependent launch), in a graph too: its blocks
//! take the places that have become free, and wait. The emulator fails a kernel that touches memory before its wait, and one
//! that has none.

mod api;
mod choose;
mod device;
mod graphs;
mod inputs;
mod options;
mod planes;
mod products;
mod storage;
mod weights;

pub use api::Api;
pub use device::{Card, Library};
pub use options::Options;
pub use storage::{Buf, Kv, Routes};
pub use weights::Mat;

use crate::error::{below, equal};
use crate::{
    Backend, Batch, BlockType, Choice, Heads, KvType, Next, OfHeads, Pick, QkNorm, QuantRows, Result, Rope,
};
use device::Device;
use graphs::Todo;
use std::cell::RefCell;
use std::ffi::c_int;
use std::hash::Hash;
use std::sync::Arc;
use storage::{Memory, Place, Used};

/// Rows that a step may have to be recorded: more of them keep the card busy without.
const RECORDED_ROWS: usize = 64;

/// Rows and chunks of contexts that may be attended to at once.
const PLACES: usize = 1024;

/// Bytes of a card that [`Backend::buf`] takes, or [`Backend::vector`] with one row.
pub fn buf_bytes(rows: usize, cols: usize) -> u64 {
    storage::buf_bytes(rows, cols)
}

/// Bytes of a card that [`Backend::logits`] takes.
pub fn logits_bytes(rows: usize, vocab: usize) -> u64 {
    storage::logits_bytes(rows, vocab)
}

/// Bytes of a card that [`Backend::kv`] takes.
pub fn kv_bytes(slots: usize, heads: Heads, dtype: KvType) -> u64 {
    storage::kv_bytes(slots, heads, dtype)
}

/// Bytes of a card that [`Backend::routes`] takes.
pub fn routes_bytes(rows: usize, top_k: usize) -> u64 {
    storage::routes_bytes(rows, top_k)
}

/// Bytes of a card that [`Backend::mat`] takes at most for parts of these types, rows (of all experts) and columns: the
/// file's, rows filled up to 128 weights, scales and codes each from a multiple of 256.
pub fn mat_bytes(parts: &[(BlockType, usize, usize)]) -> u64 {
    weights::mat_bytes(parts)
}

fn partial_bytes(heads: Heads) -> usize {
    PLACES * heads.q * (heads.dim + 2) * 4
}

/// Rows that a step of `rows` rows is computed with where it is recorded.
fn bucket(rows: usize) -> usize {
    if rows <= RECORDED_ROWS { rows.next_power_of_two() } else { rows }
}

/// Rows that a buffer for `rows` rows has room for: whatever a recorded step may compute of them, also where a row
/// of the step is one of each of its experts.
fn capacity(rows: usize) -> usize {
    let of_experts = (1..=storage::MAX_TOP_K).filter(|top_k| rows.is_multiple_of(*top_k));
    of_experts.map(|top_k| bucket(rows / top_k) * top_k).max().unwrap_or(rows)
}

/// A card.
#[derive(Debug)]
pub struct Cuda {
    device: Arc<Device>,
    inputs: inputs::Inputs,
    /// Results of chunks of contexts; grown by [`Backend::kv`] alone, at load.
    partials: RefCell<Option<Memory>>,
    recorder: graphs::Recorder,
}

impl Cuda {
    /// Opens a card.
    ///
    /// # Errors
    /// [`NoDriver`](crate::Error::NoDriver), [`DriverTooOld`](crate::Error::DriverTooOld),
    /// [`NoDevice`](crate::Error::NoDevice), [`DeviceFull`](crate::Error::DeviceFull),
    /// [`DeviceTooOld`](crate::Error::DeviceTooOld), or what the driver says.
    pub fn open(library: Library, options: &Options) -> Result<Self> {
        let device = Arc::new(Device::open(library, options.index, options.memory_bytes)?);
        let inputs = inputs::Inputs::new(&device, options.rows, options.blocks)?;
        let recorder = graphs::Recorder::new(options.graphs);
        Ok(Self { device, inputs, partials: RefCell::default(), recorder })
    }

    /// What the card is.
    pub fn card(&self) -> &Card {
        self.device.card()
    }

    /// Bytes of the card's memory that have been allocated through this value.
    pub fn used_bytes(&self) -> u64 {
        self.device.used_bytes()
    }

    /// Checks that rows and blocks of the batch lie within `kv`.
    fn fits(&self, rows: &Buf, kv: &Kv) -> Result<()> {
        equal("rows in use", rows.rows(), self.inputs.rows())?;
        below("slots", self.inputs.slots, kv.slots + 1)
    }

    /// Puts an operation on the stream, or, in a step that was recorded, sees that it is what was recorded.
    fn run<T: Hash>(
        &mut self,
        name: &'static str,
        operands: T,
        launch: impl FnOnce(&Api, *mut api::DeviceHandle) -> c_int,
    ) -> Result<()> {
        if self.recorder.meets(name, operands) { self.device.call(name, launch) } else { Ok(()) }
    }

    /// Rounds `x` to eight bits as `w` asks for it, unless it asks for nothing, or that has been done since it was written.
    fn quantize(&mut self, x: &Buf, w: &Mat) -> Result<()> {
        let Some(asked) = w.asked else { return Ok(()) };
        // A weight that asks for several roundings leaves another than this.
        let there = x.rounded.replace(!asked.several);
        if x.shared.replace(asked.shared) == asked.shared && there {
            return Ok(());
        }
        let rows = x.operand();
        // SAFETY: a buffer's pointers are its own allocation, large enough for all of its rows; see `operand`.
        self.run("quantize", rows, |api, d| unsafe { (api.quantize)(d, &rows) })
    }
}

impl Backend for Cuda {
    type Buf = Buf;
    type Mat = Mat;
    type Kv = Kv;
    type Routes = Routes;

    fn name(&self) -> String {
        format!("cuda ({})", self.card().name)
    }

    fn buf(&self, rows: usize, cols: usize) -> Result<Buf> {
        Buf::new(&self.device, rows, cols)
    }

    fn logits(&self, rows: usize, vocab: usize) -> Result<Buf> {
        Buf::logits(&self.device, rows, vocab)
    }

    fn vector(&self, data: &[f32]) -> Result<Buf> {
        Buf::vector(&self.device, data)
    }

    fn mat(&self, parts: &[QuantRows<'_>], experts: usize) -> Result<Mat> {
        Mat::new(&self.device, parts, experts, Place::Card)
    }

    fn table(&self, parts: &[QuantRows<'_>]) -> Result<Mat> {
        Mat::new(&self.device, parts, 1, Place::Host)
    }

    fn kv(&self, slots: usize, heads: Heads, dtype: KvType) -> Result<Kv> {
        let mut partials = self.partials.borrow_mut();
        let bytes = partial_bytes(heads);
        if partials.as_ref().is_none_or(|p| p.bytes() < bytes) {
            *partials = Some(Memory::new(&self.device, Place::Card, "results of chunks of contexts", bytes)?);
        }
        Kv::new(&self.device, slots, heads, dtype)
    }

    fn routes(&self, rows: usize, top_k: usize) -> Result<Routes> {
        Routes::new(&self.device, rows, top_k)
    }

    fn step(&mut self, batch: &Batch, mut ops: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let recorded = self.recorder.records(batch.rows());
        self.inputs.upload(batch, recorded)?;
        if !recorded {
            return ops(self);
        }
        let key = self.inputs.key();
        let mut todo = self.recorder.begin(key);
        if todo == Todo::Compare {
            ops(self).inspect_err(|_| self.recorder.failed(key))?;
            if let Some(graph) = self.recorder.same() {
                return self.device.replay(graph);
            }
            todo = self.recorder.begin(key);
        }
        if todo == Todo::Capture {
            self.device.capture()?;
        }
        let done = ops(self);
        // A capture is ended also if its operations failed.
        let graph = (todo == Todo::Capture).then(|| self.device.capture_end());
        done.inspect_err(|_| self.recorder.failed(key))?;
        let graph = graph.transpose().inspect_err(|_| self.recorder.failed(key))?;
        if let Some(graph) = &graph {
            self.device.replay(graph)?;
        }
        self.recorder.remember(key, graph);
        Ok(())
    }

    fn write(&mut self, x: &mut Buf, data: &[f32]) -> Result<()> {
        let rows = data.len() / x.cols;
        equal("elements to write", data.len(), rows * x.cols)?;
        // As many as a step of these rows computes; what the others hold goes nowhere.
        let computed = if self.recorder.records(rows) { bucket(rows) } else { rows };
        x.begin("rows to write", Used { rows, computed }, x.cols)?;
        x.upload(data)
    }

    fn read(&mut self, x: &Buf, out: &mut [f32]) -> Result<()> {
        equal("elements to read", out.len(), x.rows() * x.cols)?;
        x.download(out)
    }

    fn choose<'p>(
        &mut self,
        choices: &mut [Choice],
        logits: &Buf,
        picks: &mut dyn Iterator<Item = Pick<'p>>,
        rows: &mut [f32],
    ) -> Result<()> {
        choose::choose(&self.device, choices, logits, picks, rows)
    }

    /// Reductions have one order on all cards, but functions such as `exp` are the compiler's for each.
    fn arithmetic(&self) -> String {
        format!("cuda {}", self.card().capability)
    }

    fn block_bytes(&self, kv: &Kv) -> usize {
        kv.block_bytes()
    }

    fn read_block(&mut self, kv: &Kv, block: u32, out: &mut [u8]) -> Result<()> {
        kv.read_block(block, out)
    }

    fn write_block(&mut self, kv: &mut Kv, block: u32, data: &[u8]) -> Result<()> {
        kv.write_block(block, data)
    }

    fn embed(&mut self, x: &mut Buf, table: &Mat) -> Result<()> {
        table.dense("experts of an embedding")?;
        below("token", self.inputs.tokens, table.out + 1)?;
        x.begin("embedding", self.inputs.used(), table.cols)?;
        let (x, table, batch) = (x.operand(), table.operand(), self.inputs.operand());
        // SAFETY: as in `quantize`; tokens are below the table's outputs, the others of the batch are 0.
        self.run("embed", (x, table, batch), |api, d| unsafe { (api.embed)(d, &x, &table, &batch) })
    }

    fn rms_norm(&mut self, y: &mut Buf, x: &Buf, w: &Buf, eps: f32) -> Result<()> {
        let w = w.vector_of("weight of a norm", x.cols)?;
        y.begin("normalised rows", x.used, x.cols)?;
        y.rounded.set(true);
        let (y, x) = (y.operand(), x.operand());
        // SAFETY: as in `quantize`; `w` has the columns of `x`.
        self.run("rms_norm", (y, x, w, eps.to_bits()), |api, d| unsafe { (api.rms_norm)(d, &y, &x, w, eps) })
    }

    fn matmul(&mut self, y: &mut Buf, x: &Buf, w: &Mat) -> Result<()> {
        self.begin_product(y, x, w)?;
        let (y, x, w) = (y.operand(), x.operand(), w.operand());
        // SAFETY: as in `quantize`; the weight's pointers are its own allocation of `[out, cols]`.
        self.run("matmul", (y, x, w), |api, d| unsafe { (api.matmul)(d, &y, &x, &w, 0, std::ptr::null()) })
    }

    fn matmul_add(&mut self, x: &mut Buf, y: &Buf, w: &Mat, _h: &mut Buf) -> Result<()> {
        self.product_add(x, y, w, None)
    }

    fn matmul_add_norm(&mut self, x: &mut Buf, y: &Buf, w: &Mat, next: Next<'_, Buf>) -> Result<()> {
        self.product_add(x, y, w, Some(next))
    }

    fn matmul_swiglu(&mut self, y: &mut Buf, x: &Buf, w: &Mat, gate_up: &mut Buf) -> Result<()> {
        w.dense("experts of a dense weight")?;
        self.gated(y, x, w, None, gate_up)
    }

    fn matmul_experts_swiglu(
        &mut self,
        y: &mut Buf,
        x: &Buf,
        w: &Mat,
        routes: &Routes,
        gate_up: &mut Buf,
    ) -> Result<()> {
        equal("rows of a product's input", x.rows(), routes.used.rows)?;
        below("experts", routes.experts, w.experts + 1)?;
        self.gated(y, x, w, Some(routes), gate_up)
    }

    fn bias(&mut self, x: &mut Buf, b: &Buf) -> Result<()> {
        let b = b.vector_of("bias", x.cols)?;
        let x = x.written();
        // SAFETY: as in `quantize`; `b` has the columns of `x`.
        self.run("bias", (x, b), |api, d| unsafe { (api.bias)(d, &x, b) })
    }

    fn rope(&mut self, qkv: &mut Buf, norm: Option<&QkNorm<Buf>>, kv: &mut Kv, rope: &Rope) -> Result<()> {
        self.bias_rope(qkv, None, norm, kv, rope)
    }

    fn bias_rope(
        &mut self,
        qkv: &mut Buf,
        bias: Option<&Buf>,
        norm: Option<&QkNorm<Buf>>,
        kv: &mut Kv,
        rope: &Rope,
    ) -> Result<()> {
        let rotation = self.rotation(qkv, &OfHeads { bias, norm }, kv, rope)?;
        let (qkv, kv, batch) = (qkv.written(), kv.operand(), self.inputs.operand());
        // SAFETY: as in `quantize`; every slot of the batch is within the cache, whose heads are the row's.
        self.run("rope", (qkv, kv, &rotation, batch), |api, d| unsafe {
            (api.rope)(d, &qkv, &kv, &rotation, &batch)
        })
    }

    fn matmul_rope(
        &mut self,
        qkv: &mut Buf,
        x: &Buf,
        w: &Mat,
        of_heads: OfHeads<'_, Buf>,
        kv: &mut Kv,
        rope: &Rope,
    ) -> Result<()> {
        self.product_rope(qkv, x, w, of_heads, kv, rope)
    }

    fn attention(&mut self, y: &mut Buf, qkv: &Buf, kv: &Kv) -> Result<()> {
        equal("columns of queries, keys and values", qkv.cols, kv.heads.qkv_cols())?;
        self.fits(qkv, kv)?;
        y.begin("attention", qkv.used, kv.heads.q_cols())?;
        y.rounded.set(true);
        // Made with the cache, for heads at least as large.
        let data = self.partials.borrow().as_ref().map_or(std::ptr::null_mut(), |p| p.at(0).cast());
        let partials = api::Partials { data, places: PLACES as i32 };
        let (y, qkv, kv, batch) = (y.operand(), qkv.operand(), kv.operand(), self.inputs.operand());
        // SAFETY: as in `rope`; block tables reach every position and lie within the cache (`Batch::check`, `fits`).
        self.run("attention", (y, qkv, kv, batch, partials), |api, d| unsafe {
            (api.attention)(d, &y, &qkv, &kv, &batch, &partials)
        })
    }

    fn add(&mut self, x: &mut Buf, y: &Buf) -> Result<()> {
        equal("columns of a sum", y.cols, x.cols)?;
        equal("rows of a sum", y.rows(), x.rows())?;
        let (x, y) = (x.written(), y.operand());
        // SAFETY: as in `quantize`; both have the same shape.
        self.run("add", (x, y), |api, d| unsafe { (api.add)(d, &x, &y) })
    }

    fn swiglu(&mut self, y: &mut Buf, gate_up: &Buf) -> Result<()> {
        equal("columns of gate and up", gate_up.cols, y.cols.saturating_mul(2))?;
        y.begin("gated rows", gate_up.used, y.cols)?;
        y.rounded.set(true);
        let (y, gate_up) = (y.operand(), gate_up.operand());
        // SAFETY: as in `quantize`; a gated row is half of its input.
        self.run("swiglu", (y, gate_up), |api, d| unsafe { (api.swiglu)(d, &y, &gate_up) })
    }

    fn route(&mut self, routes: &mut Routes, logits: &Buf) -> Result<()> {
        below("experts of a row", routes.top_k, logits.cols + 1)?;
        routes.begin(logits.used, logits.cols)?;
        let (routes, logits) = (routes.operand(), logits.operand());
        // SAFETY: as in `quantize`; the routes have room for their rows and for this many experts.
        self.run("route", (routes, logits), |api, d| unsafe { (api.route)(d, &routes, &logits) })
    }

    fn matmul_route(&mut self, routes: &mut Routes, logits: &mut Buf, x: &Buf, w: &Mat) -> Result<()> {
        self.product_route(routes, logits, x, w)
    }

    fn matmul_experts(&mut self, y: &mut Buf, x: &Buf, w: &Mat, routes: &Routes, shared: bool) -> Result<()> {
        let chosen = routes.chosen();
        equal("columns of a product's input", x.cols, w.cols)?;
        equal("rows of a product's input", x.rows(), if shared { routes.used.rows } else { chosen.rows })?;
        below("experts", routes.experts, w.experts + 1)?;
        y.begin("product of experts", chosen, w.out)?;
        self.quantize(x, w)?;
        let (y, x, w, routes) = (y.operand(), x.operand(), w.operand(), routes.operand());
        // SAFETY: as in `matmul`; every expert that was chosen is one of the weight's.
        self.run("matmul_experts", (y, x, w, routes, shared), |api, d| unsafe {
            (api.matmul_experts)(d, &y, &x, &w, &routes, shared.into())
        })
    }

    fn matmul_experts_mix(
        &mut self,
        x: &mut Buf,
        y: &Buf,
        w: &Mat,
        routes: &Routes,
        h: &mut Buf,
    ) -> Result<()> {
        self.product_mix(x, y, w, routes, h, None)
    }

    fn matmul_experts_mix_norm(
        &mut self,
        x: &mut Buf,
        y: &Buf,
        w: &Mat,
        routes: &Routes,
        h: &mut Buf,
        next: Next<'_, Buf>,
    ) -> Result<()> {
        self.product_mix(x, y, w, routes, h, Some(next))
    }

    fn mix_experts(&mut self, x: &mut Buf, y: &Buf, routes: &Routes) -> Result<()> {
        equal("columns to mix", y.cols, x.cols)?;
        equal("rows to mix", x.rows(), routes.used.rows)?;
        equal("rows of experts to mix", y.rows(), routes.chosen().rows)?;
        let (x, y, routes) = (x.written(), y.operand(), routes.operand());
        // SAFETY: as in `quantize`; `y` has `top_k` rows for each of `x`.
        self.run("mix_experts", (x, y, routes), |api, d| unsafe { (api.mix_experts)(d, &x, &y, &routes) })
    }

    fn select(&mut self, y: &mut Buf, x: &Buf) -> Result<()> {
        equal("rows in use", x.rows(), self.inputs.rows())?;
        y.begin("selected rows", self.inputs.wanted(), x.cols)?;
        let (y, x, batch) = (y.operand(), x.operand(), self.inputs.operand());
        // SAFETY: as in `quantize`; the wanted rows are rows of the batch, the others of the bucket are row 0.
        self.run("select", (y, x, batch), |api, d| unsafe { (api.select)(d, &y, &x, &batch) })
    }
}
