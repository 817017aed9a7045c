//! What a model consists of on a device, whoever makes it: the loader, or a plan that only counts.
//!
//! This module owns which weights and buffers there are and how large they are. It decides nothing about where.

use crate::config::Config;
use crate::weights::Role;
use crate::{Result, model::Limits};
use coder_kernels::QkNorm;

/// Who makes the pieces. What is counted is what is loaded, because both walk through the same lines.
pub(crate) trait Make {
    type Mat;
    type Buf;
    type Routes;

    /// A weight `[experts, out, in]` of the roles' outputs one behind the other.
    fn mat(&mut self, roles: &[Role], experts: usize) -> Result<Self::Mat>;
    /// A vector `[1, cols]` of the roles' columns one behind the other.
    fn vector(&mut self, roles: &[Role]) -> Result<Self::Buf>;
    /// Activations `[rows, cols]`.
    fn buf(&mut self, rows: usize, cols: usize) -> Result<Self::Buf>;
    /// Logits `[rows, vocab]`, of which tokens are chosen.
    fn logits(&mut self, rows: usize, vocab: usize) -> Result<Self::Buf>;
    /// Routing decisions of `rows` rows.
    fn routes(&mut self, rows: usize, top_k: usize) -> Result<Self::Routes>;
}

/// The weights of one layer.
pub(crate) struct Layer<Mat, Buf> {
    pub(super) attn_norm: Buf,        // [1, hidden]
    pub(super) qkv: Mat,              // [qkv_cols, hidden]
    pub(super) qkv_bias: Option<Buf>, // [1, qkv_cols]
    pub(super) qk_norm: Option<QkNorm<Buf>>,
    pub(super) attn_out: Mat, // [hidden, q_cols]
    pub(super) ffn_norm: Buf, // [1, hidden]
    pub(super) ffn: Ffn<Mat>,
}

pub(super) enum Ffn<Mat> {
    Dense {
        gate_up: Mat, // [2·ffn, hidden]
        down: Mat,    // [hidden, ffn]
    },
    Experts {
        router: Mat,  // [experts, hidden]
        gate_up: Mat, // [experts, 2·ffn, hidden]
        down: Mat,    // [experts, hidden, ffn]
    },
}

impl<Mat, Buf> Layer<Mat, Buf> {
    pub(crate) fn new(c: &Config, l: usize, make: &mut impl Make<Mat = Mat, Buf = Buf>) -> Result<Self> {
        let bias = [Role::QBias(l), Role::KBias(l), Role::VBias(l)];
        Ok(Self {
            attn_norm: make.vector(&[Role::AttnNorm(l)])?,
            qkv: make.mat(&[Role::Q(l), Role::K(l), Role::V(l)], 1)?,
            qkv_bias: if c.qkv_bias { Some(make.vector(&bias)?) } else { None },
            qk_norm: if c.qk_norm {
                Some(QkNorm { q: make.vector(&[Role::QNorm(l)])?, k: make.vector(&[Role::KNorm(l)])? })
            } else {
                None
            },
            attn_out: make.mat(&[Role::AttnOut(l)], 1)?,
            ffn_norm: make.vector(&[Role::FfnNorm(l)])?,
            ffn: match &c.moe {
                None => Ffn::Dense {
                    gate_up: make.mat(&[Role::Gate(l), Role::Up(l)], 1)?,
                    down: make.mat(&[Role::Down(l)], 1)?,
                },
                Some(moe) => Ffn::Experts {
                    router: make.mat(&[Role::Router(l)], 1)?,
                    gate_up: make.mat(&[Role::GateExperts(l), Role::UpExperts(l)], moe.experts)?,
                    down: make.mat(&[Role::DownExperts(l)], moe.experts)?,
                },
            },
        })
    }
}

/// Activations of the layers; they never move.
pub(crate) struct Scratch<Buf, Routes> {
    pub(super) x: Buf,       // [rows, hidden] residual
    pub(super) h: Buf,       // [rows, hidden] normalised, or a product before it is added
    pub(super) qkv: Buf,     // [rows, qkv_cols]
    pub(super) att: Buf,     // [rows, q_cols]
    pub(super) gate_up: Buf, // [rows·top_k, 2·ffn]
    pub(super) act: Buf,     // [rows·top_k, ffn]
    pub(super) experts: Option<ExpertScratch<Buf, Routes>>,
}

pub(super) struct ExpertScratch<Buf, Routes> {
    pub(super) router: Buf, // [rows, experts]
    pub(super) routes: Routes,
    pub(super) out: Buf, // [rows·top_k, hidden]
}

impl<Buf, Routes> Scratch<Buf, Routes> {
    pub(crate) fn new(
        c: &Config,
        rows: usize,
        make: &mut impl Make<Buf = Buf, Routes = Routes>,
    ) -> Result<Self> {
        let (ffn, top_k) = c.moe.as_ref().map_or((c.ffn, 1), |m| (m.ffn, m.top_k));
        let experts = match &c.moe {
            None => None,
            Some(m) => Some(ExpertScratch {
                router: make.buf(rows, m.experts)?,
                routes: make.routes(rows, m.top_k)?,
                out: make.buf(rows * m.top_k, c.hidden)?,
            }),
        };
        Ok(Self {
            x: make.buf(rows, c.hidden)?,
            h: make.buf(rows, c.hidden)?,
            qkv: make.buf(rows, c.heads.qkv_cols())?,
            att: make.buf(rows, c.heads.q_cols())?,
            gate_up: make.buf(rows * top_k, 2 * ffn)?,
            act: make.buf(rows * top_k, ffn)?,
            experts,
        })
    }
}

/// From the residual to logits.
pub(crate) struct Output<Mat, Buf> {
    pub(super) norm: Buf,         // [1, hidden]
    pub(super) head: Option<Mat>, // [vocab, hidden]; the embedding where the model ties them and it is here
    pub(super) last: Buf,         // [logits, hidden]
    pub(super) h: Buf,            // [logits, hidden]
    pub(super) logits: Buf,       // [logits, vocab]
}

impl<Mat, Buf> Output<Mat, Buf> {
    /// `tied_here`: the embedding is on the same device and is the head as well.
    pub(crate) fn new(
        c: &Config,
        limits: Limits,
        tied_here: bool,
        make: &mut impl Make<Mat = Mat, Buf = Buf>,
    ) -> Result<Self> {
        Ok(Self {
            norm: make.vector(&[Role::OutputNorm])?,
            head: if tied_here { None } else { Some(make.mat(&[Role::Output], 1)?) },
            last: make.buf(limits.logits, c.hidden)?,
            h: make.buf(limits.logits, c.hidden)?,
            logits: make.logits(limits.logits, c.vocab)?,
        })
    }
}
