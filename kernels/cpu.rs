//! The processor as a device: plain Rust, f32 activations, weights exactly as their format defines them.
//!
//! This module owns what a step needs beside its operands, and checks operands before the operations
//! in the files below touch them. Activations are rounded to eight bits where quantized weights multiply them
//! (see `quantized`), and nowhere else. Every reduction has an order that the shape of the weight or the
//! position of the row fixes (see `panel`, `lanes` and `attention`).

mod amx;
mod attention;
mod codes;
mod elementwise;
mod exp;
mod experts;
mod floats;
mod integers;
mod isa;
mod kv;
mod lanes;
pub mod limits;
mod matmul;
mod norm;
mod packed;
mod panel;
mod parallel;
mod quantized;
mod rope;
mod scales;
mod storage;
mod unpacked;
mod vector;

pub use isa::Isa;
pub use kv::Kv;
pub use packed::Mat;
pub use storage::{Buf, Routes};

use crate::error::{below, equal};
use crate::mapped::Pool;
use crate::{Backend, Batch, Heads, KvType, NO_SLOT, QkNorm, QuantRows, Result, Rope};

/// The processor.
#[derive(Debug)]
pub struct Cpu {
    isa: Isa,
    workers: parallel::Workers,
    /// Where weights lie.
    weights: Pool,
    batch: Batch,
    /// The first token that no row has, and the first slot that no row or block reaches.
    limits: Limits,
    attention: attention::Plan,
    angles: rope::Angles,
    work: matmul::Work,
}

#[derive(Debug, Default)]
struct Limits {
    tokens: usize,
    slots: usize,
}

impl Cpu {
    /// The processor with its best instruction set and a thread for each of its cores.
    pub fn new() -> Self {
        Self::with(Isa::best(), cores())
    }

    /// The processor with an instruction set and a number of threads of choice.
    pub fn with(isa: Isa, threads: usize) -> Self {
        Self {
            isa,
            workers: parallel::Workers::new(threads),
            weights: Pool::default(),
            batch: Batch::default(),
            limits: Limits::default(),
            attention: attention::Plan::default(),
            angles: rope::Angles::default(),
            work: matmul::Work::default(),
        }
    }

    /// The instruction set in use: `portable`, `neon`, `avx2`, `avxvnni`, `avx512`, `avx512pairs` or `amx`.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }

    /// Keeps a copy of `batch` in fixed buffers, and what can be known of it once for all layers.
    fn upload(&mut self, batch: &Batch) -> Result<()> {
        // Vocabulary and slots are known to the operations only; they compare with `limits`.
        batch.check(usize::MAX, usize::MAX, usize::MAX)?;
        self.batch.tokens.clone_from(&batch.tokens);
        self.batch.positions.clone_from(&batch.positions);
        self.batch.slots.clone_from(&batch.slots);
        self.batch.logits.clone_from(&batch.logits);
        self.batch.spans.resize_with(batch.spans.len(), Default::default);
        for (mine, span) in self.batch.spans.iter_mut().zip(&batch.spans) {
            (mine.first, mine.rows) = (span.first, span.rows);
            mine.blocks.clone_from(&span.blocks);
        }
        let end = |i: u32| i as usize + 1;
        let row_slots = batch.slots.iter().filter(|&&s| s != NO_SLOT).map(|&s| end(s));
        let block_slots = batch.spans.iter().flat_map(|s| &s.blocks).map(|&b| end(b) * crate::BLOCK);
        self.limits = Limits {
            tokens: batch.tokens.iter().map(|&t| end(t)).max().unwrap_or(0),
            slots: row_slots.chain(block_slots).max().unwrap_or(0),
        };
        self.attention.forget();
        self.angles.forget();
        Ok(())
    }

    /// Checks that rows and blocks of the batch lie within `kv`.
    fn fits(&self, rows: usize, kv: &Kv) -> Result<()> {
        equal("rows in use", rows, self.batch.rows())?;
        below("slots", self.limits.slots, kv.slots + 1)
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Cpu {
    type Buf = Buf;
    type Mat = Mat;
    type Kv = Kv;
    type Routes = Routes;

    fn name(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa(), self.workers.threads())
    }

    fn buf(&self, rows: usize, cols: usize) -> Result<Buf> {
        Buf::new(rows, cols)
    }

    fn vector(&self, data: &[f32]) -> Result<Buf> {
        Buf::vector(data)
    }

    fn mat(&self, parts: &[QuantRows<'_>], experts: usize) -> Result<Mat> {
        Mat::new(self.isa, &self.weights, parts, experts)
    }

    fn kv(&self, slots: usize, heads: Heads, dtype: KvType) -> Result<Kv> {
        Kv::new(slots, heads, dtype)
    }

    fn routes(&self, rows: usize, top_k: usize) -> Result<Routes> {
        Routes::new(rows, top_k)
    }

    fn step(&mut self, batch: &Batch, mut ops: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.upload(batch)?;
        ops(self)
    }

    fn write(&mut self, x: &mut Buf, data: &[f32]) -> Result<()> {
        let (rows, cols) = (data.len() / x.cols, x.cols);
        equal("elements to write", data.len(), rows * cols)?;
        x.begin("rows to write", rows, cols)?.copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, x: &Buf, out: &mut [f32]) -> Result<()> {
        equal("elements to read", out.len(), x.data().len())?;
        out.copy_from_slice(x.data());
        Ok(())
    }

    fn host<'a>(&self, x: &'a Buf) -> Option<&'a [f32]> {
        Some(x.data())
    }

    fn arithmetic(&self) -> String {
        format!("cpu {}", self.isa())
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
        below("token", self.limits.tokens, table.out + 1)?;
        let rows = x.begin("embedding", self.batch.rows(), table.cols)?;
        elementwise::embed(self.isa, &self.workers, rows, table, &self.batch.tokens);
        Ok(())
    }

    fn rms_norm(&mut self, y: &mut Buf, x: &Buf, w: &Buf, eps: f32) -> Result<()> {
        vector("weight of a norm", w, x.cols)?;
        norm::rms(
            self.isa,
            &self.workers,
            y.begin("normalised rows", x.rows(), x.cols)?,
            x.data(),
            w.row(0),
            eps,
        );
        Ok(())
    }

    fn matmul(&mut self, y: &mut Buf, x: &Buf, w: &Mat) -> Result<()> {
        w.dense("experts of a dense weight")?;
        equal("columns of a product's input", x.cols, w.cols)?;
        let out = y.begin("product", x.rows(), w.out)?;
        self.work.dense(x.rows());
        matmul::product(self.isa, &self.workers, out, x.data(), w, &mut self.work);
        Ok(())
    }

    fn bias(&mut self, x: &mut Buf, b: &Buf) -> Result<()> {
        vector("bias", b, x.cols)?;
        elementwise::bias(self.isa, &self.workers, x.data_mut(), b.row(0));
        Ok(())
    }

    fn rope(&mut self, qkv: &mut Buf, norm: Option<&QkNorm<Buf>>, kv: &mut Kv, rope: &Rope) -> Result<()> {
        let heads = kv.heads;
        if rope.heads != heads {
            let (expected, got) = (format!("{heads:?}"), format!("{:?}", rope.heads));
            return Err(crate::Error::Shape { what: "heads to rotate", expected, got });
        }
        equal("columns to rotate", qkv.cols, heads.qkv_cols())?;
        self.fits(qkv.rows(), kv)?;
        if let Some(norm) = norm {
            vector("weight of the query norm", &norm.q, heads.dim)?;
            vector("weight of the key norm", &norm.k, heads.dim)?;
        }
        let norm = norm.map(|n| QkNorm { q: n.q.row(0), k: n.k.row(0) });
        self.angles.prepare(&self.batch.positions, rope.theta, heads.dim);
        rope::rotate(self.isa, &self.workers, qkv.data_mut(), norm, &self.angles, rope);
        rope::keep(qkv.data(), &self.batch.slots, kv);
        Ok(())
    }

    fn attention(&mut self, y: &mut Buf, qkv: &Buf, kv: &Kv) -> Result<()> {
        equal("columns of queries, keys and values", qkv.cols, kv.heads.qkv_cols())?;
        self.fits(qkv.rows(), kv)?;
        let out = y.begin("attention", qkv.rows(), kv.heads.q_cols())?;
        attention::causal(self.isa, &self.workers, out, qkv.data(), kv, &self.batch, &mut self.attention)
    }

    fn add(&mut self, x: &mut Buf, y: &Buf) -> Result<()> {
        equal("columns of a sum", y.cols, x.cols)?;
        equal("rows of a sum", y.rows(), x.rows())?;
        let cols = x.cols;
        elementwise::add(self.isa, &self.workers, x.data_mut(), y.data(), cols);
        Ok(())
    }

    fn swiglu(&mut self, y: &mut Buf, gate_up: &Buf) -> Result<()> {
        equal("columns of gate and up", gate_up.cols, y.cols.saturating_mul(2))?;
        let ffn = y.cols;
        elementwise::swiglu(
            self.isa,
            &self.workers,
            y.begin("gated rows", gate_up.rows(), ffn)?,
            gate_up.data(),
            ffn,
        );
        Ok(())
    }

    fn route(&mut self, routes: &mut Routes, logits: &Buf) -> Result<()> {
        below("rows to route", logits.rows(), routes.max_rows + 1)?;
        below("experts of a row", routes.top_k, logits.cols + 1)?;
        experts::route(routes, logits.data(), logits.cols);
        Ok(())
    }

    fn matmul_experts(&mut self, y: &mut Buf, x: &Buf, w: &Mat, routes: &Routes, shared: bool) -> Result<()> {
        let chosen = routes.ids().len();
        equal("columns of a product's input", x.cols, w.cols)?;
        equal("rows of a product's input", x.rows(), if shared { routes.rows } else { chosen })?;
        below("experts", routes.experts, w.experts + 1)?;
        let out = y.begin("product of experts", chosen, w.out)?;
        self.work.routed(routes, if shared { routes.top_k } else { 1 });
        matmul::product(self.isa, &self.workers, out, x.data(), w, &mut self.work);
        Ok(())
    }

    fn mix_experts(&mut self, x: &mut Buf, y: &Buf, routes: &Routes) -> Result<()> {
        equal("columns to mix", y.cols, x.cols)?;
        equal("rows to mix", x.rows(), routes.rows)?;
        equal("rows of experts to mix", y.rows(), routes.ids().len())?;
        experts::mix(self.isa, &self.workers, x, y, routes);
        Ok(())
    }

    fn select(&mut self, y: &mut Buf, x: &Buf) -> Result<()> {
        equal("rows in use", x.rows(), self.batch.rows())?;
        let out = y.begin("selected rows", self.batch.logits.len(), x.cols)?;
        for (y, &r) in out.chunks_exact_mut(x.cols).zip(&self.batch.logits) {
            y.copy_from_slice(x.row(r as usize));
        }
        Ok(())
    }
}

/// A weight of one row, `[1, cols]`.
fn vector(what: &'static str, w: &Buf, cols: usize) -> Result<()> {
    equal(what, w.cols, cols)?;
    equal(what, w.rows(), 1)
}
