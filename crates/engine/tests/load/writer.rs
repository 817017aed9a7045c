//! Writes small GGUF files, right and wrong ones, and remembers where their length fields are.

use coder_kernels::BlockType;

/// A metadata value.
#[derive(Clone, Debug)]
pub enum V {
    U16(u16),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Str(String),
    Strs(Vec<String>),
    I32s(Vec<i32>),
    /// A type number and the bytes that follow it.
    Raw(u32, Vec<u8>),
}

pub fn text(s: &str) -> V {
    V::Str(s.to_owned())
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    type_id: u32,
    /// Instead of the next free place.
    offset: Option<u64>,
    data: Vec<u8>,
}

/// A file to be.
#[derive(Clone, Debug)]
pub struct Writer {
    version: u32,
    alignment: usize,
    keys: Vec<(String, V)>,
    tensors: Vec<Tensor>,
}

/// A number in a written file: where, and how many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub at: usize,
    pub width: usize,
}

impl Writer {
    pub fn new(version: u32) -> Self {
        Self { version, alignment: 32, keys: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a key, or a second one of the same name.
    pub fn key(mut self, name: &str, value: V) -> Self {
        self.keys.push((name.to_owned(), value));
        self
    }

    /// Replaces the value of a key.
    pub fn set(mut self, name: &str, value: V) -> Self {
        self.keys.retain(|k| k.0 != name);
        self.key(name, value)
    }

    pub fn without(mut self, name: &str) -> Self {
        self.keys.retain(|k| k.0 != name);
        self.tensors.retain(|t| t.name != name);
        self
    }

    pub fn align(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// Adds a tensor whose weights are a pattern that depends on its name.
    pub fn tensor(self, name: &str, kind: BlockType, shape: &[u64]) -> Self {
        let rows: u64 = shape[1..].iter().product();
        let bytes = kind.row_bytes(shape[0] as usize).expect("whole blocks") * rows as usize;
        let data = pattern(name, bytes);
        self.raw_tensor(name, ggml_id(kind), shape, None, data)
    }

    pub fn raw_tensor(
        mut self,
        name: &str,
        type_id: u32,
        shape: &[u64],
        offset: Option<u64>,
        data: Vec<u8>,
    ) -> Self {
        self.tensors.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), type_id, offset, data });
        self
    }

    pub fn build(&self) -> Vec<u8> {
        self.build_with_fields().0
    }

    /// The file, and every number of its header, keys and tensor table.
    pub fn build_with_fields(&self) -> (Vec<u8>, Vec<Field>) {
        let mut out = Out::default();
        out.bytes.extend(b"GGUF");
        out.u32(self.version);
        out.u64(self.tensors.len() as u64);
        out.u64(self.keys.len() as u64);
        for (name, value) in &self.keys {
            out.str(name);
            out.value(value);
        }
        let mut end = 0;
        let mut data = Vec::new();
        for t in &self.tensors {
            out.str(&t.name);
            out.u32(t.shape.len() as u32);
            t.shape.iter().for_each(|&n| out.u64(n));
            out.u32(t.type_id);
            data.resize(end, 0);
            out.u64(t.offset.unwrap_or(end as u64));
            data.extend(&t.data);
            end = data.len().next_multiple_of(self.alignment);
        }
        if !self.tensors.is_empty() {
            out.bytes.resize(out.bytes.len().next_multiple_of(self.alignment), 0);
            out.bytes.extend(data);
        }
        (out.bytes, out.fields)
    }
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Out {
    fn u32(&mut self, n: u32) {
        self.fields.push(Field { at: self.bytes.len(), width: 4 });
        self.bytes.extend(n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.fields.push(Field { at: self.bytes.len(), width: 8 });
        self.bytes.extend(n.to_le_bytes());
    }

    fn str(&mut self, s: &str) {
        self.u64(s.len() as u64);
        self.bytes.extend(s.as_bytes());
    }

    fn value(&mut self, value: &V) {
        match value {
            V::U16(n) => {
                self.u32(2);
                self.bytes.extend(n.to_le_bytes());
            }
            V::U32(n) => {
                self.u32(4);
                self.u32(*n);
            }
            V::I32(n) => {
                self.u32(5);
                self.u32(*n as u32);
            }
            V::U64(n) => {
                self.u32(10);
                self.u64(*n);
            }
            V::F32(x) => {
                self.u32(6);
                self.u32(x.to_bits());
            }
            V::Bool(b) => {
                self.u32(7);
                self.bytes.push((*b).into());
            }
            V::Str(s) => {
                self.u32(8);
                self.str(s);
            }
            V::Strs(list) => {
                self.u32(9);
                self.u32(8);
                self.u64(list.len() as u64);
                list.iter().for_each(|s| self.str(s));
            }
            V::I32s(list) => {
                self.u32(9);
                self.u32(5);
                self.u64(list.len() as u64);
                list.iter().for_each(|n| self.bytes.extend(n.to_le_bytes()));
            }
            V::Raw(type_id, bytes) => {
                self.u32(*type_id);
                self.bytes.extend(bytes);
            }
        }
    }
}

/// The number of a type in files.
pub fn ggml_id(kind: BlockType) -> u32 {
    match kind {
        BlockType::F32 => 0,
        BlockType::F16 => 1,
        BlockType::Q4_0 => 2,
        BlockType::Q8_0 => 8,
        BlockType::BF16 => 30,
        other => panic!("this writer does not know {other:?}"),
    }
}

/// Bytes that differ from tensor to tensor and place to place.
pub fn pattern(name: &str, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(name.bytes().fold(7, |h: u64, b| h.wrapping_mul(31) ^ u64::from(b)));
    (0..bytes).map(|_| random.next() as u8 & 0x3f).collect()
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed & 0xffff_ffff)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A whole model of 2 layers: 64 columns, 4 and 2 heads of 16, 96 columns in the feed-forward part, 24 tokens.
pub fn model(version: u32, arch: &str) -> Writer {
    use BlockType::{BF16, F16, F32, Q4_0, Q8_0};
    let at = |suffix: &str| format!("{arch}.{suffix}");
    let tokens: Vec<String> = (0..24).map(|i| format!("tok{i}Ġ")).collect();
    let mut w = Writer::new(version)
        .key("general.architecture", text(arch))
        .key("general.name", text("a test"))
        .key(&at("block_count"), V::U32(2))
        .key(&at("context_length"), V::U64(128))
        .key(&at("embedding_length"), V::U16(64))
        .key(&at("feed_forward_length"), V::I32(96))
        .key(&at("attention.head_count"), V::U32(4))
        .key(&at("attention.head_count_kv"), V::U32(2))
        .key(&at("attention.key_length"), V::U32(16))
        .key(&at("attention.value_length"), V::U32(16))
        .key(&at("attention.layer_norm_rms_epsilon"), V::F32(1e-6))
        .key(&at("rope.freq_base"), V::F32(1e6))
        .key("tokenizer.ggml.model", text("gpt2"))
        .key("tokenizer.ggml.tokens", V::Strs(tokens))
        .key("tokenizer.ggml.token_type", V::I32s(vec![1; 24]))
        .key("tokenizer.ggml.add_bos_token", V::Bool(false));
    if arch == "qwen3moe" {
        w = w
            .key(&at("expert_count"), V::U32(4))
            .key(&at("expert_used_count"), V::U32(2))
            .key(&at("expert_feed_forward_length"), V::U32(32));
    }
    w = w.tensor("token_embd.weight", F16, &[64, 24]).tensor("output_norm.weight", F32, &[64]);
    if arch != "qwen2" {
        w = w.tensor("output.weight", Q8_0, &[64, 24]);
    }
    for l in 0..2 {
        let at = |suffix: &str| format!("blk.{l}.{suffix}");
        w = w
            .tensor(&at("attn_norm.weight"), F32, &[64])
            .tensor(&at("ffn_norm.weight"), BF16, &[64])
            .tensor(&at("attn_q.weight"), Q8_0, &[64, 64])
            .tensor(&at("attn_k.weight"), Q4_0, &[64, 32])
            .tensor(&at("attn_v.weight"), BF16, &[64, 32])
            .tensor(&at("attn_output.weight"), F32, &[64, 64]);
        w = if arch == "qwen2" {
            w.tensor(&at("attn_q.bias"), F32, &[64]).tensor(&at("attn_k.bias"), F16, &[32]).tensor(
                &at("attn_v.bias"),
                F32,
                &[32],
            )
        } else {
            w.tensor(&at("attn_q_norm.weight"), F32, &[16]).tensor(&at("attn_k_norm.weight"), F32, &[16])
        };
        w = if arch == "qwen3moe" {
            w.tensor(&at("ffn_gate_inp.weight"), F32, &[64, 4])
                .tensor(&at("ffn_gate_exps.weight"), Q4_0, &[64, 32, 4])
                .tensor(&at("ffn_up_exps.weight"), Q4_0, &[64, 32, 4])
                .tensor(&at("ffn_down_exps.weight"), Q8_0, &[32, 64, 4])
        } else {
            w.tensor(&at("ffn_gate.weight"), Q4_0, &[64, 96])
                .tensor(&at("ffn_up.weight"), Q4_0, &[64, 96])
                .tensor(&at("ffn_down.weight"), Q8_0, &[96, 64])
        };
    }
    w
}

/// The shared test data, if this checkout has it: a folder `shared/data` beside one of the ancestors.
pub fn shared_data() -> Option<std::path::PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|a| a.join("shared/data")).find(|p| p.is_dir())
}
