//! The forward pass: written once, for every device, for prefill and decode, dense and mixture of experts, and
//! for a model whose layers two devices share.

mod outcome;
mod pieces;

pub(crate) use outcome::{Outcome, Row};
pub(crate) use pieces::{Layer, Make, Output, Scratch};

use crate::weights::{Role, Weights};
use crate::{Config, Result};
use coder_kernels::{Backend, Batch, Choice, KvType, Next, OfHeads, Pick, Rope};
use pieces::Ffn;
use std::ops::Range;

/// A model that can be stepped, whatever its device: a virtual call that begins a step, and one that waits for its end.
pub(crate) trait Runner: Send {
    /// Begins to run the batch. A card goes on with it when this has returned, and has its failures told by the call
    /// that waits for it.
    fn start(&mut self, batch: &Batch) -> Result<()>;
    /// Waits for the step; the logits of its wanted rows, `[batch.logits.len(), vocab]`.
    fn logits(&mut self) -> Result<&[f32]>;
    /// Waits for the step; of its wanted rows, in their order, what `picks` pick or all of it.
    fn choose<'p>(&mut self, picks: &mut dyn Iterator<Item = Pick<'p>>) -> Result<Outcome<'_>>;
    /// Runs the batch; returns the logits of its wanted rows.
    fn step(&mut self, batch: &Batch) -> Result<&[f32]> {
        self.start(batch)?;
        self.logits()
    }
    /// The hidden states behind the final norm of the last step's rows, `[rows, hidden]`.
    fn hidden(&mut self) -> Result<&[f32]>;
    /// Weight bytes that one decoded token reads.
    fn weight_bytes_per_token(&self) -> u64;
    /// What the bits of results depend on beside the weights, as [`Backend::arithmetic`].
    fn arithmetic(&self) -> String;
    /// Bytes of one block of the cache, of all layers.
    fn block_bytes(&self) -> usize;
    /// Copies a block that was written to the host: `out` has [`block_bytes`](Self::block_bytes).
    fn read_block(&mut self, block: u32, out: &mut [u8]) -> Result<()>;
    /// The inverse of [`read_block`](Self::read_block).
    fn write_block(&mut self, block: u32, data: &[u8]) -> Result<()>;
}

/// Sizes that are fixed at load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rows of one step.
    pub(crate) rows: usize,
    /// Rows of one step whose logits are wanted.
    pub(crate) logits: usize,
    /// Slots of the key-value cache.
    pub(crate) slots: usize,
    /// How keys and values are stored.
    pub(crate) kv: KvType,
}

/// A model on one device, or its beginning on one and its end on another.
pub(crate) struct Model<A: Backend, B: Backend> {
    first: Option<Part<A>>,
    last: Part<B>,
    residual: Vec<f32>, // [limits.rows, hidden], on its way from the first to the last
    /// Rows of the last step, and those whose logits are wanted.
    rows: usize,
    wanted: usize,
    hidden: Vec<f32>, // [rows, hidden], of the last step whose hidden states were asked for
    logits: Vec<f32>, // [limits.logits, vocab], unless the device has them in the host's memory
    choices: Vec<Choice>, // [limits.logits], unless the device has them in the host's memory
}

impl<B: Backend> Model<B, B> {
    /// All layers on one device. `progress` is told the weight bytes of every weight that was copied.
    pub(crate) fn whole(
        backend: B,
        weights: &Weights,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let last = Part::load(backend, weights, limits, 0..weights.config().layers, progress)?;
        Ok(Self::of(None, last, weights.config(), limits))
    }
}

impl<A: Backend, B: Backend> Model<A, B> {
    /// The first `cut` layers and the embedding on `first`, the others and the head on `last`.
    pub(crate) fn split(
        (first, last): (A, B),
        cut: usize,
        weights: &Weights,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let layers = weights.config().layers;
        let first = Part::load(first, weights, limits, 0..cut, progress)?;
        let last = Part::load(last, weights, limits, cut..layers, progress)?;
        Ok(Self::of(Some(first), last, weights.config(), limits))
    }

    fn of(first: Option<Part<A>>, last: Part<B>, c: &Config, limits: Limits) -> Self {
        let residual = vec![0.0; if first.is_some() { limits.rows * c.hidden } else { 0 }];
        let there = last.output.as_ref().is_some_and(|output| last.backend.host(&output.logits).is_some());
        let read = if there { 0 } else { limits.logits };
        let (logits, hidden) = (vec![0.0; read * c.vocab], Vec::new());
        let choices = (0..read).map(|_| Choice::new(c.vocab)).collect();
        Self { first, last, residual, rows: 0, wanted: 0, hidden, logits, choices }
    }

    /// Waits for a step of which nothing is wanted: a copy of anything does.
    fn wait(&mut self) -> Result<()> {
        let Self { last: Part { backend, config, output, .. }, hidden, .. } = self;
        if let Some(output) = output
            && backend.host(&output.norm).is_none()
        {
            hidden.resize(config.hidden, 0.0);
            backend.read(&output.norm, hidden)?;
        }
        Ok(())
    }

    /// The device of the last layers.
    pub(crate) fn backend(&self) -> &B {
        &self.last.backend
    }
}

impl<A: Backend + Send, B: Backend + Send> Runner for Model<A, B> {
    fn start(&mut self, batch: &Batch) -> Result<()> {
        let Self { first, last, residual, .. } = self;
        (self.rows, self.wanted) = (batch.rows(), batch.logits.len());
        if let Some(first) = first {
            let x = within(residual, "rows", batch.rows() * first.config.hidden)?;
            first.step(batch)?;
            first.backend.read(&first.scratch.x, x)?;
            last.backend.write(&mut last.scratch.x, x)?;
        }
        last.step(batch)
    }

    fn logits(&mut self) -> Result<&[f32]> {
        if self.wanted == 0 {
            self.wait()?;
        }
        let Self { last: Part { backend, config, output, .. }, wanted, logits, .. } = self;
        let Some(output) = output.as_ref().filter(|_| *wanted > 0) else { return Ok(&[]) };
        if let Some(there) = backend.host(&output.logits) {
            return Ok(there);
        }
        let out = within(logits, "logits", *wanted * config.vocab)?;
        backend.read(&output.logits, out)?;
        Ok(out)
    }

    fn choose<'p>(&mut self, picks: &mut dyn Iterator<Item = Pick<'p>>) -> Result<Outcome<'_>> {
        if self.wanted == 0 {
            self.wait()?;
        }
        let Self { last: Part { backend, config, output, .. }, wanted, logits, choices, .. } = self;
        let vocab = config.vocab;
        let Some(output) = output.as_ref().filter(|_| *wanted > 0) else {
            return Ok(Outcome::whole(&[], vocab));
        };
        if let Some(there) = backend.host(&output.logits) {
            return Ok(Outcome::whole(there, vocab));
        }
        let rows = within(logits, "logits", *wanted * vocab)?;
        let choices = &mut choices[..*wanted];
        backend.choose(choices, &output.logits, picks, rows)?;
        Ok(Outcome::chosen(rows, vocab, choices))
    }

    fn hidden(&mut self) -> Result<&[f32]> {
        let Self { last: Part { backend, config, output, scratch, .. }, rows, hidden, .. } = self;
        let Some(output) = output else { unreachable!("the last part has the output") };
        let mut norm = vec![0.0; config.hidden];
        backend.read(&output.norm, &mut norm)?;
        hidden.resize(*rows * config.hidden, 0.0);
        backend.read(&scratch.x, hidden)?;
        hidden.chunks_exact_mut(config.hidden).for_each(|row| rms_norm(row, &norm, config.eps));
        Ok(hidden)
    }

    fn weight_bytes_per_token(&self) -> u64 {
        self.first.as_ref().map_or(0, |first| first.bytes_per_token) + self.last.bytes_per_token
    }

    fn arithmetic(&self) -> String {
        let last = self.last.backend.arithmetic();
        let first = self.first.as_ref();
        first
            .map_or(last.clone(), |f| format!("{} for {} layers, {last}", f.backend.arithmetic(), f.kv.len()))
    }

    fn block_bytes(&self) -> usize {
        self.first.as_ref().map_or(0, Part::block_bytes) + self.last.block_bytes()
    }

    fn read_block(&mut self, block: u32, out: &mut [u8]) -> Result<()> {
        let (first, last) = out.split_at_mut(self.first.as_ref().map_or(0, Part::block_bytes));
        if let Some(part) = &mut self.first {
            part.read_block(block, first)?;
        }
        self.last.read_block(block, last)
    }

    fn write_block(&mut self, block: u32, data: &[u8]) -> Result<()> {
        let (first, last) = data.split_at(self.first.as_ref().map_or(0, Part::block_bytes));
        if let Some(part) = &mut self.first {
            part.write_block(block, first)?;
        }
        self.last.write_block(block, last)
    }
}

/// `x = x / sqrt(mean(x²) + eps) · w`, for rows that no product reads.
fn rms_norm(x: &mut [f32], w: &[f32], eps: f32) {
    let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter_mut().zip(w).for_each(|(x, &w)| *x = (f64::from(*x) * scale * f64::from(w)) as f32);
}

fn within<'a>(buffer: &'a mut [f32], what: &'static str, wanted: usize) -> Result<&'a mut [f32]> {
    let limit = buffer.len();
    let found = buffer.get_mut(..wanted);
    found.ok_or_else(|| coder_kernels::Error::Batch { what, got: wanted, limit: limit + 1 }.into())
}

/// Weights, cache and scratch of consecutive layers on one device.
struct Part<B: Backend> {
    backend: B,
    config: Config,
    embed: Option<B::Mat>, // [vocab, hidden]; where the model begins
    layers: Vec<Layer<B::Mat, B::Buf>>,
    kv: Vec<B::Kv>,
    output: Option<Output<B::Mat, B::Buf>>, // where it ends
    scratch: Scratch<B::Buf, B::Routes>,
    bytes_per_token: u64,
}

impl<B: Backend> Part<B> {
    /// Copies the weights of `layers` to the device, with the embedding before the first and the head behind the
    /// last layer.
    fn load(
        backend: B,
        weights: &Weights,
        limits: Limits,
        layers: Range<usize>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let config = weights.config().clone();
        let (begins, ends) = (layers.start == 0, layers.end == config.layers);
        let tied_here = config.tied && begins && ends;
        let mut loader = Loader { backend: &backend, weights, bytes_per_token: 0, progress };
        let embed = match (begins, tied_here) {
            (false, _) => None,
            (true, true) => Some(loader.mat(&[Role::TokenEmbedding], 1)?),
            (true, false) => Some(loader.table()?),
        };
        let output = if ends { Some(Output::new(&config, limits, tied_here, &mut loader)?) } else { None };
        let kv = layers.clone().map(|_| Ok(backend.kv(limits.slots, config.heads, limits.kv)?));
        let kv = kv.collect::<Result<_>>()?;
        let layers = layers.map(|l| Layer::new(&config, l, &mut loader)).collect::<Result<_>>()?;
        let scratch = Scratch::new(&config, limits.rows, &mut loader)?;
        let bytes_per_token = loader.bytes_per_token;
        Ok(Self { backend, config, embed, layers, kv, output, scratch, bytes_per_token })
    }

    /// Bytes of one block of all layers' caches.
    fn block_bytes(&self) -> usize {
        self.kv.iter().map(|kv| self.backend.block_bytes(kv)).sum()
    }

    fn read_block(&mut self, block: u32, mut out: &mut [u8]) -> Result<()> {
        for kv in &self.kv {
            let (layer, rest) = out.split_at_mut(self.backend.block_bytes(kv));
            self.backend.read_block(kv, block, layer)?;
            out = rest;
        }
        Ok(())
    }

    fn write_block(&mut self, block: u32, mut data: &[u8]) -> Result<()> {
        for kv in &mut self.kv {
            let (layer, rest) = data.split_at(self.backend.block_bytes(kv));
            self.backend.write_block(kv, block, layer)?;
            data = rest;
        }
        Ok(())
    }

    /// From tokens, or the residual in `scratch.x`, to logits, or the residual there.
    fn step(&mut self, batch: &Batch) -> Result<()> {
        let Self { backend, config, embed, layers, kv, output, scratch: s, .. } = self;
        let eps = config.eps;
        let rope = Rope { heads: config.heads, theta: config.rope_theta, eps };
        Ok(backend.step(batch, |b| {
            if let Some(embed) = embed {
                b.embed(&mut s.x, embed)?;
            }
            // A layer begins with the norm that the one before ends with.
            if let Some(first) = layers.first() {
                b.rms_norm(&mut s.h, &s.x, &first.attn_norm, eps)?;
            }
            let next = layers.iter().skip(1).map(|l| Some(&l.attn_norm)).chain([None]);
            for ((l, kv), next) in layers.iter().zip(kv.iter_mut()).zip(next) {
                let of_heads = OfHeads { bias: l.qkv_bias.as_ref(), norm: l.qk_norm.as_ref() };
                b.matmul_rope(&mut s.qkv, &s.h, &l.qkv, of_heads, kv, &rope)?;
                b.attention(&mut s.att, &s.qkv, kv)?;
                let w = Some(&l.ffn_norm);
                b.matmul_add_norm(&mut s.x, &s.att, &l.attn_out, Next { w, eps, y: &mut s.h })?;
                match &l.ffn {
                    Ffn::Dense { gate_up, down } => {
                        b.matmul_swiglu(&mut s.act, &s.h, gate_up, &mut s.gate_up)?;
                        b.matmul_add_norm(&mut s.x, &s.act, down, Next { w: next, eps, y: &mut s.h })?;
                    }
                    Ffn::Experts { router, gate_up, down } => {
                        experts(b, s, [router, gate_up, down], next, eps)?;
                    }
                }
            }
            let Some(o) = output.as_mut().filter(|_| !batch.logits.is_empty()) else {
                return Ok(()); // the model goes on elsewhere, or the prompt in another chunk
            };
            let Some(head) = o.head.as_ref().or(embed.as_ref()) else {
                unreachable!("a part without a head of its own has the embedding that is the head");
            };
            b.select(&mut o.last, &s.x)?;
            b.norm_matmul(&mut o.logits, &o.last, &o.norm, head, eps, &mut o.h)
        })?)
    }
}

/// `x += Σ weight(e) · down_e · swiglu(gate_up_e · h)` over each row's chosen experts, and `h = norm(x)` with weight `next`.
fn experts<B: Backend>(
    b: &mut B,
    s: &mut Scratch<B::Buf, B::Routes>,
    [router, gate_up, down]: [&B::Mat; 3],
    next: Option<&B::Buf>,
    eps: f32,
) -> coder_kernels::Result<()> {
    let Some(e) = &mut s.experts else { unreachable!("a layer with experts implies their scratch") };
    b.matmul_route(&mut e.routes, &mut e.router, &s.h, router)?;
    b.matmul_experts_swiglu(&mut s.act, &s.h, gate_up, &e.routes, &mut s.gate_up)?;
    let next = Next { w: next, eps, y: &mut s.h };
    b.matmul_experts_mix_norm(&mut s.x, &s.act, down, &e.routes, &mut e.out, next)
}

/// Reads roles from the file and hands them to the device.
struct Loader<'a, B: Backend> {
    backend: &'a B,
    weights: &'a Weights,
    bytes_per_token: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<B: Backend> Loader<'_, B> {
    /// The embedding where it is nothing else: of it, a token reads one row.
    fn table(&mut self) -> Result<B::Mat> {
        let table = self.weights.matrix(Role::TokenEmbedding)?;
        let rows = table.rows()?;
        let mat = self.backend.table(&[rows])?;
        (self.progress)(rows.data().len() as u64);
        self.weights.release(&table);
        Ok(mat)
    }
}

impl<B: Backend> Make for Loader<'_, B> {
    type Mat = B::Mat;
    type Buf = B::Buf;
    type Routes = B::Routes;

    fn mat(&mut self, roles: &[Role], experts: usize) -> Result<B::Mat> {
        let parts = roles.iter().map(|&r| self.weights.matrix(r)).collect::<Result<Vec<_>>>()?;
        let rows = parts.iter().map(|m| m.rows()).collect::<Result<Vec<_>>>()?;
        let mat = self.backend.mat(&rows, experts)?;
        let bytes = rows.iter().map(|r| r.data().len() as u64).sum::<u64>();
        let top_k = self.weights.config().moe.as_ref().map_or(1, |m| m.top_k);
        self.bytes_per_token += if experts > 1 { bytes * top_k as u64 / experts as u64 } else { bytes };
        (self.progress)(bytes);
        drop(rows);
        parts.iter().for_each(|part| self.weights.release(part));
        Ok(mat)
    }

    fn vector(&mut self, roles: &[Role]) -> Result<B::Buf> {
        let mut values = Vec::new();
        for &role in roles {
            values.extend(self.weights.vector(role)?);
        }
        Ok(self.backend.vector(&values)?)
    }

    fn buf(&mut self, rows: usize, cols: usize) -> Result<B::Buf> {
        Ok(self.backend.buf(rows, cols)?)
    }

    fn logits(&mut self, rows: usize, vocab: usize) -> Result<B::Buf> {
        Ok(self.backend.logits(rows, vocab)?)
    }

    fn routes(&mut self, rows: usize, top_k: usize) -> Result<B::Routes> {
        Ok(self.backend.routes(rows, top_k)?)
    }
}

#[cfg(test)]
mod tests;
