//! The forward pass: written once, for every device, for prefill and decode, dense and mixture of experts.

use crate::weights::{Role, Weights};
use crate::{Config, Result};
use coder_kernels::{Backend, Batch, KvType, QkNorm, Rope};

/// A model that can be stepped, whatever its device: one virtual call per step.
pub(crate) trait Runner: Send {
    /// Runs the batch; returns the logits of its wanted rows, `[batch.logits.len(), vocab]`.
    fn step(&mut self, batch: &Batch) -> Result<&[f32]>;
    /// Weight bytes that one decoded token reads.
    fn weight_bytes_per_token(&self) -> u64;
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

/// Weights, cache and scratch of one model on one device.
pub(crate) struct Model<B: Backend> {
    backend: B,
    config: Config,
    layers: Vec<Layer<B>>,
    kv: Vec<B::Kv>,
    embed: B::Mat,        // [vocab, hidden]
    norm: B::Buf,         // [1, hidden]
    head: Option<B::Mat>, // [vocab, hidden]; `embed` where the model ties them
    scratch: Scratch<B>,
    host_logits: Vec<f32>, // [limits.logits, vocab]
    bytes_per_token: u64,
}

struct Layer<B: Backend> {
    attn_norm: B::Buf,        // [1, hidden]
    qkv: B::Mat,              // [qkv_cols, hidden]
    qkv_bias: Option<B::Buf>, // [1, qkv_cols]
    qk_norm: Option<QkNorm<B::Buf>>,
    attn_out: B::Mat, // [hidden, q_cols]
    ffn_norm: B::Buf, // [1, hidden]
    ffn: Ffn<B>,
}

enum Ffn<B: Backend> {
    Dense {
        gate_up: B::Mat, // [2·ffn, hidden]
        down: B::Mat,    // [hidden, ffn]
    },
    Experts {
        router: B::Mat,  // [experts, hidden]
        gate_up: B::Mat, // [experts, 2·ffn, hidden]
        down: B::Mat,    // [experts, hidden, ffn]
    },
}

/// Activations; they never move.
struct Scratch<B: Backend> {
    x: B::Buf,       // [rows, hidden] residual
    h: B::Buf,       // [rows, hidden] normalised, or a product before it is added
    qkv: B::Buf,     // [rows, qkv_cols]
    att: B::Buf,     // [rows, q_cols]
    gate_up: B::Buf, // [rows·top_k, 2·ffn]
    act: B::Buf,     // [rows·top_k, ffn]
    last: B::Buf,    // [logits, hidden]
    last_h: B::Buf,  // [logits, hidden]
    logits: B::Buf,  // [logits, vocab]
    experts: Option<ExpertScratch<B>>,
}

struct ExpertScratch<B: Backend> {
    router: B::Buf, // [rows, experts]
    routes: B::Routes,
    out: B::Buf, // [rows·top_k, hidden]
}

impl<B: Backend> Model<B> {
    /// Copies the weights to the device. `progress` is told the weight bytes copied so far.
    pub(crate) fn load(
        backend: B,
        weights: &Weights,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let config = weights.config().clone();
        let mut loader = Loader { backend: &backend, weights, done: 0, bytes_per_token: 0, progress };
        let embed = loader.mat(&[Role::TokenEmbedding], 1)?;
        let head = if config.tied {
            None
        } else {
            loader.bytes_per_token = 0; // of an embedding table alone, a token reads one row
            Some(loader.mat(&[Role::Output], 1)?)
        };
        let norm = loader.vector(Role::OutputNorm)?;
        let layers = (0..config.layers).map(|l| loader.layer(&config, l)).collect::<Result<_>>()?;
        let bytes_per_token = loader.bytes_per_token;
        let kv = (0..config.layers)
            .map(|_| Ok(backend.kv(limits.slots, config.heads, limits.kv)?))
            .collect::<Result<_>>()?;
        let scratch = Scratch::new(&backend, &config, limits)?;
        let host_logits = vec![0.0; limits.logits * config.vocab];
        Ok(Self { backend, config, layers, kv, embed, norm, head, scratch, host_logits, bytes_per_token })
    }
}

/// Reads roles from the file and hands them to the device.
struct Loader<'a, B: Backend> {
    backend: &'a B,
    weights: &'a Weights,
    done: u64,
    bytes_per_token: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<B: Backend> Loader<'_, B> {
    fn mat(&mut self, roles: &[Role], experts: usize) -> Result<B::Mat> {
        let parts = roles.iter().map(|&r| self.weights.matrix(r)).collect::<Result<Vec<_>>>()?;
        let rows = parts.iter().map(|m| m.rows()).collect::<Result<Vec<_>>>()?;
        let mat = self.backend.mat(&rows, experts)?;
        let bytes = rows.iter().map(|r| r.data().len() as u64).sum::<u64>();
        let top_k = self.weights.config().moe.as_ref().map_or(1, |m| m.top_k);
        self.bytes_per_token += if experts > 1 { bytes * top_k as u64 / experts as u64 } else { bytes };
        self.done += bytes;
        (self.progress)(self.done);
        drop(rows);
        parts.iter().for_each(|part| self.weights.release(part));
        Ok(mat)
    }

    fn vector(&mut self, role: Role) -> Result<B::Buf> {
        Ok(self.backend.vector(&self.weights.vector(role)?)?)
    }

    fn layer(&mut self, config: &Config, l: usize) -> Result<Layer<B>> {
        let qkv_bias = if config.qkv_bias {
            let mut bias = Vec::with_capacity(config.heads.qkv_cols());
            for role in [Role::QBias(l), Role::KBias(l), Role::VBias(l)] {
                bias.extend(self.weights.vector(role)?);
            }
            Some(self.backend.vector(&bias)?)
        } else {
            None
        };
        let qk_norm = if config.qk_norm {
            Some(QkNorm { q: self.vector(Role::QNorm(l))?, k: self.vector(Role::KNorm(l))? })
        } else {
            None
        };
        let ffn = match &config.moe {
            None => Ffn::Dense {
                gate_up: self.mat(&[Role::Gate(l), Role::Up(l)], 1)?,
                down: self.mat(&[Role::Down(l)], 1)?,
            },
            Some(moe) => Ffn::Experts {
                router: self.mat(&[Role::Router(l)], 1)?,
                gate_up: self.mat(&[Role::GateExperts(l), Role::UpExperts(l)], moe.experts)?,
                down: self.mat(&[Role::DownExperts(l)], moe.experts)?,
            },
        };
        Ok(Layer {
            attn_norm: self.vector(Role::AttnNorm(l))?,
            qkv: self.mat(&[Role::Q(l), Role::K(l), Role::V(l)], 1)?,
            qkv_bias,
            qk_norm,
            attn_out: self.mat(&[Role::AttnOut(l)], 1)?,
            ffn_norm: self.vector(Role::FfnNorm(l))?,
            ffn,
        })
    }
}

impl<B: Backend> Scratch<B> {
    fn new(b: &B, c: &Config, limits: Limits) -> Result<Self> {
        let (rows, logits) = (limits.rows, limits.logits);
        let (ffn, top_k) = c.moe.as_ref().map_or((c.ffn, 1), |m| (m.ffn, m.top_k));
        let experts = match &c.moe {
            None => None,
            Some(m) => Some(ExpertScratch {
                router: b.buf(rows, m.experts)?,
                routes: b.routes(rows, m.top_k)?,
                out: b.buf(rows * m.top_k, c.hidden)?,
            }),
        };
        Ok(Self {
            x: b.buf(rows, c.hidden)?,
            h: b.buf(rows, c.hidden)?,
            qkv: b.buf(rows, c.heads.qkv_cols())?,
            att: b.buf(rows, c.heads.q_cols())?,
            gate_up: b.buf(rows * top_k, 2 * ffn)?,
            act: b.buf(rows * top_k, ffn)?,
            last: b.buf(logits, c.hidden)?,
            last_h: b.buf(logits, c.hidden)?,
            logits: b.buf(logits, c.vocab)?,
            experts,
        })
    }
}

impl<B: Backend + Send> Runner for Model<B> {
    fn step(&mut self, batch: &Batch) -> Result<&[f32]> {
        let Self { backend, config, layers, kv, embed, norm, head, scratch: s, host_logits, .. } = self;
        let eps = config.eps;
        let rope = Rope { heads: config.heads, theta: config.rope_theta, eps };
        backend.step(batch, |b| {
            b.embed(&mut s.x, embed)?;
            for (l, kv) in layers.iter().zip(kv.iter_mut()) {
                b.norm_matmul(&mut s.qkv, &s.x, &l.attn_norm, &l.qkv, eps, &mut s.h)?;
                if let Some(bias) = &l.qkv_bias {
                    b.bias(&mut s.qkv, bias)?; // Qwen2.5
                }
                b.rope(&mut s.qkv, l.qk_norm.as_ref(), kv, &rope)?; // Qwen3 normalises q and k
                b.attention(&mut s.att, &s.qkv, kv)?;
                b.matmul_add(&mut s.x, &s.att, &l.attn_out, &mut s.h)?;
                match &l.ffn {
                    Ffn::Dense { gate_up, down } => {
                        b.norm_matmul(&mut s.gate_up, &s.x, &l.ffn_norm, gate_up, eps, &mut s.h)?;
                        b.swiglu(&mut s.act, &s.gate_up)?;
                        b.matmul_add(&mut s.x, &s.act, down, &mut s.h)?;
                    }
                    Ffn::Experts { router, gate_up, down } => {
                        experts(b, s, &l.ffn_norm, router, gate_up, down, eps)?;
                    }
                }
            }
            if batch.logits.is_empty() {
                return Ok(()); // a chunk of a prompt that goes on
            }
            b.select(&mut s.last, &s.x)?;
            b.norm_matmul(&mut s.logits, &s.last, norm, head.as_ref().unwrap_or(embed), eps, &mut s.last_h)
        })?;
        let wanted = batch.logits.len() * config.vocab;
        let limit = host_logits.len();
        let Some(out) = host_logits.get_mut(..wanted) else {
            return Err(coder_kernels::Error::Batch { what: "logits", got: wanted, limit }.into());
        };
        if !out.is_empty() {
            backend.read(&s.logits, out)?;
        }
        Ok(out)
    }

    fn weight_bytes_per_token(&self) -> u64 {
        self.bytes_per_token
    }
}

/// `x += Σ weight(e) · down_e · swiglu(gate_up_e · norm(x))` over each row's chosen experts.
fn experts<B: Backend>(
    b: &mut B,
    s: &mut Scratch<B>,
    norm: &B::Buf,
    router: &B::Mat,
    gate_up: &B::Mat,
    down: &B::Mat,
    eps: f32,
) -> coder_kernels::Result<()> {
    let Some(e) = &mut s.experts else { unreachable!("a layer with experts implies their scratch") };
    b.rms_norm(&mut s.h, &s.x, norm, eps)?;
    b.matmul(&mut e.router, &s.h, router)?;
    b.route(&mut e.routes, &e.router)?;
    b.matmul_experts(&mut s.gate_up, &s.h, gate_up, &e.routes, true)?;
    b.swiglu(&mut s.act, &s.gate_up)?;
    b.matmul_experts(&mut e.out, &s.act, down, &e.routes, false)?;
    b.mix_experts(&mut s.x, &e.out, &e.routes)
}
