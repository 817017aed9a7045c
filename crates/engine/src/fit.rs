//! What a model takes on a card, before anything is allocated: the plan that loading follows and `coder fit` prints.
//!
//! This module owns the arithmetic and its assumptions. It knows tensors by type and shape alone, so that it can
//! plan for a file that is not here and for a card that is not either.

use crate::model::{Layer, Limits, Make, Output, Scratch};
use crate::quantize::{FileType, Mix};
use crate::weights::{Role, Shape, Weights};
use crate::{Config, Error, KvType, Result};
use coder_kernels::cuda::{self, buf_bytes, kv_bytes, logits_bytes, mat_bytes, routes_bytes};
use coder_kernels::{BLOCK, BlockType};

/// What a driver takes for its context and the kernels of a card, where nobody has opened it to see: an assumption,
/// on the large side of what drivers of 2024 and 2025 take on cards without a screen.
const CONTEXT_BYTES: u64 = 512 << 20;

/// What is still to come on a card that is open, whose free memory is without the context: kernels are put there
/// when they are first used. An assumption; the library is a few megabytes for each kind of card.
const KERNELS_BYTES: u64 = 64 << 20;

/// Memory of a card is given out in pages; the rest of the last one of a large allocation is lost.
const PAGE_BYTES: u64 = 2 << 20;

/// Smaller allocations share pages.
const SHARED_BYTES: u64 = 1 << 20;

/// Steps that are kept recorded at most (`cuda/graphs.rs`), operations of a layer that one holds at most (16 to 18
/// are launched), and bytes of the card for each. The last is an assumption: a launch has up to 4 KiB of
/// parameters, and these have less than 1 KiB.
const GRAPHS: u64 = 48;
const OPERATIONS: u64 = 20;
const OPERATION_BYTES: u64 = 2 << 10;

/// The tensors of a model.
#[derive(Clone, Copy, Debug)]
pub enum Tensors<'a> {
    /// Of an open file or folder.
    Of(&'a Weights),
    /// Of a model by its dimensions, in a published mix.
    Mixed(&'a Config, FileType),
}

impl Tensors<'_> {
    /// The dimensions.
    pub fn config(&self) -> &Config {
        match self {
            Tensors::Of(weights) => weights.config(),
            Tensors::Mixed(config, _) => config,
        }
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> Result<u64> {
        let roles = Role::all(self.config()).filter(|r| !(self.config().tied && *r == Role::Output));
        roles.map(|role| self.bytes_of(role)).sum()
    }

    fn layout(&self, role: Role) -> Result<(Shape, BlockType)> {
        match self {
            Tensors::Of(weights) => weights.layout(role),
            Tensors::Mixed(config, file_type) => {
                let role = role.stored(config);
                let Some(shape) = role.shape(config) else {
                    unreachable!("only roles of the model are asked for")
                };
                Ok((shape, Mix::new(*file_type, config).of_role(role, shape)))
            }
        }
    }

    /// Type, rows and columns of a role's tensor, the rows whole blocks.
    fn rows(&self, role: Role) -> Result<(BlockType, usize, usize)> {
        let (Shape { experts, rows, cols }, kind) = self.layout(role)?;
        if cols.is_multiple_of(kind.layout().0) {
            return Ok((kind, experts * rows, cols));
        }
        Err(Error::Unsupported {
            what: "columns of a weight",
            got: cols.to_string(),
            supported: format!("whole blocks of {kind:?}"),
        })
    }

    /// Bytes of a role's tensor.
    fn bytes_of(&self, role: Role) -> Result<u64> {
        let (kind, rows, cols) = self.rows(role)?;
        let (weights, bytes) = kind.layout();
        Ok(rows as u64 * (cols / weights * bytes) as u64)
    }
}

/// What a model is opened with, as far as it takes memory.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Tokens of prompt and answer together.
    pub context: usize,
    /// Tokens that the cache has room for, of all requests together; what the context takes if that is more.
    pub cache: usize,
    /// How keys and values are stored.
    pub kv: KvType,
    /// Rows of one step.
    pub rows: usize,
    /// The same where all layers are on a card that has room for it.
    pub rows_on_card: usize,
    /// Rows of one step whose logits may be wanted.
    pub logits: usize,
    /// Whether steps are recorded.
    pub graphs: bool,
}

impl Room {
    pub(crate) fn limits(&self) -> Limits {
        self.limits_of(self.rows)
    }

    /// Of steps of `rows` rows.
    pub(crate) fn limits_of(&self, rows: usize) -> Limits {
        let slots = self.context.max(self.cache).div_ceil(BLOCK) * BLOCK;
        Limits { rows, logits: self.logits.min(rows), slots, kv: self.kv }
    }
}

impl Limits {
    /// How a card is to be opened for steps like these.
    pub(crate) fn cuda(&self, graphs: bool, memory_bytes: Option<u64>) -> cuda::Options {
        let blocks = self.slots / BLOCK;
        cuda::Options { rows: self.rows, blocks, graphs, memory_bytes, ..cuda::Options::default() }
    }
}

/// The memory of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    bytes: u64,
    /// Of it what nobody allocates by name.
    reserve: u64,
}

impl Memory {
    /// No card at all.
    pub(crate) fn none() -> Self {
        Self { bytes: 0, reserve: 0 }
    }

    /// A card of `bytes` in all, which nobody has opened.
    pub fn total(bytes: u64) -> Self {
        Self { bytes, reserve: CONTEXT_BYTES }
    }

    /// A card that is open, with `bytes` free; of which no more may be used than a card of `limit` would have.
    pub fn free(bytes: u64, limit: Option<u64>) -> Self {
        let free = Self { bytes, reserve: KERNELS_BYTES };
        let limit = limit.map(Self::total).filter(|limit| limit.room() < free.room());
        limit.unwrap_or(free)
    }

    /// The memory.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// Of `bytes`, what the model itself takes of it, without the driver's part.
    pub(crate) fn taken_by(self, bytes: &Bytes) -> u64 {
        bytes.card - self.reserve
    }

    /// What is left of it beside `bytes` that another model will allocate.
    pub(crate) fn beside(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.saturating_sub(bytes), ..self }
    }

    /// What can be allocated.
    pub(crate) fn room(self) -> u64 {
        self.bytes.saturating_sub(self.reserve)
    }
}

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bytes {
    /// Layers that are on the card; the others are on the CPU.
    pub layers: usize,
    /// Rows of one step.
    pub rows: usize,
    /// Weights on the card.
    pub weights: u64,
    /// Keys and values on the card.
    pub cache: u64,
    /// Activations and inputs of a step.
    pub scratch: u64,
    /// Recorded steps: an estimate.
    pub graphs: u64,
    /// For the driver, and lost at the ends of pages.
    pub reserve: u64,
    /// All of the above: what the card must have.
    pub card: u64,
    /// Weights in host memory: the embedding of a model that does not use it as its head, and layers on the CPU.
    pub host_weights: u64,
    /// Keys and values of layers on the CPU.
    pub host_cache: u64,
}

/// What each piece of a model takes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Weights of every layer.
    layers: Vec<Sum>,
    /// Final norm and head.
    head: Sum,
    /// The embedding in the file, where it is not the head.
    embed: u64,
    /// The embedding in the file, where layers before those of the card need it.
    host_embed: u64,
    /// Cache of one layer.
    cache: Sum,
    /// Rows of one step; their activations, and the device's own.
    scratch: (usize, Sum),
    /// The same where all layers are on a card that has room for it.
    scratch_on_card: (usize, Sum),
    /// Recorded operations of one layer.
    graphs: u64,
}

impl Plan {
    /// Plans for a model of these tensors with this room.
    ///
    /// # Errors
    /// Those of tensors that are missing or have another shape than the configuration says.
    pub fn new(tensors: Tensors<'_>, room: &Room) -> Result<Self> {
        let c = tensors.config();
        let limits = room.limits();
        let counted = |count: &mut dyn FnMut(&mut Counter<'_>) -> Result<()>| {
            let mut counter = Counter { tensors, weights: Sum::default(), buffers: Sum::default() };
            count(&mut counter).map(|()| counter)
        };
        let layer = |l| Ok(counted(&mut |counter| Layer::new(c, l, counter).map(drop))?.weights);
        let head = counted(&mut |counter| Output::new(c, limits, false, counter).map(drop))?;
        let scratch = |rows| -> Result<_> {
            let mut sum = counted(&mut |counter| Scratch::new(c, rows, counter).map(drop))?.buffers;
            sum.add(head.buffers);
            sum.allocate(room.limits_of(rows).cuda(room.graphs, None).own_bytes(c.heads));
            Ok((rows, sum))
        };
        let host_embed = tensors.bytes_of(Role::TokenEmbedding)?;
        Ok(Self {
            layers: (0..c.layers).map(layer).collect::<Result<_>>()?,
            head: head.weights,
            embed: if c.tied { 0 } else { host_embed },
            host_embed,
            cache: Sum::default().with(kv_bytes(limits.slots, c.heads, limits.kv)),
            scratch: scratch(room.rows)?,
            scratch_on_card: scratch(room.rows_on_card)?,
            graphs: if room.graphs { GRAPHS * OPERATIONS * OPERATION_BYTES } else { 0 },
        })
    }

    /// Number of layers of the model.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// What is needed with the last `layers` layers and the head on a card with this memory. If it has room for all, steps may
    /// have more rows.
    pub fn bytes(&self, layers: usize, memory: Memory) -> Bytes {
        let all = self.bytes_of(layers, memory, self.scratch_on_card);
        let has_room = layers == self.layers.len() && all.card <= memory.bytes;
        if has_room { all } else { self.bytes_of(layers, memory, self.scratch) }
    }

    fn bytes_of(&self, layers: usize, memory: Memory, (rows, scratch): (usize, Sum)) -> Bytes {
        let cut = self.layers.len() - layers;
        let mut weights = self.head;
        self.layers[cut..].iter().for_each(|layer| weights.add(*layer));
        let cache = self.cache.times(layers as u64);
        let graphs = self.graphs * layers as u64;
        let reserve = memory.reserve + weights.lost + cache.lost + scratch.lost;
        // Layers on the CPU are about as large there as in planes on the card.
        let before: u64 = self.layers[..cut].iter().map(|layer| layer.bytes).sum();
        Bytes {
            layers,
            rows,
            weights: weights.bytes,
            cache: cache.bytes,
            scratch: scratch.bytes,
            graphs,
            reserve,
            card: weights.bytes + cache.bytes + scratch.bytes + graphs + reserve,
            host_weights: if cut == 0 { self.embed } else { self.host_embed + before },
            host_cache: self.cache.bytes * cut as u64,
        }
    }

    /// The most layers that fit; 0 if not even one fits beside the head.
    pub fn most_layers(&self, memory: Memory) -> usize {
        let fits = |layers: &usize| self.bytes(*layers, memory).card <= memory.bytes;
        (1..=self.layers.len()).rev().find(fits).unwrap_or(0)
    }
}

/// The largest context with which all layers fit, in steps of 256 and at most what the model was trained for; 0 if
/// there is none.
///
/// # Errors
/// As [`Plan::new`].
pub fn largest_context(tensors: Tensors<'_>, room: &Room, memory: Memory) -> Result<usize> {
    const STEP: usize = 256;
    let layers = tensors.config().layers;
    let fits = |context: usize| -> Result<bool> {
        let plan = Plan::new(tensors, &Room { context, cache: context, ..*room })?;
        Ok(plan.bytes(layers, memory).card <= memory.bytes)
    };
    // The first number of steps that is too much is above `low` and at most `high`.
    let (mut low, mut high) = (0, tensors.config().context / STEP + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle * STEP)? { low = middle } else { high = middle }
    }
    Ok(low * STEP)
}

/// Allocations, and what is lost behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    lost: u64,
}

impl Sum {
    fn allocate(&mut self, bytes: u64) {
        self.bytes += bytes;
        if bytes > SHARED_BYTES {
            self.lost += bytes.next_multiple_of(PAGE_BYTES) - bytes;
        }
    }

    fn with(mut self, bytes: u64) -> Self {
        self.allocate(bytes);
        self
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lost += other.lost;
    }

    fn times(self, n: u64) -> Self {
        Self { bytes: self.bytes * n, lost: self.lost * n }
    }
}

/// Bytes of the host's memory that a model of these dimensions takes beside weights and cache: activations where the
/// host computes layers, and what `answers` that grow side by side are chosen with.
///
/// # Errors
/// None; those of making pieces, which only counts here.
pub(crate) fn scratch_on_host(c: &Config, limits: Limits, layers: bool, answers: usize) -> Result<u64> {
    let of = |rows: usize, cols: usize, bytes: usize| (rows as u64) * (cols * bytes) as u64;
    // Logits on their way to the samplers, each of which has four numbers for every token.
    let mut bytes = of(limits.logits, c.vocab, 4) + of(answers, c.vocab, 16);
    if layers {
        let mut counter = OnHost(0);
        Scratch::new(c, limits.rows, &mut counter)?;
        Output::new(c, limits, false, &mut counter)?;
        // The residual on its way to another device, and the widest activations in eight bits with their scales.
        let (ffn, top_k) = c.moe.as_ref().map_or((c.ffn, 1), |m| (m.ffn, m.top_k));
        let widest = (top_k * ffn).max(c.hidden).max(c.heads.q_cols());
        bytes += counter.0 + of(limits.rows, c.hidden, 4) + of(limits.rows, widest, 2);
    }
    Ok(bytes)
}

/// Makes nothing and counts the bytes that the processor needs for it, weights left out.
struct OnHost(u64);

impl Make for OnHost {
    type Mat = ();
    type Buf = ();
    type Routes = ();

    fn mat(&mut self, _roles: &[Role], _experts: usize) -> Result<()> {
        Ok(())
    }

    fn vector(&mut self, _roles: &[Role]) -> Result<()> {
        Ok(())
    }

    fn buf(&mut self, rows: usize, cols: usize) -> Result<()> {
        self.0 += 4 * (rows as u64) * (cols as u64);
        Ok(())
    }

    fn logits(&mut self, rows: usize, vocab: usize) -> Result<()> {
        self.buf(rows, vocab)
    }

    fn routes(&mut self, rows: usize, top_k: usize) -> Result<()> {
        self.0 += 8 * (rows as u64) * (top_k as u64);
        Ok(())
    }
}

/// Makes nothing and counts it.
struct Counter<'a> {
    tensors: Tensors<'a>,
    weights: Sum,
    buffers: Sum,
}

impl Make for Counter<'_> {
    type Mat = ();
    type Buf = ();
    type Routes = ();

    fn mat(&mut self, roles: &[Role], _experts: usize) -> Result<()> {
        let parts = roles.iter().map(|&role| self.tensors.rows(role)).collect::<Result<Vec<_>>>()?;
        self.weights.allocate(mat_bytes(&parts));
        Ok(())
    }

    fn vector(&mut self, roles: &[Role]) -> Result<()> {
        let mut cols = 0;
        for &role in roles {
            cols += self.tensors.layout(role)?.0.cols;
        }
        self.weights.allocate(buf_bytes(1, cols));
        Ok(())
    }

    fn buf(&mut self, rows: usize, cols: usize) -> Result<()> {
        self.buffers.allocate(buf_bytes(rows, cols));
        Ok(())
    }

    fn logits(&mut self, rows: usize, vocab: usize) -> Result<()> {
        self.buffers.allocate(logits_bytes(rows, vocab));
        Ok(())
    }

    fn routes(&mut self, rows: usize, top_k: usize) -> Result<()> {
        self.buffers.allocate(routes_bytes(rows, top_k));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
