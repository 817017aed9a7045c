//! The arithmetic of a language model: one contract, [`Backend`], for every device.
//!
//! This crate owns the quantized block layouts ([`blocks`]), the contract, and the devices that are
//! written here. It knows nothing of files, tokens' text or scheduling, and it is the only crate of
//! the workspace in which `unsafe` may appear.
#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
pub mod blocks;
pub mod choice;
pub mod cpu;
pub mod cuda;
mod error;
mod kv;
pub mod mapped;

pub use batch::{BLOCK, Batch, NO_SLOT, Span};
pub use blocks::{BlockType, QuantRows};
pub use choice::{Choice, MAX_CANDIDATES, Pick};
pub use error::{Error, Result, Version};
pub use kv::KvType;

/// The head geometry of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub q: usize,
    /// Key and value heads; `q` is a multiple of it.
    pub kv: usize,
    /// Columns of one head; even.
    pub dim: usize,
}

impl Heads {
    /// Columns of a row that holds queries, keys and values one behind the other.
    pub fn qkv_cols(&self) -> usize {
        (self.q + 2 * self.kv) * self.dim
    }

    /// Columns of a row that holds all query heads, as attention's output does.
    pub fn q_cols(&self) -> usize {
        self.q * self.dim
    }
}

/// Rotary position embedding in the half-split (NEOX) arrangement.
///
/// Source: Su et al., "RoFormer", 2021; the arrangement is the one of GPT-NeoX and Qwen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Head geometry of the rows to rotate.
    pub heads: Heads,
    /// Base of the geometric progression of wavelengths.
    pub theta: f64,
    /// Epsilon of the norm on each head of q and k, where the model has one.
    pub eps: f32,
}

/// The weights of the RMS norm on each head of q and k (Qwen3); each `[1, heads.dim]`.
#[derive(Debug)]
pub struct QkNorm<B> {
    /// Query weight.
    pub q: B,
    /// Key weight.
    pub k: B,
}

/// What a layer's queries, keys and values have beside their product's weights.
#[derive(Debug)]
pub struct OfHeads<'a, B> {
    /// Bias of all heads (Qwen2.5).
    pub bias: Option<&'a B>,
    /// Norm of the heads of q and k (Qwen3).
    pub norm: Option<&'a QkNorm<B>>,
}

/// The norm of an operation's result `x [rows, cols]` that follows the operation: `y = rms_norm(x)`.
#[derive(Debug)]
pub struct Next<'a, B> {
    /// Weight `[1, cols]`; `None` if no norm follows.
    pub w: Option<&'a B>,
    /// Added to the mean square.
    pub eps: f32,
    /// Room for `[rows, cols]`: scratch, and then the norm.
    pub y: &'a mut B,
}

impl<B> Next<'_, B> {
    /// The norm by itself.
    fn of<D: Backend<Buf = B>>(self, device: &mut D, x: &B) -> Result<()> {
        self.w.map_or(Ok(()), |w| device.rms_norm(self.y, x, w, self.eps))
    }
}

/// A device. Buffers are allocated at load and never move; operations write into them.
///
/// Every buffer remembers how many of its rows are in use. [`embed`](Backend::embed) sets that to the
/// batch's rows, [`select`](Backend::select) to the number of rows whose logits are wanted, and every
/// other operation takes it from its input. All activations are f32, row major.
///
/// **The same row gives the same bits whatever else is in the batch.** The order of every reduction
/// depends on the shape of the weight and on the row's own position, never on the number of rows.
pub trait Backend: Sized {
    /// Activations `[rows, cols]`, f32.
    type Buf: Send;
    /// Weights `[experts, out, in]` in whatever layout the device likes; a dense matrix has one expert.
    type Mat: Send;
    /// One layer's key and value slots `[slots, heads.kv, heads.dim]`, twice.
    type Kv: Send;
    /// The experts chosen for each row and their weights, `[rows, top_k]`, twice.
    type Routes: Send;

    /// A short name of the device for people, such as `cpu (avx2)`.
    fn name(&self) -> String;

    // ---- load time: the only allocations

    /// A zeroed buffer for at most `rows` rows.
    fn buf(&self, rows: usize, cols: usize) -> Result<Self::Buf>;
    /// As [`buf`](Self::buf), for logits: with what [`choose`](Self::choose) needs beside them.
    fn logits(&self, rows: usize, vocab: usize) -> Result<Self::Buf> {
        self.buf(rows, vocab)
    }
    /// A buffer `[1, data.len()]` that holds `data`: a norm's weight or a bias.
    fn vector(&self, data: &[f32]) -> Result<Self::Buf>;
    /// A weight whose output is the parts' outputs one behind the other. The parts may differ in
    /// quantization, not in `cols`. With `experts > 1`, each part holds `experts` equal runs of rows,
    /// and expert `e` of the weight is the `e`-th run of every part.
    fn mat(&self, parts: &[QuantRows<'_>], experts: usize) -> Result<Self::Mat>;
    /// As [`mat`](Self::mat) with one expert, for a table that [`embed`](Self::embed) alone reads, a few rows at a
    /// time: a device with little memory may leave it in the host's.
    fn table(&self, parts: &[QuantRows<'_>]) -> Result<Self::Mat> {
        self.mat(parts, 1)
    }
    /// Key and value storage of one layer.
    fn kv(&self, slots: usize, heads: Heads, dtype: KvType) -> Result<Self::Kv>;
    /// Room for the routing decisions of `rows` rows.
    fn routes(&self, rows: usize, top_k: usize) -> Result<Self::Routes>;

    // ---- a step

    /// Uploads `batch` into fixed buffers, then runs `ops`. A device may record what they do and replay it, and may
    /// call `ops` a second time where what it recorded turns out to be something else.
    fn step(&mut self, batch: &Batch, ops: impl FnMut(&mut Self) -> Result<()>) -> Result<()>;
    /// Copies rows from the host, the inverse of [`read`](Self::read): `data` is `[rows, cols]`, and `x` has those rows
    /// in use. Not within a step.
    fn write(&mut self, x: &mut Self::Buf, data: &[f32]) -> Result<()>;
    /// Copies the rows in use to the host: `out` is `[rows in use, cols]`.
    fn read(&mut self, x: &Self::Buf, out: &mut [f32]) -> Result<()>;
    /// Between steps: what each row in use of `logits` comes down to, `choices [rows]`, by what is picked of each; and
    /// in `rows [rows, vocab]`, which is scratch else, all of each row whose choice is not clear. So a device that
    /// chooses for itself need not copy rows to the host. The bits are those of [`Choice::of`].
    fn choose<'p>(
        &mut self,
        choices: &mut [Choice],
        logits: &Self::Buf,
        picks: &mut dyn Iterator<Item = Pick<'p>>,
        rows: &mut [f32],
    ) -> Result<()> {
        self.read(logits, rows)?;
        choice::of_rows(choices, rows, picks)
    }
    /// What [`read`](Self::read) would copy, if it lies in the host's memory already.
    fn host<'a>(&self, _x: &'a Self::Buf) -> Option<&'a [f32]> {
        None
    }

    // ---- blocks of the cache, between steps

    /// What the bits of results depend on beside the model: devices of equal words compute the same ones, and lay out
    /// their caches alike.
    fn arithmetic(&self) -> String;
    /// Bytes of [`BLOCK`] positions of one layer's keys and values.
    fn block_bytes(&self, kv: &Self::Kv) -> usize;
    /// Copies block `block`, all of whose positions were written, to the host. `out` has
    /// [`block_bytes`](Self::block_bytes), in whatever layout the device likes.
    fn read_block(&mut self, kv: &Self::Kv, block: u32, out: &mut [u8]) -> Result<()>;
    /// The inverse of [`read_block`](Self::read_block). Any bytes make numbers.
    fn write_block(&mut self, kv: &mut Self::Kv, block: u32, data: &[u8]) -> Result<()>;

    // ---- primitives; none takes a position: tokens, positions, slots and spans are the batch's

    /// `x[r] = table[tokens[r]]`. `table [1, vocab, cols]`, `x [rows, cols]`.
    fn embed(&mut self, x: &mut Self::Buf, table: &Self::Mat) -> Result<()>;
    /// `y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w`. `x, y [rows, cols]`, `w [1, cols]`.
    fn rms_norm(&mut self, y: &mut Self::Buf, x: &Self::Buf, w: &Self::Buf, eps: f32) -> Result<()>;
    /// `y[r] = w · x[r]`. `x [rows, in]`, `w [1, out, in]`, `y [rows, out]`.
    fn matmul(&mut self, y: &mut Self::Buf, x: &Self::Buf, w: &Self::Mat) -> Result<()>;
    /// `x[r] += b`. `x [rows, cols]`, `b [1, cols]`.
    fn bias(&mut self, x: &mut Self::Buf, b: &Self::Buf) -> Result<()>;
    /// Normalises the heads of q and k if `norm` is given, rotates them by the row's position, and
    /// writes k and v to the row's slot. `qkv [rows, heads.qkv_cols()]`; q is left rotated in place.
    fn rope(
        &mut self,
        qkv: &mut Self::Buf,
        norm: Option<&QkNorm<Self::Buf>>,
        kv: &mut Self::Kv,
        rope: &Rope,
    ) -> Result<()>;
    /// Causal attention of each row over the slots of its span up to its own position.
    /// `qkv [rows, heads.qkv_cols()]`, `y [rows, heads.q_cols()]`.
    fn attention(&mut self, y: &mut Self::Buf, qkv: &Self::Buf, kv: &Self::Kv) -> Result<()>;
    /// `x[r] += y[r]`; both `[rows, cols]`.
    fn add(&mut self, x: &mut Self::Buf, y: &Self::Buf) -> Result<()>;
    /// `y[r] = silu(gate) · up`, where `gate_up[r]` is gate and then up. `gate_up [rows, 2·ffn]`, `y [rows, ffn]`.
    fn swiglu(&mut self, y: &mut Self::Buf, gate_up: &Self::Buf) -> Result<()>;
    /// Softmax over all experts, the `top_k` largest (ties to the lower index), renormalised to sum one.
    /// `logits [rows, experts]`.
    fn route(&mut self, routes: &mut Self::Routes, logits: &Self::Buf) -> Result<()>;
    /// `y[r·top_k + j] = w[expert(r, j)] · x`, where x is `x[r]` if `shared`, else `x[r·top_k + j]`.
    /// `w [experts, out, in]`, `y [rows·top_k, out]`.
    fn matmul_experts(
        &mut self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Mat,
        routes: &Self::Routes,
        shared: bool,
    ) -> Result<()>;
    /// `x[r] += Σ_j weight(r, j) · y[r·top_k + j]`, j ascending. `x [rows, cols]`, `y [rows·top_k, cols]`.
    fn mix_experts(&mut self, x: &mut Self::Buf, y: &Self::Buf, routes: &Self::Routes) -> Result<()>;
    /// Gathers the rows whose logits the batch wants: `y[i] = x[logits[i]]`.
    fn select(&mut self, y: &mut Self::Buf, x: &Self::Buf) -> Result<()>;

    // ---- fused operations: the default body is the specification, an override is an optimisation

    /// `y = w · rms_norm(x)`; `h [rows, in]` is scratch.
    fn norm_matmul(
        &mut self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        norm: &Self::Buf,
        w: &Self::Mat,
        eps: f32,
        h: &mut Self::Buf,
    ) -> Result<()> {
        self.rms_norm(h, x, norm, eps)?;
        self.matmul(y, h, w)
    }

    /// Adds `bias` to the rows if there is one, and then is [`rope`](Self::rope).
    fn bias_rope(
        &mut self,
        qkv: &mut Self::Buf,
        bias: Option<&Self::Buf>,
        norm: Option<&QkNorm<Self::Buf>>,
        kv: &mut Self::Kv,
        rope: &Rope,
    ) -> Result<()> {
        if let Some(bias) = bias {
            self.bias(qkv, bias)?;
        }
        self.rope(qkv, norm, kv, rope)
    }

    /// `qkv = w · x`, and then [`bias_rope`](Self::bias_rope).
    fn matmul_rope(
        &mut self,
        qkv: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Mat,
        of_heads: OfHeads<'_, Self::Buf>,
        kv: &mut Self::Kv,
        rope: &Rope,
    ) -> Result<()> {
        self.matmul(qkv, x, w)?;
        self.bias_rope(qkv, of_heads.bias, of_heads.norm, kv, rope)
    }

    /// `logits = w · x`, and then [`route`](Self::route).
    fn matmul_route(
        &mut self,
        routes: &mut Self::Routes,
        logits: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Mat,
    ) -> Result<()> {
        self.matmul(logits, x, w)?;
        self.route(routes, logits)
    }

    /// `y = swiglu(w · x)`, where `w` is gate and then up; `gate_up [rows, 2·ffn]` is scratch.
    fn matmul_swiglu(
        &mut self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Mat,
        gate_up: &mut Self::Buf,
    ) -> Result<()> {
        self.matmul(gate_up, x, w)?;
        self.swiglu(y, gate_up)
    }

    /// The same for the experts of each row of `x`; `y [rows·top_k, ffn]`, `gate_up [rows·top_k, 2·ffn]` is scratch.
    fn matmul_experts_swiglu(
        &mut self,
        y: &mut Self::Buf,
        x: &Self::Buf,
        w: &Self::Mat,
        routes: &Self::Routes,
        gate_up: &mut Self::Buf,
    ) -> Result<()> {
        self.matmul_experts(gate_up, x, w, routes, true)?;
        self.swiglu(y, gate_up)
    }

    /// `x[r] += Σ_j weight(r, j) · (w[expert(r, j)] · y[r·top_k + j])`, j ascending; `y [rows·top_k, in]`,
    /// `h [rows·top_k, out]` is scratch for the products.
    fn matmul_experts_mix(
        &mut self,
        x: &mut Self::Buf,
        y: &Self::Buf,
        w: &Self::Mat,
        routes: &Self::Routes,
        h: &mut Self::Buf,
    ) -> Result<()> {
        self.matmul_experts(h, y, w, routes, false)?;
        self.mix_experts(x, h, routes)
    }

    /// `x += w · y`; `h [rows, out]` is scratch.
    fn matmul_add(
        &mut self,
        x: &mut Self::Buf,
        y: &Self::Buf,
        w: &Self::Mat,
        h: &mut Self::Buf,
    ) -> Result<()> {
        self.matmul(h, y, w)?;
        self.add(x, h)
    }

    /// [`matmul_add`](Self::matmul_add), and then the norm of `x`.
    fn matmul_add_norm(
        &mut self,
        x: &mut Self::Buf,
        y: &Self::Buf,
        w: &Self::Mat,
        next: Next<'_, Self::Buf>,
    ) -> Result<()> {
        self.matmul_add(x, y, w, next.y)?;
        next.of(self, x)
    }

    /// [`matmul_experts_mix`](Self::matmul_experts_mix), and then the norm of `x`.
    fn matmul_experts_mix_norm(
        &mut self,
        x: &mut Self::Buf,
        y: &Self::Buf,
        w: &Self::Mat,
        routes: &Self::Routes,
        h: &mut Self::Buf,
        next: Next<'_, Self::Buf>,
    ) -> Result<()> {
        self.matmul_experts_mix(x, y, w, routes, h)?;
        next.of(self, x)
    }
}
