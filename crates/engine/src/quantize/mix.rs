//! Which type each tensor gets: the published mixes, as a pure function of names and shapes.
//!
//! Source: the rules of llama.cpp's `llama-quantize` (`src/llama-quant.cpp`), without an importance matrix,
//! for the families that this engine runs. This module decides; it encodes nothing.

use coder_kernels::BlockType;

use crate::{
    Error,
    config::{Architecture, Config},
    weights::{Role, Shape},
};

/// What a whole file is called: the type of most of its weights and the mix for the rest.
#[allow(missing_docs, non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    Q2_K_S,
}

impl FileType {
    /// Every type, from the most to the fewest bits.
    pub const ALL: [FileType; 20] = {
        use FileType::*;
        [
            F32, F16, BF16, Q8_0, Q6_K, Q5_1, Q5_K_M, Q5_K_S, Q5_0, Q4_1, Q4_K_M, Q4_K_S, IQ4_NL, Q4_0,
            IQ4_XS, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, Q2_K_S,
        ]
    };

    /// The name in capitals, as files are labelled: `Q4_K_M`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The number for `general.file_type`.
    pub fn number(self) -> u32 {
        use FileType::*;
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q8_0 => 7,
            Q5_0 => 8,
            Q5_1 => 9,
            Q2_K => 10,
            Q3_K_S => 11,
            Q3_K_M => 12,
            Q3_K_L => 13,
            Q4_K_S => 14,
            Q4_K_M => 15,
            Q5_K_S => 16,
            Q5_K_M => 17,
            Q6_K => 18,
            Q2_K_S => 21,
            IQ4_NL => 25,
            IQ4_XS => 30,
            BF16 => 32,
        }
    }

    /// The type of the tensors that no rule singles out.
    pub fn base(self) -> BlockType {
        use FileType::*;
        match self {
            F32 => BlockType::F32,
            F16 => BlockType::F16,
            BF16 => BlockType::BF16,
            Q8_0 => BlockType::Q8_0,
            Q6_K => BlockType::Q6_K,
            Q5_K_M | Q5_K_S => BlockType::Q5_K,
            Q5_1 => BlockType::Q5_1,
            Q5_0 => BlockType::Q5_0,
            Q4_K_M | Q4_K_S => BlockType::Q4_K,
            Q4_1 => BlockType::Q4_1,
            Q4_0 => BlockType::Q4_0,
            IQ4_NL => BlockType::IQ4_NL,
            IQ4_XS => BlockType::IQ4_XS,
            Q3_K_L | Q3_K_M | Q3_K_S => BlockType::Q3_K,
            Q2_K | Q2_K_S => BlockType::Q2_K,
        }
    }

    /// Bits per weight of a dense model of `layers` layers whose matrices have the proportions of
    /// Qwen2.5-Coder 7B: what a person can expect before the file is made.
    pub fn bits_per_weight(self) -> f64 {
        // Columns and rows per layer, embedding and output apart.
        const MATRICES: [(&str, usize, usize); 7] = [
            ("attn_q", 3584, 3584),
            ("attn_k", 3584, 512),
            ("attn_v", 3584, 512),
            ("attn_output", 3584, 3584),
            ("ffn_gate", 3584, 18944),
            ("ffn_up", 3584, 18944),
            ("ffn_down", 18944, 3584),
        ];
        const LAYERS: usize = 28;
        let mix = Mix { file: self, layers: LAYERS, gqa: 7, experts: 0, tied: false, tall: false };
        let mut names = vec![("token_embd.weight".to_owned(), 3584, 152_064)];
        names.push(("output.weight".to_owned(), 3584, 152_064));
        for layer in 0..LAYERS {
            names.extend(
                MATRICES.map(|(name, cols, rows)| (format!("blk.{layer}.{name}.weight"), cols, rows)),
            );
        }
        let (mut bits, mut weights) = (0.0, 0.0);
        for (name, cols, rows) in names {
            let (block, bytes) = mix.matrix(&name, cols).layout();
            let count = (cols * rows) as f64;
            bits += count * 8.0 * bytes as f64 / block as f64;
            weights += count;
        }
        bits / weights
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

impl std::str::FromStr for FileType {
    type Err = Error;

    /// Reads the name in any case, with `-` for `_` too.
    fn from_str(name: &str) -> Result<Self, Error> {
        let wanted = name.trim().to_uppercase().replace('-', "_");
        Self::ALL.into_iter().find(|t| t.name() == wanted).ok_or_else(|| Error::Unsupported {
            what: "file type",
            got: crate::gguf::shown(name),
            supported: Self::ALL.map(|t| t.to_string()).join(", "),
        })
    }
}

/// A mix for one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    file: FileType,
    layers: usize,
    /// Query heads per key and value head.
    gqa: usize,
    /// 0 for a dense model.
    experts: usize,
    /// Whether the embedding is the output too.
    tied: bool,
    /// Whether the rules hold this model for one of 70 billion weights.
    tall: bool,
}

/// What the rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Of every token's logit, the embedding too if it is that.
    Output,
    V,
    K,
    AttnOut,
    Down,
    Other,
}

impl Mix {
    pub(crate) fn new(file: FileType, config: &Config) -> Self {
        Self {
            file,
            layers: config.layers,
            gqa: config.heads.q / config.heads.kv,
            experts: config.moe.map_or(0, |m| m.experts),
            tied: config.tied,
            tall: config.architecture == Architecture::Qwen2 && config.layers == 80,
        }
    }

    /// The type for the tensor `name` of `shape` (columns first), or `None` if it stays as it is: vectors,
    /// norms, biases and the router, which are small and decide much.
    pub(super) fn type_of(&self, name: &str, shape: &[usize]) -> Option<BlockType> {
        let matrix = shape.len() >= 2 && shape[1..].iter().any(|&n| n > 1);
        let stays =
            !name.ends_with("weight") || name.contains("_norm.weight") || name.contains("ffn_gate_inp");
        (matrix && !stays).then(|| self.matrix(name, shape[0]))
    }

    /// The type of a role's tensor in a file: vectors and the router are F32, as the published conversions have them.
    pub(crate) fn of_role(&self, role: Role, shape: Shape) -> BlockType {
        self.type_of(&role.gguf_name(), &role.gguf_shape(shape)).unwrap_or(BlockType::F32)
    }

    /// The type for a matrix of `cols` columns.
    fn matrix(&self, name: &str, cols: usize) -> BlockType {
        let base = self.file.base();
        if matches!(base, BlockType::F32 | BlockType::F16 | BlockType::BF16) {
            return base;
        }
        let part = self.part(name);
        let wanted = match part {
            Part::Output if base == BlockType::Q8_0 || base.row_bytes(cols).is_none() => BlockType::Q8_0,
            Part::Output => BlockType::Q6_K,
            _ => self.inner(part, layer_of(name), base),
        };
        fitting(wanted, cols)
    }

    fn part(&self, name: &str) -> Part {
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" if self.tied => Part::Output,
            _ if name.contains("attn_v.weight") => Part::V,
            _ if name.contains("attn_k.weight") => Part::K,
            _ if name.contains("attn_output.weight") => Part::AttnOut,
            _ if name.contains("ffn_down") => Part::Down,
            _ => Part::Other,
        }
    }

    /// The type for a matrix within layer `layer`.
    fn inner(&self, part: Part, layer: usize, base: BlockType) -> BlockType {
        match part {
            Part::V => self.value(layer, base),
            Part::K if self.experts == 8 => BlockType::Q8_0,
            Part::AttnOut => self.attention_output(base),
            Part::Down => self.down(layer, base),
            Part::K | Part::Other | Part::Output => base,
        }
    }

    /// The values: few weights, to which answers are sensitive.
    fn value(&self, layer: usize, base: BlockType) -> BlockType {
        use BlockType::*;
        if self.experts == 8 {
            return Q8_0;
        }
        let shared = self.gqa >= 4;
        let kind = match self.file {
            FileType::Q2_K if shared => Q4_K,
            FileType::Q2_K => Q3_K,
            FileType::Q2_K_S if shared => Q4_K,
            FileType::Q3_K_M if layer < 2 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::Q3_K_L => Q5_K,
            FileType::IQ4_NL | FileType::IQ4_XS if shared => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if self.more_bits(layer) => Q6_K,
            FileType::Q4_K_S if layer < 4 => Q5_K,
            _ => base,
        };
        if self.tall && matches!(kind, Q3_K | Q4_K) { Q5_K } else { kind }
    }

    fn attention_output(&self, base: BlockType) -> BlockType {
        use BlockType::*;
        if self.experts == 8 {
            return match self.file {
                FileType::Q2_K
                | FileType::Q3_K_S
                | FileType::Q3_K_M
                | FileType::IQ4_NL
                | FileType::IQ4_XS
                | FileType::Q4_K_S
                | FileType::Q4_K_M => Q5_K,
                _ => base,
            };
        }
        match self.file {
            FileType::Q2_K => Q3_K,
            FileType::Q3_K_M => Q4_K,
            FileType::Q3_K_L => Q5_K,
            _ => base,
        }
    }

    fn down(&self, layer: usize, base: BlockType) -> BlockType {
        use BlockType::*;
        let early = layer < self.layers / 8;
        match self.file {
            FileType::Q2_K => Q3_K,
            FileType::Q2_K_S if early => Q4_K,
            FileType::Q3_K_M if layer < self.layers / 16 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::Q3_K_L => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if self.more_bits(layer) => Q6_K,
            FileType::Q4_K_S | FileType::IQ4_NL | FileType::IQ4_XS if early => Q5_K,
            _ => base,
        }
    }

    /// The layers that get more bits: the first and the last eighth, and every third one between.
    fn more_bits(&self, layer: usize) -> bool {
        let (n, eighth) = (self.layers, self.layers / 8);
        layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2
    }
}

/// The number in `blk.N.`; 0 for a tensor outside the layers.
fn layer_of(name: &str) -> usize {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// `wanted`, or the nearest type whose blocks fill `cols` columns.
fn fitting(wanted: BlockType, cols: usize) -> BlockType {
    use BlockType::*;
    if wanted.row_bytes(cols).is_some() {
        return wanted;
    }
    let smaller = match wanted {
        Q2_K | Q3_K | IQ4_XS => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        _ => F16,
    };
    if smaller.row_bytes(cols).is_some() { smaller } else { F16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BlockType::*;

    fn mix(file: FileType) -> Mix {
        Mix { file, layers: 28, gqa: 7, experts: 0, tied: false, tall: false }
    }

    /// The layers whose `name` matrix gets `kind`.
    fn layers(mix: &Mix, name: &str, kind: BlockType) -> Vec<usize> {
        let of =
            |layer: &usize| mix.type_of(&format!("blk.{layer}.{name}.weight"), &[3584, 512]) == Some(kind);
        (0..mix.layers).filter(of).collect()
    }

    #[test]
    fn names_and_numbers() {
        let mut numbers: Vec<_> = FileType::ALL.iter().map(|t| t.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), FileType::ALL.len());
        for file_type in FileType::ALL {
            assert_eq!(file_type.to_string().parse::<FileType>().ok(), Some(file_type));
            assert_eq!(file_type.name().replace('_', "-").parse::<FileType>().ok(), Some(file_type));
        }
        let error = "q4_k_x".parse::<FileType>().expect_err("no such type").to_string();
        assert!(
            error.contains("`q4_k_x`") && error.contains("q4_k_m") && error.contains("iq4_xs"),
            "{error}"
        );
    }

    #[test]
    fn bits_are_those_of_published_files() {
        let near = |file: FileType, bits: f64| {
            assert!((file.bits_per_weight() - bits).abs() < 0.02, "{file}: {}", file.bits_per_weight());
        };
        near(FileType::F16, 16.0);
        near(FileType::Q8_0, 8.5);
        near(FileType::Q6_K, 6.56);
        // Sizes of the published files of Qwen2.5-Coder 7B over its weights.
        near(FileType::Q4_K_M, 4.91);
        near(FileType::Q5_K_M, 5.71);
        assert!(FileType::ALL.windows(2).all(|t| t[0].bits_per_weight() >= t[1].bits_per_weight() - 0.01));
    }

    #[test]
    fn medium_mixes_spend_bits_at_both_ends_and_on_every_third_layer() {
        let more = vec![0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27];
        for file in [FileType::Q4_K_M, FileType::Q5_K_M] {
            assert_eq!(layers(&mix(file), "attn_v", Q6_K), more);
            assert_eq!(layers(&mix(file), "ffn_down", Q6_K), more);
            assert_eq!(layers(&mix(file), "ffn_up", Q6_K), Vec::<usize>::new());
        }
        assert_eq!(layers(&mix(FileType::Q4_K_S), "ffn_down", Q5_K), [0, 1, 2]);
        assert_eq!(layers(&mix(FileType::Q4_K_S), "attn_v", Q5_K), [0, 1, 2, 3]);
        assert_eq!(layers(&mix(FileType::Q3_K_M), "attn_v", Q5_K), [0, 1]);
        assert_eq!(layers(&mix(FileType::Q3_K_M), "ffn_down", Q5_K), [0]);
        assert_eq!(layers(&mix(FileType::IQ4_XS), "attn_v", Q5_K).len(), 28);
        assert_eq!(layers(&Mix { gqa: 2, ..mix(FileType::IQ4_XS) }, "attn_v", IQ4_XS).len(), 28);
        let tall = Mix { tall: true, layers: 80, ..mix(FileType::Q4_K_M) };
        assert_eq!(layers(&tall, "attn_v", Q4_K), Vec::<usize>::new());
    }

    #[test]
    fn the_output_gets_more_bits_and_the_embedding_if_it_is_that() {
        let (untied, tied) = (mix(FileType::Q4_K_M), Mix { tied: true, ..mix(FileType::Q4_K_M) });
        assert_eq!(untied.type_of("output.weight", &[3584, 9]), Some(Q6_K));
        assert_eq!(untied.type_of("token_embd.weight", &[3584, 9]), Some(Q4_K));
        assert_eq!(tied.type_of("token_embd.weight", &[3584, 9]), Some(Q6_K));
        assert_eq!(mix(FileType::Q4_0).type_of("output.weight", &[3584, 9]), Some(Q6_K));
        assert_eq!(mix(FileType::Q8_0).type_of("output.weight", &[3584, 9]), Some(Q8_0));
        assert_eq!(mix(FileType::F16).type_of("output.weight", &[3584, 9]), Some(F16));
    }

    #[test]
    fn columns_that_are_no_whole_blocks_fall_back() {
        let of = |file: FileType, name: &str, cols: usize| mix(file).type_of(name, &[cols, 9]);
        // The 0.5B model: 896 columns.
        assert_eq!(of(FileType::Q4_K_M, "blk.4.attn_q.weight", 896), Some(Q5_0));
        assert_eq!(of(FileType::Q5_K_M, "blk.4.attn_q.weight", 896), Some(Q5_1));
        assert_eq!(of(FileType::Q6_K, "blk.4.attn_q.weight", 896), Some(Q8_0));
        assert_eq!(of(FileType::Q4_K_M, "output.weight", 896), Some(Q8_0));
        assert_eq!(of(FileType::Q4_0, "output.weight", 896), Some(Q8_0));
        for file in [FileType::Q2_K, FileType::Q3_K_S, FileType::IQ4_XS] {
            assert_eq!(of(file, "blk.4.attn_q.weight", 896), Some(IQ4_NL));
        }
        assert_eq!(of(FileType::Q4_K_M, "blk.4.attn_q.weight", 900), Some(F16));
        assert_eq!(of(FileType::Q8_0, "blk.4.attn_q.weight", 900), Some(F16));
    }

    #[test]
    fn experts() {
        let eight = Mix { experts: 8, ..mix(FileType::Q4_K_M) };
        assert_eq!(eight.type_of("blk.3.attn_v.weight", &[256, 9]), Some(Q8_0));
        assert_eq!(eight.type_of("blk.3.attn_k.weight", &[256, 9]), Some(Q8_0));
        assert_eq!(eight.type_of("blk.3.attn_output.weight", &[256, 9]), Some(Q5_K));
        let many = Mix { experts: 128, ..mix(FileType::Q4_K_M) };
        assert_eq!(many.type_of("blk.3.attn_k.weight", &[2048, 9]), Some(Q4_K));
        assert_eq!(many.type_of("blk.5.ffn_down_exps.weight", &[768, 2048, 128]), Some(Q6_K));
        assert_eq!(many.type_of("blk.3.ffn_down_exps.weight", &[768, 2048, 128]), Some(Q4_K));
        assert_eq!(many.type_of("blk.3.ffn_gate_inp.weight", &[2048, 128]), None);
    }

    #[test]
    fn small_tensors_stay() {
        for name in
            ["output_norm.weight", "blk.0.attn_q.bias", "blk.0.attn_k_norm.weight", "rope_freqs.weight"]
        {
            assert_eq!(mix(FileType::Q4_K_M).type_of(name, &[64]), None);
        }
        assert_eq!(mix(FileType::Q4_K_M).type_of("blk.0.attn_norm.weight", &[64, 1]), None);
    }
}
