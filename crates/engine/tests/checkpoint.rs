//! A folder with safetensors gives the same bits as the GGUF file with the same weights.

mod common;

use coder_engine::{Device, Gguf, Options, Role, Weights, probe};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use std::path::Path;

/// Hugging Face's name of a tensor, by its GGUF name.
fn hub_name(name: &str) -> String {
    let name = match name {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        layer => layer.replacen("blk.", "model.layers.", 1),
    };
    [
        ("attn_norm", "input_layernorm"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ]
    .iter()
    .find_map(|(gguf, hub)| name.contains(&format!(".{gguf}.")).then(|| name.replace(gguf, hub)))
    .expect("a known tensor")
}

/// Writes the model at `path` as an f32 checkpoint into `folder`.
fn convert(path: &Path, folder: &Path) {
    let gguf = Gguf::open(path).expect("a GGUF file");
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for tensor in gguf.tensors() {
        let shape = tensor.shape();
        let rows = gguf.rows(tensor.name(), shape).expect("rows");
        let mut bytes = Vec::new();
        let mut row = vec![0f32; rows.cols()];
        for r in 0..rows.rows() {
            rows.dequantize_row(r, &mut row).expect("a row");
            bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        }
        tensors.push((hub_name(tensor.name()), shape.iter().rev().copied().collect(), bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).expect("a written file");

    let weights = Weights::open(path).expect("weights");
    let c = weights.config();
    let config = json!({
        "model_type": c.architecture.name(), "hidden_size": c.hidden, "num_attention_heads": c.heads.q,
        "num_key_value_heads": c.heads.kv, "head_dim": c.heads.dim, "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers, "vocab_size": c.vocab, "max_position_embeddings": c.context,
        "rms_norm_eps": c.eps, "rope_theta": c.rope_theta, "tie_word_embeddings": c.tied, "hidden_act": "silu",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a written file");
    assert_eq!(Role::all(c).filter(|&r| !(c.tied && r == Role::Output)).count(), tensors.len());
}

#[test]
fn the_same_bits_from_both_formats() {
    let mut models = vec![common::bundled()];
    if let Some(folder) = common::shared("vectors/models") {
        models.extend(["qwen2-untied-F16", "qwen2-Q4_K_M"].map(|m| folder.join(format!("tiny-{m}.gguf"))));
    }
    let tokens = common::tokens();
    for model in models {
        let folder = tempfile::tempdir().expect("a temporary folder");
        convert(&model, folder.path());
        // Quantized weights and floats of the same values are the same to the reference alone: the CPU rounds the
        // activations that quantized weights multiply.
        let logits = |path: &Path| {
            let device =
                if model.to_string_lossy().contains("F16") { Device::Cpu } else { Device::Reference };
            probe::logits(&Options { device, ..Options::new(path) }, &tokens, None).expect("logits")
        };
        let (gguf, hub) = (logits(&model), logits(folder.path()));
        let same = gguf.values.iter().zip(&hub.values).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{}", model.display());
    }
}
