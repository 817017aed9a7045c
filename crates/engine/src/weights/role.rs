//! What a tensor is for, its name in either kind of checkpoint, and the shape that it must have.

use crate::config::Config;

/// What a tensor is for. The number is the layer's, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `[vocab, hidden]`
    TokenEmbedding,
    /// `[hidden]`
    OutputNorm,
    /// `[vocab, hidden]`; the embedding if the model is tied.
    Output,
    /// `[hidden]`
    AttnNorm(usize),
    /// `[heads.q · heads.dim, hidden]`
    Q(usize),
    /// `[heads.kv · heads.dim, hidden]`
    K(usize),
    /// `[heads.kv · heads.dim, hidden]`
    V(usize),
    /// `[heads.q · heads.dim]`
    QBias(usize),
    /// `[heads.kv · heads.dim]`
    KBias(usize),
    /// `[heads.kv · heads.dim]`
    VBias(usize),
    /// `[heads.dim]`
    QNorm(usize),
    /// `[heads.dim]`
    KNorm(usize),
    /// `[hidden, heads.q · heads.dim]`
    AttnOut(usize),
    /// `[hidden]`
    FfnNorm(usize),
    /// `[ffn, hidden]`
    Gate(usize),
    /// `[ffn, hidden]`
    Up(usize),
    /// `[hidden, ffn]`
    Down(usize),
    /// `[experts, hidden]`
    Router(usize),
    /// `[experts, moe.ffn, hidden]`
    GateExperts(usize),
    /// `[experts, moe.ffn, hidden]`
    UpExperts(usize),
    /// `[experts, hidden, moe.ffn]`
    DownExperts(usize),
}

/// `rows` and `cols` of one expert, and the number of experts (1 for all but expert tensors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) experts: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Role {
    /// Every role that a model of this configuration has, in the order of the forward pass.
    pub fn all(config: &Config) -> impl Iterator<Item = Role> {
        use Role::*;
        let (qkv_bias, qk_norm, moe) = (config.qkv_bias, config.qk_norm, config.moe.is_some());
        let layer = move |l: usize| {
            let always = [AttnNorm(l), Q(l), K(l), V(l)];
            let bias = [QBias(l), KBias(l), VBias(l)].into_iter().filter(move |_| qkv_bias);
            let norm = [QNorm(l), KNorm(l)].into_iter().filter(move |_| qk_norm);
            let dense = [Gate(l), Up(l), Down(l)].into_iter().filter(move |_| !moe);
            let experts = [Router(l), GateExperts(l), UpExperts(l), DownExperts(l)];
            let experts = experts.into_iter().filter(move |_| moe);
            always
                .into_iter()
                .chain(bias)
                .chain(norm)
                .chain([AttnOut(l), FfnNorm(l)])
                .chain(dense)
                .chain(experts)
        };
        [TokenEmbedding].into_iter().chain((0..config.layers).flat_map(layer)).chain([OutputNorm, Output])
    }

    /// Whether this is a vector (a norm's weight or a bias) and not a matrix.
    pub fn is_vector(self) -> bool {
        use Role::*;
        matches!(
            self,
            OutputNorm | AttnNorm(_) | QBias(_) | KBias(_) | VBias(_) | QNorm(_) | KNorm(_) | FfnNorm(_)
        )
    }

    /// The role under which the tensor is stored: the output of a tied model is the embedding.
    pub(crate) fn stored(self, config: &Config) -> Role {
        if self == Role::Output && config.tied { Role::TokenEmbedding } else { self }
    }

    /// Whether there is one matrix for each expert.
    pub(crate) fn is_experts(self) -> bool {
        matches!(self, Role::GateExperts(_) | Role::UpExperts(_) | Role::DownExperts(_))
    }

    /// The shape; none for experts of a model that has none.
    pub(crate) fn shape(self, config: &Config) -> Option<Shape> {
        use Role::*;
        let Config { hidden, heads, ffn, vocab, moe, .. } = *config;
        let (q, kv) = (heads.q * heads.dim, heads.kv * heads.dim);
        let (experts, rows, cols) = match self {
            TokenEmbedding | Output => (1, vocab, hidden),
            OutputNorm | AttnNorm(_) | FfnNorm(_) => (1, 1, hidden),
            Q(_) => (1, q, hidden),
            K(_) | V(_) => (1, kv, hidden),
            QBias(_) => (1, 1, q),
            KBias(_) | VBias(_) => (1, 1, kv),
            QNorm(_) | KNorm(_) => (1, 1, heads.dim),
            AttnOut(_) => (1, hidden, q),
            Gate(_) | Up(_) => (1, ffn, hidden),
            Down(_) => (1, hidden, ffn),
            Router(_) => (1, moe?.experts, hidden),
            GateExperts(_) | UpExperts(_) => (moe?.experts, moe?.ffn, hidden),
            DownExperts(_) => (moe?.experts, hidden, moe?.ffn),
        };
        Some(Shape { experts, rows, cols })
    }

    /// The name in a GGUF file.
    pub(crate) fn gguf_name(self) -> String {
        use Role::*;
        match self {
            TokenEmbedding => "token_embd.weight".into(),
            OutputNorm => "output_norm.weight".into(),
            Output => "output.weight".into(),
            AttnNorm(l) => format!("blk.{l}.attn_norm.weight"),
            Q(l) => format!("blk.{l}.attn_q.weight"),
            K(l) => format!("blk.{l}.attn_k.weight"),
            V(l) => format!("blk.{l}.attn_v.weight"),
            QBias(l) => format!("blk.{l}.attn_q.bias"),
            KBias(l) => format!("blk.{l}.attn_k.bias"),
            VBias(l) => format!("blk.{l}.attn_v.bias"),
            QNorm(l) => format!("blk.{l}.attn_q_norm.weight"),
            KNorm(l) => format!("blk.{l}.attn_k_norm.weight"),
            AttnOut(l) => format!("blk.{l}.attn_output.weight"),
            FfnNorm(l) => format!("blk.{l}.ffn_norm.weight"),
            Gate(l) => format!("blk.{l}.ffn_gate.weight"),
            Up(l) => format!("blk.{l}.ffn_up.weight"),
            Down(l) => format!("blk.{l}.ffn_down.weight"),
            Router(l) => format!("blk.{l}.ffn_gate_inp.weight"),
            GateExperts(l) => format!("blk.{l}.ffn_gate_exps.weight"),
            UpExperts(l) => format!("blk.{l}.ffn_up_exps.weight"),
            DownExperts(l) => format!("blk.{l}.ffn_down_exps.weight"),
        }
    }

    /// The shape in a GGUF file, columns first.
    pub(crate) fn gguf_shape(self, Shape { experts, rows, cols }: Shape) -> Vec<usize> {
        match (self.is_vector(), self.is_experts()) {
            (true, _) => vec![cols],
            (_, true) => vec![cols, rows, experts],
            _ => vec![cols, rows],
        }
    }

    /// The name in a Hugging Face checkpoint, where each expert is a tensor of its own.
    pub(super) fn hub_name(self, expert: usize) -> String {
        use Role::*;
        match self {
            TokenEmbedding => "model.embed_tokens.weight".into(),
            OutputNorm => "model.norm.weight".into(),
            Output => "lm_head.weight".into(),
            AttnNorm(l) => format!("model.layers.{l}.input_layernorm.weight"),
            Q(l) => format!("model.layers.{l}.self_attn.q_proj.weight"),
            K(l) => format!("model.layers.{l}.self_attn.k_proj.weight"),
            V(l) => format!("model.layers.{l}.self_attn.v_proj.weight"),
            QBias(l) => format!("model.layers.{l}.self_attn.q_proj.bias"),
            KBias(l) => format!("model.layers.{l}.self_attn.k_proj.bias"),
            VBias(l) => format!("model.layers.{l}.self_attn.v_proj.bias"),
            QNorm(l) => format!("model.layers.{l}.self_attn.q_norm.weight"),
            KNorm(l) => format!("model.layers.{l}.self_attn.k_norm.weight"),
            AttnOut(l) => format!("model.layers.{l}.self_attn.o_proj.weight"),
            FfnNorm(l) => format!("model.layers.{l}.post_attention_layernorm.weight"),
            Gate(l) => format!("model.layers.{l}.mlp.gate_proj.weight"),
            Up(l) => format!("model.layers.{l}.mlp.up_proj.weight"),
            Down(l) => format!("model.layers.{l}.mlp.down_proj.weight"),
            Router(l) => format!("model.layers.{l}.mlp.gate.weight"),
            GateExperts(l) => format!("model.layers.{l}.mlp.experts.{expert}.gate_proj.weight"),
            UpExperts(l) => format!("model.layers.{l}.mlp.experts.{expert}.up_proj.weight"),
            DownExperts(l) => format!("model.layers.{l}.mlp.experts.{expert}.down_proj.weight"),
        }
    }
}
