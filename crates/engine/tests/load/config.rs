//! Configurations from GGUF metadata and from `config.json`.

use std::fs;

use coder_engine::{
    Config, Error, Gguf, Pooling,
    config::{Architecture, Moe},
};
use coder_kernels::{BlockType, Heads};
use serde_json::{Value, json};

use crate::{
    refused, unsupported,
    writer::{V, Writer, model, text},
};

fn config(w: &Writer) -> Result<Config, Error> {
    Config::from_gguf(&Gguf::from_bytes("test.gguf", w.build())?)
}

#[test]
fn metadata_gives_the_dimensions() {
    let qwen2 = Config {
        architecture: Architecture::Qwen2,
        layers: 2,
        hidden: 64,
        heads: Heads { q: 4, kv: 2, dim: 16 },
        ffn: 96,
        vocab: 24,
        context: 128,
        eps: 1e-6,
        rope_theta: 1e6,
        qkv_bias: true,
        qk_norm: false,
        moe: None,
        tied: true,
        pooling: None,
        name: Some("a test".into()),
    };
    assert_eq!(config(&model(3, "qwen2")).unwrap(), qwen2);
    let qwen3 =
        Config { architecture: Architecture::Qwen3, qkv_bias: false, qk_norm: true, tied: false, ..qwen2 };
    assert_eq!(config(&model(2, "qwen3")).unwrap(), qwen3);
    let moe = Some(Moe { experts: 4, top_k: 2, ffn: 32 });
    let qwen3moe = Config { architecture: Architecture::Qwen3Moe, moe, ..qwen3 };
    assert_eq!(config(&model(3, "qwen3moe")).unwrap(), qwen3moe);
}

#[test]
fn absent_metadata_has_llama_cpps_defaults() {
    let w = model(3, "qwen2")
        .without("qwen2.attention.key_length")
        .without("qwen2.attention.value_length")
        .without("qwen2.attention.head_count_kv")
        .without("qwen2.rope.freq_base")
        .without("general.name");
    let config = config(&w).unwrap();
    assert_eq!(config.heads, Heads { q: 4, kv: 4, dim: 16 });
    assert_eq!((config.rope_theta, config.name), (10_000.0, None));
}

#[test]
fn metadata_that_makes_no_sense_is_refused_by_name() {
    let edit =
        |suffix: &str, value: V| config(&model(3, "qwen3moe").set(&format!("qwen3moe.{suffix}"), value));
    for suffix in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
    ] {
        for value in [V::U32(0), V::I32(-1), V::U64(u64::MAX), V::U32(u32::MAX), text("8"), V::F32(8.0)] {
            assert_eq!(refused(edit(suffix, value)).0, format!("key `qwen3moe.{suffix}`"));
        }
    }
    assert_eq!(refused(edit("attention.head_count_kv", V::U32(3))).0, "heads");
    assert_eq!(refused(edit("expert_used_count", V::U32(5))).0, "experts");
    let odd = model(3, "qwen2")
        .set("qwen2.attention.key_length", V::U32(15))
        .set("qwen2.attention.value_length", V::U32(15));
    assert_eq!(refused(config(&odd)).0, "heads");
    for eps in [0.0, -1e-6, 1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(edit("attention.layer_norm_rms_epsilon", V::F32(eps))).0, "norm epsilon");
    }
    for theta in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(edit("rope.freq_base", V::F32(theta))).0, "rope base");
    }
    for suffix in ["block_count", "attention.layer_norm_rms_epsilon", "expert_count", "embedding_length"] {
        let key = format!("qwen3moe.{suffix}");
        let found = refused(config(&model(3, "qwen3moe").without(&key)));
        assert_eq!(found, (format!("key `{key}`"), "is missing".into()));
    }
    let gone = refused(config(&model(3, "qwen2").without("general.architecture")));
    assert_eq!(gone.0, "key `general.architecture`");
    let gone = refused(config(&model(3, "qwen2").without("token_embd.weight")));
    assert_eq!(gone.0, "tensor `token_embd.weight`");
    let tokens = V::Strs(vec![String::new(); 25]);
    let many = refused(config(&model(3, "qwen2").set("tokenizer.ggml.tokens", tokens)));
    assert_eq!(many.0, "tensor `token_embd.weight`");
}

#[test]
fn metadata_that_the_engine_cannot_obey_is_refused() {
    let edit = |suffix: &str, value: V| config(&model(3, "qwen3").set(&format!("qwen3.{suffix}"), value));
    assert_eq!(unsupported(config(&model(3, "llama"))), ("architecture", "llama".into()));
    for kind in ["yarn", "linear", "longrope", "no such thing"] {
        assert_eq!(unsupported(edit("rope.scaling.type", text(kind))), ("rope scaling", kind.into()));
    }
    edit("rope.scaling.type", text("none")).unwrap();
    assert_eq!(unsupported(edit("rope.scaling.factor", V::F32(4.0))).0, "rope scaling");
    assert_eq!(unsupported(edit("rope.scale_linear", V::F32(2.0))).0, "rope scaling");
    edit("rope.scaling.factor", V::F32(1.0)).unwrap();
    assert_eq!(unsupported(edit("rope.dimension_count", V::U32(8))).0, "partial rotation");
    edit("rope.dimension_count", V::U32(16)).unwrap();
    assert_eq!(unsupported(edit("attention.value_length", V::U32(32))).0, "value head dimension");
    assert_eq!(unsupported(edit("attention.sliding_window", V::U32(100))).0, "sliding window");
    edit("attention.sliding_window", V::U32(128)).unwrap();
    let bias = model(3, "qwen3").tensor("blk.0.attn_q.bias", BlockType::F32, &[64]);
    assert_eq!(unsupported(config(&bias)).0, "attention bias");
}

fn json(value: &Value) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, value.to_string()).unwrap();
    Config::from_json(&path)
}

/// The fields of Qwen3-30B-A3B's file that matter here, smaller.
fn qwen3_moe() -> Value {
    json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "decoder_sparse_step": 1,
        "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
        "max_position_embeddings": 4096, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": 32, "norm_topk_prob": true, "num_attention_heads": 4, "num_experts": 8,
        "num_experts_per_tok": 2, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "rope_scaling": null, "rope_theta": 10000000.0, "sliding_window": null, "tie_word_embeddings": false,
        "use_sliding_window": false, "vocab_size": 48
    })
}

#[test]
fn json_gives_the_dimensions() {
    let expected = Config {
        architecture: Architecture::Qwen3Moe,
        layers: 3,
        hidden: 64,
        heads: Heads { q: 4, kv: 2, dim: 32 },
        ffn: 96,
        vocab: 48,
        context: 4096,
        eps: 1e-6,
        rope_theta: 1e7,
        qkv_bias: false,
        qk_norm: true,
        moe: Some(Moe { experts: 8, top_k: 2, ffn: 32 }),
        tied: false,
        pooling: None,
        name: None,
    };
    assert_eq!(json(&qwen3_moe()).unwrap(), expected);
    let qwen2 = json!({
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
        "num_hidden_layers": 3, "max_position_embeddings": 4096, "vocab_size": 48, "tie_word_embeddings": true,
        "sliding_window": 131072, "use_sliding_window": false, "_name_or_path": "folder/name",
        "layer_types": ["full_attention", "full_attention", "full_attention"],
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}
    });
    let expected = Config {
        architecture: Architecture::Qwen2,
        heads: Heads { q: 4, kv: 4, dim: 16 },
        rope_theta: 1e6,
        qkv_bias: true,
        qk_norm: false,
        moe: None,
        tied: true,
        name: Some("folder/name".into()),
        ..expected
    };
    assert_eq!(json(&qwen2).unwrap(), expected);
}

#[test]
fn json_that_makes_no_sense_is_refused_by_name() {
    let edit = |field: &str, value: Value| {
        let mut config = qwen3_moe();
        config[field] = value;
        json(&config)
    };
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "vocab_size",
        "head_dim",
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
    ] {
        for value in
            [json!(0), json!(-1), json!(1u64 << 40), json!(u64::MAX), json!(2.5), json!("8"), json!([8])]
        {
            assert_eq!(refused(edit(field, value)).0, format!("field `{field}`"));
        }
    }
    assert_eq!(refused(edit("model_type", json!(null))).0, "field `model_type`");
    assert_eq!(refused(edit("num_key_value_heads", json!(3))).0, "heads");
    assert_eq!(refused(edit("head_dim", json!(31))).0, "heads");
    assert_eq!(refused(edit("num_experts_per_tok", json!(9))).0, "experts");
    assert_eq!(refused(edit("rms_norm_eps", json!(0))).0, "norm epsilon");
    assert_eq!(refused(edit("rope_theta", json!(-1))).0, "rope base");
    assert_eq!(refused(edit("rope_theta", json!("big"))).0, "field `rope_theta`");
    assert_eq!(refused(edit("rope_scaling", json!(1))).0, "field `rope_scaling`");
    assert_eq!(refused(json(&json!([1, 2]))).0, "the file");
}

#[test]
fn json_that_the_engine_cannot_obey_is_refused() {
    let cases = [
        ("model_type", json!("llama"), "architecture"),
        ("rope_scaling", json!({"type": "yarn", "factor": 4.0}), "rope scaling"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 4.0}), "rope scaling"),
        ("rope_parameters", json!({"rope_type": "yarn"}), "rope scaling"),
        ("rope_parameters", json!({"partial_rotary_factor": 0.5}), "partial rotation"),
        ("use_sliding_window", json!(true), "sliding window"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer type"),
        ("attention_bias", json!(true), "attention bias"),
        ("hidden_act", json!("gelu"), "activation"),
        ("decoder_sparse_step", json!(2), "decoder_sparse_step"),
        ("mlp_only_layers", json!([0]), "mlp_only_layers"),
        ("norm_topk_prob", json!(false), "norm_topk_prob"),
        ("norm_topk_prob", json!(null), "norm_topk_prob"),
        ("quantization_config", json!({"quant_method": "fp8"}), "quantization of a checkpoint"),
    ];
    for (field, value, what) in cases {
        let mut config = qwen3_moe();
        config[field] = value;
        assert_eq!(unsupported(json(&config)).0, what);
    }
}

#[test]
fn models_for_embeddings_say_how_they_pool() {
    let gguf = |number| config(&model(3, "qwen3").key("qwen3.pooling_type", V::U32(number)));
    for (number, expected) in [(0, None), (1, Some(Pooling::Mean)), (3, Some(Pooling::Last))] {
        assert_eq!(gguf(number).unwrap().pooling, expected);
    }
    assert!(unsupported(gguf(4)).0.starts_with("pooling"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, qwen3_moe().to_string()).unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let pooled = |modes: Value| {
        fs::write(folder.path().join("1_Pooling/config.json"), modes.to_string()).unwrap();
        Config::from_json(&path)
    };
    let modes = json!({ "word_embedding_dimension": 64, "pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true });
    assert_eq!(pooled(modes).unwrap().pooling, Some(Pooling::Last));
    assert_eq!(pooled(json!({ "pooling_mode_mean_tokens": true })).unwrap().pooling, Some(Pooling::Mean));
    assert!(unsupported(pooled(json!({ "pooling_mode_cls_token": true }))).0.starts_with("pooling"));
}
